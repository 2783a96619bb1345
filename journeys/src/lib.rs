//! Where is order 4711? Spans of any tracer → each order's journey, its store, its pages and its API.
//!
//! ```text
//! OTLP ──intake──▶ facts ──▶ store ◀── web, cli
//!                    │         │
//!                    └─ fold ──┴─ sentence        model: what the house says of its orders
//! ```
//!
//! | folder | owns | must not know |
//! |---|---|---|
//! | [`facts`] | what one span says about one order | journeys |
//! | [`fold`] | journeys as a pure function of a set of facts | clocks, stores, languages |
//! | [`model`] | names, stages, limits; what is usual | facts |
//! | [`rules`] | what a house is warned of, working time, an alert's life | how alerts are kept and told |
//! | [`channels`] | telling alerts: Alertmanager, webhooks, mail, chats | how alerts come to be |
//! | [`metrics`] | numbers for Prometheus, on a port of their own | orders one by one |
//! | [`intake`] | OTLP receivers, the writing thread | what facts mean |
//! | [`forward`] | what was taken, sent on to another back end | what spans mean |
//! | [`web`] | pages and the API | SQL, keys, passwords |
//! | [`connections`] | how many there are, and how long one may take | what is asked |
//! | [`access`] | who may see what, and who saw it | orders |
//! | [`store`] | where facts are kept, sealed, and found | HTTP, roles, pages |
//! | [`time`] | points and lengths of time | clocks |
//! | [`sentence`] | every word a person without technical knowledge reads about an order | HTML |
//!
//! The agent is not here and this is not in the agent: OTLP is all that they share.

#![forbid(unsafe_code)]

pub mod access;
pub mod channels;
pub mod cli;
pub mod connections;
pub mod facts;
pub mod fold;
pub mod forward;
pub mod intake;
pub mod metrics;
pub mod model;
pub mod rules;
pub mod sentence;
pub mod store;
pub mod time;
pub mod tls;
pub mod web;

mod digest;
mod networks;
mod private;

#[cfg(test)]
mod testing;
