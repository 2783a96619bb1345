//! Attribute names and values of OpenTelemetry semantic conventions v1.44.0, as far as spans of ours use them, and Spoor's own.
//!
//! *Spec*: `open-telemetry/semantic-conventions`, tag v1.44.0. Names that the generated crate has too are compared in a test.

/// Goes with every export: the version whose names are used.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

pub const ERROR_TYPE: &str = "error.type";
/// The fallback for values outside a well-known set.
pub const OTHER: &str = "_OTHER";

pub const CLIENT_ADDRESS: &str = "client.address";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
pub const NETWORK_PEER_PORT: &str = "network.peer.port";
pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
pub const NETWORK_TRANSPORT: &str = "network.transport";

pub const TLS_PROTOCOL_NAME: &str = "tls.protocol.name";
pub const TLS_PROTOCOL_VERSION: &str = "tls.protocol.version";
pub const TLS_CIPHER: &str = "tls.cipher";

pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub const HTTP_ROUTE: &str = "http.route";
pub const HTTP_REQUEST_BODY_SIZE: &str = "http.request.body.size";
pub const HTTP_RESPONSE_BODY_SIZE: &str = "http.response.body.size";
pub const URL_FULL: &str = "url.full";
pub const URL_PATH: &str = "url.path";
pub const URL_QUERY: &str = "url.query";
pub const URL_SCHEME: &str = "url.scheme";
pub const URL_TEMPLATE: &str = "url.template";
pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";

pub const MESSAGING_SYSTEM: &str = "messaging.system";
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
pub const MESSAGING_DESTINATION_TEMPLATE: &str = "messaging.destination.template";
pub const MESSAGING_DESTINATION_ANONYMOUS: &str = "messaging.destination.anonymous";
pub const MESSAGING_DESTINATION_TEMPORARY: &str = "messaging.destination.temporary";
pub const MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
pub const MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG: &str = "messaging.rabbitmq.message.delivery_tag";
pub const MESSAGING_BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
pub const MESSAGING_MESSAGE_CONVERSATION_ID: &str = "messaging.message.conversation_id";
pub const MESSAGING_MESSAGE_BODY_SIZE: &str = "messaging.message.body.size";
pub const RABBITMQ: &str = "rabbitmq";

pub const DB_SYSTEM_NAME: &str = "db.system.name";
pub const DB_NAMESPACE: &str = "db.namespace";
pub const DB_OPERATION_NAME: &str = "db.operation.name";
pub const DB_QUERY_TEXT: &str = "db.query.text";
pub const DB_QUERY_SUMMARY: &str = "db.query.summary";
pub const DB_RESPONSE_STATUS_CODE: &str = "db.response.status_code";
pub const DB_RESPONSE_RETURNED_ROWS: &str = "db.response.returned_rows";
pub const POSTGRESQL: &str = "postgresql";

pub const AWS_REQUEST_ID: &str = "aws.request_id";
pub const AWS_EXTENDED_REQUEST_ID: &str = "aws.extended_request_id";
pub const AWS_S3_BUCKET: &str = "aws.s3.bucket";
pub const AWS_S3_KEY: &str = "aws.s3.key";
pub const AWS_S3_COPY_SOURCE: &str = "aws.s3.copy_source";
pub const AWS_S3_PART_NUMBER: &str = "aws.s3.part_number";
pub const AWS_S3_UPLOAD_ID: &str = "aws.s3.upload_id";
pub const CLOUD_REGION: &str = "cloud.region";
pub const RPC_METHOD: &str = "rpc.method";
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
pub const RPC_METHOD_ORIGINAL: &str = "rpc.method_original";
pub const GRPC: &str = "grpc";
pub const JSONRPC: &str = "jsonrpc";
pub const XMLRPC: &str = "xmlrpc";
pub const SOAP: &str = "soap";
pub const JSONRPC_PROTOCOL_VERSION: &str = "jsonrpc.protocol.version";
pub const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
pub const GRAPHQL_OPERATION_NAME: &str = "graphql.operation.name";
pub const GRAPHQL_OPERATION_TYPE: &str = "graphql.operation.type";

/// The order's ID in canonical form, a string, on every span of an order.
pub const ORDER_ID: &str = "order.id";
/// The numbering system of `order.id`, when it is not `order`.
pub const ORDER_NAMESPACE: &str = "order.namespace";

/// Which rule found the parent.
pub const SPOOR_PARENT_RULE: &str = "spoor.parent.rule";
/// How sure it is, 0 to 1.
pub const SPOOR_PARENT_CONFIDENCE: &str = "spoor.parent.confidence";
/// Where the trace identifier comes from: `context`, `order`, `wire`.
pub const SPOOR_TRACE_RULE: &str = "spoor.trace.rule";
/// The identity of the operation that both ends of its connection compute, hexadecimal.
pub const SPOOR_WIRE_ID: &str = "spoor.wire.id";
/// The span is not the whole story: `gap` (bytes were not captured), `cut` (the connection ended), `open` (given up while open),
/// `start` (what it began with was not seen).
pub const SPOOR_INCOMPLETE: &str = "spoor.incomplete";
/// Bytes of the operation that were not captured.
pub const SPOOR_MISSING_BYTES: &str = "spoor.missing_bytes";
/// Attributes of which only the beginning is shown, by name; `name` and `status` stand for the span's own.
pub const SPOOR_TRUNCATED: &str = "spoor.truncated";
/// `server`: the span stands for a client that no agent sees.
pub const SPOOR_OBSERVED_FROM: &str = "spoor.observed_from";
/// `true`: nothing happened here; the link leads to the span that another agent looks for here.
pub const SPOOR_SIGNPOST: &str = "spoor.signpost";
/// Two recipients may disagree where the message ends.
pub const SPOOR_AMBIGUOUS_FRAMING: &str = "spoor.http.ambiguous_framing";
/// How an HTTP/2 stream was ended before its response was: an error code's name (RFC 9113, section 7), or `GOAWAY`.
pub const SPOOR_HTTP2_RESET: &str = "spoor.http2.reset";
/// Who ended it: `client`, `server`.
pub const SPOOR_HTTP2_RESET_BY: &str = "spoor.http2.reset_by";
/// Header fields that cannot be known, because they refer to bytes from before the connection was joined, or lost ones.
pub const SPOOR_HTTP2_UNKNOWN_FIELDS: &str = "spoor.http2.unknown_fields";
/// Messages of a gRPC call each way.
pub const SPOOR_RPC_REQUEST_MESSAGES: &str = "spoor.rpc.request.messages";
pub const SPOOR_RPC_RESPONSE_MESSAGES: &str = "spoor.rpc.response.messages";
/// Files in a multipart upload, and their bytes.
pub const SPOOR_UPLOAD_COUNT: &str = "spoor.upload.count";
pub const SPOOR_UPLOAD_SIZE: &str = "spoor.upload.size";
/// What became of a published message: `confirmed`, `unconfirmed`, `nacked`, `returned`, `committed`, `rolled_back`, `error`. Absent
/// where it cannot be known.
pub const SPOOR_MESSAGING_OUTCOME: &str = "spoor.messaging.outcome";
/// Of a message that lies in a queue: its name, how many take from it, and how many messages it has at least.
pub const SPOOR_MESSAGE_QUEUE: &str = "spoor.message.queue";
pub const SPOOR_MESSAGE_CONSUMERS: &str = "spoor.message.consumers";
pub const SPOOR_MESSAGE_DEPTH: &str = "spoor.message.depth";
/// How a delivery was settled: `ack`, `nack`, `reject`, `auto` (no acknowledgement asked for), `none`.
pub const SPOOR_MESSAGING_SETTLEMENT: &str = "spoor.messaging.settlement";
/// A refused message goes back to its queue.
pub const SPOOR_MESSAGING_REQUEUE: &str = "spoor.messaging.requeue";
pub const SPOOR_MESSAGING_REDELIVERED: &str = "spoor.messaging.redelivered";
/// How a message came by a dead-letter exchange: the queue it died in last, why (`rejected`, `expired`, `maxlen`,
/// `delivery_limit`), and how often so far.
pub const SPOOR_MESSAGING_DEATH_QUEUE: &str = "spoor.messaging.death.queue";
pub const SPOOR_MESSAGING_DEATH_REASON: &str = "spoor.messaging.death.reason";
pub const SPOOR_MESSAGING_DEATH_COUNT: &str = "spoor.messaging.death.count";
pub const SPOOR_MESSAGING_CONSUMER_TAG: &str = "spoor.messaging.consumer_tag";
/// Why the broker took no publishes of a connection.
pub const SPOOR_MESSAGING_BLOCKED_REASON: &str = "spoor.messaging.blocked.reason";
/// The task that a message of Celery asks for.
pub const SPOOR_MESSAGING_TASK: &str = "spoor.messaging.task";
pub const SPOOR_MESSAGING_VHOST: &str = "spoor.messaging.vhost";
/// The span starts at the delivery, which may have waited in the consumer's prefetch buffer.
pub const SPOOR_MESSAGING_PREFETCHED: &str = "spoor.messaging.prefetched";
/// Rows that INSERT, UPDATE, DELETE, MERGE or COPY changed.
pub const SPOOR_DB_AFFECTED_ROWS: &str = "spoor.db.affected_rows";
/// Transaction block on its connection, from 1.
pub const SPOOR_DB_TRANSACTION: &str = "spoor.db.transaction";
pub const SPOOR_DB_TRANSACTION_ID: &str = "spoor.db.transaction.id";
/// What became of the transaction block that the statement ran in: `committed`, `rolled_back`, `unknown` (its end was asked for, and
/// the answer not seen; or it is decided later, by another session). Absent where its end was not seen by the time the span left.
pub const SPOOR_DB_TRANSACTION_OUTCOME: &str = "spoor.db.transaction.outcome";
/// The server never ran it: an earlier statement of its batch failed.
pub const SPOOR_DB_SKIPPED: &str = "spoor.db.skipped";
/// `true`: the statement's text goes on; what is shown ends with `…`.
pub const SPOOR_DB_TEXT_CUT: &str = "spoor.db.text_cut";
/// `true`: it was prepared before the agent saw its connection, and nothing tells its text.
pub const SPOOR_DB_TEXT_UNKNOWN: &str = "spoor.db.text_unknown";
/// Table, column and constraint that an error names.
pub const SPOOR_DB_ERROR_TABLE: &str = "spoor.db.error.table";
pub const SPOOR_DB_ERROR_COLUMN: &str = "spoor.db.error.column";
pub const SPOOR_DB_ERROR_CONSTRAINT: &str = "spoor.db.error.constraint";
/// Bytes moved by COPY.
pub const SPOOR_DB_COPY_SIZE: &str = "spoor.db.copy_size";

#[cfg(test)]
mod tests {
    use opentelemetry_semantic_conventions::attribute as generated;

    use super::*;

    #[test]
    fn names_are_those_of_the_generated_crate() {
        for (ours, theirs) in [
            (ERROR_TYPE, generated::ERROR_TYPE),
            (CLIENT_ADDRESS, generated::CLIENT_ADDRESS),
            (SERVER_ADDRESS, generated::SERVER_ADDRESS),
            (SERVER_PORT, generated::SERVER_PORT),
            (NETWORK_PEER_ADDRESS, generated::NETWORK_PEER_ADDRESS),
            (NETWORK_PEER_PORT, generated::NETWORK_PEER_PORT),
            (NETWORK_PROTOCOL_NAME, generated::NETWORK_PROTOCOL_NAME),
            (NETWORK_PROTOCOL_VERSION, generated::NETWORK_PROTOCOL_VERSION),
            (NETWORK_TRANSPORT, generated::NETWORK_TRANSPORT),
            (HTTP_REQUEST_METHOD, generated::HTTP_REQUEST_METHOD),
            (HTTP_REQUEST_METHOD_ORIGINAL, generated::HTTP_REQUEST_METHOD_ORIGINAL),
            (HTTP_RESPONSE_STATUS_CODE, generated::HTTP_RESPONSE_STATUS_CODE),
            (HTTP_ROUTE, generated::HTTP_ROUTE),
            (HTTP_REQUEST_BODY_SIZE, generated::HTTP_REQUEST_BODY_SIZE),
            (HTTP_RESPONSE_BODY_SIZE, generated::HTTP_RESPONSE_BODY_SIZE),
            (URL_FULL, generated::URL_FULL),
            (URL_PATH, generated::URL_PATH),
            (URL_QUERY, generated::URL_QUERY),
            (URL_SCHEME, generated::URL_SCHEME),
            (URL_TEMPLATE, generated::URL_TEMPLATE),
            (USER_AGENT_ORIGINAL, generated::USER_AGENT_ORIGINAL),
            (MESSAGING_SYSTEM, generated::MESSAGING_SYSTEM),
            (MESSAGING_OPERATION_NAME, generated::MESSAGING_OPERATION_NAME),
            (MESSAGING_OPERATION_TYPE, generated::MESSAGING_OPERATION_TYPE),
            (MESSAGING_DESTINATION_NAME, generated::MESSAGING_DESTINATION_NAME),
            (MESSAGING_DESTINATION_TEMPLATE, generated::MESSAGING_DESTINATION_TEMPLATE),
            (MESSAGING_DESTINATION_ANONYMOUS, generated::MESSAGING_DESTINATION_ANONYMOUS),
            (MESSAGING_DESTINATION_TEMPORARY, generated::MESSAGING_DESTINATION_TEMPORARY),
            (
                MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
                generated::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
            ),
            (MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, generated::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG),
            (MESSAGING_BATCH_MESSAGE_COUNT, generated::MESSAGING_BATCH_MESSAGE_COUNT),
            (MESSAGING_MESSAGE_ID, generated::MESSAGING_MESSAGE_ID),
            (MESSAGING_MESSAGE_CONVERSATION_ID, generated::MESSAGING_MESSAGE_CONVERSATION_ID),
            (MESSAGING_MESSAGE_BODY_SIZE, generated::MESSAGING_MESSAGE_BODY_SIZE),
            (DB_SYSTEM_NAME, generated::DB_SYSTEM_NAME),
            (DB_NAMESPACE, generated::DB_NAMESPACE),
            (DB_OPERATION_NAME, generated::DB_OPERATION_NAME),
            (DB_QUERY_TEXT, generated::DB_QUERY_TEXT),
            (DB_QUERY_SUMMARY, generated::DB_QUERY_SUMMARY),
            (DB_RESPONSE_STATUS_CODE, generated::DB_RESPONSE_STATUS_CODE),
            (DB_RESPONSE_RETURNED_ROWS, generated::DB_RESPONSE_RETURNED_ROWS),
            (AWS_REQUEST_ID, generated::AWS_REQUEST_ID),
            (AWS_EXTENDED_REQUEST_ID, generated::AWS_EXTENDED_REQUEST_ID),
            (AWS_S3_BUCKET, generated::AWS_S3_BUCKET),
            (AWS_S3_KEY, generated::AWS_S3_KEY),
            (AWS_S3_COPY_SOURCE, generated::AWS_S3_COPY_SOURCE),
            (AWS_S3_PART_NUMBER, generated::AWS_S3_PART_NUMBER),
            (AWS_S3_UPLOAD_ID, generated::AWS_S3_UPLOAD_ID),
            (CLOUD_REGION, generated::CLOUD_REGION),
            (RPC_METHOD, generated::RPC_METHOD),
            (RPC_RESPONSE_STATUS_CODE, generated::RPC_RESPONSE_STATUS_CODE),
            (RPC_SYSTEM_NAME, generated::RPC_SYSTEM_NAME),
            (RPC_METHOD_ORIGINAL, generated::RPC_METHOD_ORIGINAL),
            (JSONRPC_PROTOCOL_VERSION, generated::JSONRPC_PROTOCOL_VERSION),
            (JSONRPC_REQUEST_ID, generated::JSONRPC_REQUEST_ID),
            (GRAPHQL_OPERATION_NAME, generated::GRAPHQL_OPERATION_NAME),
            (GRAPHQL_OPERATION_TYPE, generated::GRAPHQL_OPERATION_TYPE),
        ] {
            assert_eq!(ours, theirs);
        }
    }
}
