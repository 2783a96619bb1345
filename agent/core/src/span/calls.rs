//! A call that an HTTP exchange carries → its part of the span: JSON-RPC, XML-RPC, SOAP, GraphQL.
//!
//! *Owns* their names, statuses and attributes. *Must not know* HTTP's; the exchange's own attributes stay.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "JSON-RPC", "RPC spans" and "GraphQL server spans". XML-RPC and SOAP have
//! none of their own: they are named as other calls are.

use super::build::Draft;
use crate::order::Call;
use crate::span::{Status, semconv};

/// "The method does not exist" (JSON-RPC 2.0, section 5.1): whatever the client wrote, it is no method.
const NO_METHOD: &str = "-32601";

pub(super) fn describe(call: &Call, draft: &mut Draft) {
    match call {
        Call::JsonRpc { method, version, id, error } => {
            method_call(semconv::JSONRPC, method, error.as_deref(), draft);
            let attributes = &mut draft.attributes;
            if let Some(version) = version {
                attributes.set(semconv::JSONRPC_PROTOCOL_VERSION, version.as_str());
            }
            if let Some(id) = id {
                attributes.set(semconv::JSONRPC_REQUEST_ID, id.as_str());
            }
        }
        Call::XmlRpc { method, fault } => method_call(semconv::XMLRPC, method, fault.as_deref(), draft),
        Call::Soap { method, failed } => {
            method_call(semconv::SOAP, method, None, draft);
            if *failed && draft.status == Status::Unset {
                draft.error("fault", String::new());
            }
        }
        Call::GraphQl { kind, name, shown } => {
            let attributes = &mut draft.attributes;
            if let Some(kind) = kind {
                attributes.set(semconv::GRAPHQL_OPERATION_TYPE, *kind);
            }
            if let Some(name) = name {
                attributes.set(semconv::GRAPHQL_OPERATION_NAME, name.as_str());
            }
            // "SHOULD be `{graphql.operation.type}`", else `GraphQL Operation`; the operation's name is the client's.
            draft.name = match (kind, name.as_ref().filter(|_| *shown)) {
                (Some(kind), Some(name)) => format!("{kind} {name}"),
                (Some(kind), None) => (*kind).to_owned(),
                (None, Some(name)) => name.clone(),
                (None, None) => "GraphQL Operation".to_owned(),
            };
        }
    }
}

/// The name is the method; where the server knows none of this name, the system (section "Name").
fn method_call(system: &'static str, method: &str, error: Option<&str>, draft: &mut Draft) {
    let attributes = &mut draft.attributes;
    attributes.set(semconv::RPC_SYSTEM_NAME, system);
    if error == Some(NO_METHOD) {
        attributes.set(semconv::RPC_METHOD, semconv::OTHER);
        attributes.set(semconv::RPC_METHOD_ORIGINAL, method);
        draft.name = system.to_owned();
    } else {
        attributes.set(semconv::RPC_METHOD, method);
        draft.name = method.to_owned();
    }
    // "All JSON RPC error codes SHOULD be considered errors."
    if let Some(code) = error {
        draft.attributes.set(semconv::RPC_RESPONSE_STATUS_CODE, code);
        draft.error(code, String::new());
    }
}
