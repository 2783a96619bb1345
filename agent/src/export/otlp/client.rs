//! One of the three ways of OTLP behind one door.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::answer::Answer;
use super::grpc::GrpcClient;
use super::http::HttpClient;
use super::target::Target;
use crate::config::OtlpProtocol;

/// Product and exporter (opentelemetry-proto, "User Agent").
pub(crate) const USER_AGENT: &str = concat!("spoor/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust");

/// Sends requests to one target. Must live inside a tokio runtime.
#[derive(Debug)]
pub struct Client {
    way: Way,
    host: String,
    port: u16,
}

#[derive(Debug)]
enum Way {
    Grpc(GrpcClient),
    Http(Box<HttpClient>),
}

impl Client {
    pub fn new(target: Target) -> Result<Self, tonic::transport::Error> {
        let (host, port) = target.authority();
        let way = match target.protocol {
            OtlpProtocol::Grpc => Way::Grpc(GrpcClient::new(&target)?),
            OtlpProtocol::HttpProtobuf | OtlpProtocol::HttpJson => {
                Way::Http(Box::new(HttpClient::new(target)))
            }
        };
        Ok(Self { way, host, port })
    }

    /// Sends an encoded `ExportTraceServiceRequest`, or one of its target's signal.
    pub async fn send(&mut self, payload: Bytes) -> Answer {
        match &mut self.way {
            Way::Grpc(client) => client.send(payload).await,
            Way::Http(client) => client.send(payload).await,
        }
    }

    /// What time it was at the back end when it last answered, to the second, if it said so.
    pub fn clock(&self) -> Option<SystemTime> {
        match &self.way {
            Way::Grpc(client) => client.clock,
            Way::Http(client) => client.clock,
        }
    }

    /// Why nothing listens at the target, when nothing does.
    pub async fn probe(&self) -> Result<(), String> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        match tokio::time::timeout(std::time::Duration::from_secs(3), connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer within 3 s".to_owned()),
        }
    }
}
