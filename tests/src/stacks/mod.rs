//! Stacks of the field (servers, frameworks, drivers, proxies) → what the agent makes of a known load: `cargo xtask stacks`.
//!
//! ```text
//!   client ─HTTP─▶ stack: proxy, framework, driver, pool ─▶ PostgreSQL, RabbitMQ     agent beside them
//!     │                                                        │ log                    │ OTLP
//!     └─── what was asked ───▶ judge ◀──── what was done ──────┘           sink ◀───────┘
//! ```
//!
//! Each stack is real software with a small application of ours. The client makes orders and knows what each of its requests
//! must lead to; every operation has a nonce, which the agent lifts as an attribute and no rule of the joiner looks at. That
//! the statements were really executed is PostgreSQL's own word.
//!
//! *Owns* the stacks, their load and the verdict. *Must not know* how the agent works.

mod catalog;
pub mod drive;
pub mod judge;
pub mod report;
pub mod run;
pub mod stack;
