//! OTLP over gRPC → facts and an answer.
//!
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "OTLP/gRPC": `UNAVAILABLE` asks the sender to repeat.

use axum::Router;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::{Intake, MAX_REQUEST_LEN};

/// The routes of the receiver.
pub fn router(intake: Intake) -> Router {
    let traces = TraceServiceServer::new(Receiver(intake.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_LEN);
    let logs = LogsServiceServer::new(Receiver(intake))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_LEN);
    Routes::new(traces).add_service(logs).prepare().into_axum_router()
}

#[derive(Debug)]
struct Receiver(Intake);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        match self.0.take(request.into_inner()).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(unavailable) => Err(Status::unavailable(unavailable.0)),
        }
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        match self.0.take_logs(request.into_inner()).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(unavailable) => Err(Status::unavailable(unavailable.0)),
        }
    }
}
