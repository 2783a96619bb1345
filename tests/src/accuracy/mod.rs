//! How many causes the agent finds in programs of every kind, by the programs' own logs: `cargo xtask accuracy`.
//!
//! ```text
//!   plan ─files─▶ service (one of the runtimes) ─▶ backend, PostgreSQL, RabbitMQ
//!    │              ▲  │ log                              agent beside them
//!    ▼              │  ▼                                     │ spans
//!   driver ─────────┘  truth ────────────▶ judge ◀───────────┘ ─▶ report
//! ```
//!
//! A plan says what a service does for one request. Each operation has a nonce that rides where no rule of the joiner
//! looks; by it a span is known for what it is. The service's log says which operation was done for which request.
//!
//! *Owns* the services, their load and the verdict. *Must not know* how the agent works.

pub mod backend;
pub mod driver;
pub mod judge;
pub mod plan;
pub mod report;
pub mod run;
pub mod runtime;
pub mod tokio_service;
