//! Proof from outside: what the test suites, the benchmarks, the fuzzer and the demo share.
//!
//! *Owns* the servers and services under observation, the receivers of spans, and the comparison with what the services
//! themselves logged. *Must not know* how the agent works where it is used as a program ([`agent`], [`spoor`]).
//!
//! | what | modules |
//! |---|---|
//! | the agent and the orders' server as a user runs them | [`agent`], [`spoor`], [`serve`] |
//! | the order flow of shop, CRM, MES and store, and who orders there | [`flow`], [`peers`], [`customers`], under TLS with [`authority`] |
//! | how many causes are found in programs of every kind | [`accuracy`] |
//! | the same in software of the field: servers, frameworks, drivers, proxies | [`stacks`] |
//! | what happened by the services' own logs, and whether the traces agree | [`truth`] |
//! | spans received, and their trees | [`sink`], [`forest`]; counted only: [`receiver`]; sent by an exporter alone: [`exporting`] |
//! | the live kernel | [`kernel`] |
//! | recorded traffic | [`recorded`], [`captures`], [`transcript`], [`scenes`]; through the core: [`whole_core`] |
//! | what spans have to be, by a file | [`expectation`] |
//! | foreign bytes | [`fuzz`] |
//! | two network namespaces with address translation | [`netns`] |
//! | CPU time and memory of a benchmark or test | [`measure`] |
//! | tests that cannot run here, and the programs some need | [`skip`], [`tools`] |

#![forbid(unsafe_code)]

pub mod accuracy;
pub mod agent;
pub mod authority;
pub mod captures;
pub mod customers;
pub mod drill;
pub mod expectation;
pub mod exporting;
pub mod flow;
pub mod forest;
pub mod fuzz;
pub mod kernel;
pub mod measure;
pub mod netns;
pub mod peers;
pub mod printed;
pub mod receiver;
pub mod recorded;
pub mod scenes;
pub mod serve;
pub mod sink;
pub mod skip;
pub mod spoor;
pub mod stacks;
pub mod tools;
pub mod transcript;
pub mod truth;
pub mod whole_core;
