//! Encoded trace requests in, delivered over OTLP/gRPC, OTLP/HTTP protobuf or OTLP/HTTP JSON.
//!
//! *Owns* one connection to one back end, what its answers mean, and when to try again.
//! *Must not know* queues. *Spec*: opentelemetry-proto v1.11 `docs/specification.md`.

pub mod answer;
pub mod client;
pub mod durations;
pub mod encode;
pub mod grpc;
pub mod http;
mod protobuf;
pub mod retry;
pub(super) mod split;
pub mod target;
pub mod tls;

pub use answer::Answer;
pub use client::Client;
pub use target::Target;
