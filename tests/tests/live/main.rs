//! The live kernel, real servers, real programs → what the agent says of them, against what they say themselves.
//!
//! Tests here load the agent into this machine's kernel and need root; most start servers, too. Each says itself what it
//! lacks and is skipped then.
//!
//! One program, so that the agent is linked once, but not one process: `cargo xtask test` starts it once a module, with
//! one test at a time.
//!
//! - *One module a process*: `capture` loads probes into its own process and keeps them until that ends; they would see,
//!   and slow, what the agents of the other modules are asked about. The agent leaves out the sockets of the process it
//!   is in, so that nothing else may be tested there.
//! - *Several tests of a module in one process*: `reference_flow` looks at one run from several sides, and `capture` loads
//!   once for all its scenarios.
//! - *One test at a time*: all of them share one kernel, its sockets and its processors. The bounds of one (what a flood
//!   costs its neighbours, what is lost) would be broken by the load of another.
//!
//! The guests of `cargo xtask vm` run `capture` only: it needs nothing but a kernel and the trap program.

mod accuracy;
mod attack;
mod broker;
mod capture;
mod failures;
mod http2;
mod image;
mod operator;
mod reference_flow;
mod short_tls;
mod stacks;
mod tls;
mod upgrade;
