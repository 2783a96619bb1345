//! A request that is too large for the back end → two requests of half its spans each.
//!
//! *Owns* that no span is lost, doubled or moved to another resource. Pure.
//! *Spec*: opentelemetry-proto v1.11 `trace.proto`; HTTP 413 (RFC 9110, section 15.5.14); gRPC `RESOURCE_EXHAUSTED` without
//! `RetryInfo` ("OTLP/gRPC Throttling": not to be sent again as it is).

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::export::queue::Batch;

/// Both halves, in the order of the spans. `None`: it has a single span, or is no request.
pub(in crate::export) fn halves(batch: &Batch) -> Option<[Batch; 2]> {
    let mut first = ExportTraceServiceRequest::decode(batch.payload.clone()).ok()?;
    let spans = |request: &ExportTraceServiceRequest| {
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum::<usize>()
    };
    let mut left = spans(&first) / 2;
    if left == 0 {
        return None;
    }
    let mut second = first.clone();
    for (kept, moved) in first.resource_spans.iter_mut().zip(&mut second.resource_spans) {
        for (kept, moved) in kept.scope_spans.iter_mut().zip(&mut moved.scope_spans) {
            let here = left.min(kept.spans.len());
            left -= here;
            kept.spans.truncate(here);
            moved.spans.drain(..here);
        }
    }
    Some([first, second].map(|mut request| {
        request.resource_spans.iter_mut().for_each(|resource| {
            resource.scope_spans.retain(|scope| !scope.spans.is_empty());
        });
        request.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
        let span_count = u32::try_from(spans(&request)).unwrap_or(u32::MAX);
        Batch { payload: request.encode_to_vec().into(), span_count, ..Batch::default() }
    }))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    use super::*;

    fn batch(services: &[u32]) -> Batch {
        let mut number = 0;
        let mut span = || {
            number += 1;
            Span { name: format!("span {number}"), ..Span::default() }
        };
        let resource = |service: usize, spans: u32, span: &mut dyn FnMut() -> Span| ResourceSpans {
            resource: Some(Resource {
                attributes: vec![KeyValue { key: format!("service {service}"), ..KeyValue::default() }],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope { name: "spoor".to_owned(), ..Default::default() }),
                spans: (0..spans).map(|_| span()).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        let resource_spans =
            services.iter().enumerate().map(|(at, spans)| resource(at, *spans, &mut span)).collect();
        let request = ExportTraceServiceRequest { resource_spans };
        let span_count = services.iter().sum();
        Batch { payload: request.encode_to_vec().into(), span_count, ..Batch::default() }
    }

    /// Service and name of every span.
    fn spans(batch: &Batch) -> Vec<(String, String)> {
        let request = ExportTraceServiceRequest::decode(batch.payload.clone()).unwrap();
        let mut all = Vec::new();
        for resource in request.resource_spans {
            let service = resource.resource.unwrap().attributes[0].key.clone();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                all.push((service.clone(), span.name));
            }
        }
        assert_eq!(all.len(), batch.span_count as usize);
        all
    }

    #[test]
    fn halves_hold_every_span_once_with_its_resource() {
        for services in [&[2][..], &[1, 1], &[3], &[5, 0, 2, 1], &[0, 0, 9], &[100, 1]] {
            let whole = batch(services);
            let [first, second] = halves(&whole).unwrap();
            assert!(first.span_count.abs_diff(second.span_count) <= 1, "{services:?}");
            assert_eq!([spans(&first), spans(&second)].concat(), spans(&whole), "{services:?}");
        }
    }

    #[test]
    fn what_cannot_be_halved_is_left() {
        assert_eq!(halves(&batch(&[1])), None);
        assert_eq!(halves(&batch(&[])), None);
        let garbage = Batch { payload: b"\xff\xff".as_slice().into(), span_count: 7, ..Batch::default() };
        assert_eq!(halves(&garbage), None);
    }
}
