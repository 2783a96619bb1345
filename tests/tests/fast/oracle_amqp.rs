//! Our AMQP session against amq-protocol, another implementation, on the same bytes: messages it writes are read as they
//! were meant, and the captures' frames say the same to both.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};
use amq_protocol::protocol::basic::{AMQPMethod, AMQPProperties, Deliver, Publish};
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use proptest::prelude::*;
use spoor_core::operation::amqp::{ActionKind, Content, Properties, Value};
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::amqp::AmqpSession;
use spoor_core::protocol::{End, Event, Events, Session};
use spoor_core::record::{Mark, Role, Sender};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::captures;
use spoor_tests::recorded::fixtures;

fn bytes(frame: &AMQPFrame) -> Vec<u8> {
    let written = gen_frame(frame)(Vec::new().into()).unwrap_or_else(|error| panic!("{frame:?}: {error:?}"));
    written.into_inner().0
}

/// A field value as we would have it.
fn value(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(it) => Value::Bool(*it),
        AMQPValue::ShortShortInt(it) => Value::Int(i64::from(*it)),
        AMQPValue::ShortShortUInt(it) => Value::Uint(u64::from(*it)),
        AMQPValue::ShortInt(it) => Value::Int(i64::from(*it)),
        AMQPValue::ShortUInt(it) => Value::Uint(u64::from(*it)),
        AMQPValue::LongInt(it) => Value::Int(i64::from(*it)),
        AMQPValue::LongUInt(it) => Value::Uint(u64::from(*it)),
        AMQPValue::LongLongInt(it) => Value::Int(*it),
        AMQPValue::Float(it) => Value::Float(f64::from(*it)),
        AMQPValue::Double(it) => Value::Float(*it),
        AMQPValue::DecimalValue(it) => Value::Decimal { scale: it.scale, value: it.value as i32 },
        AMQPValue::ShortString(it) => Value::Text(it.as_str().as_bytes().to_vec()),
        AMQPValue::LongString(it) => Value::Text(it.as_bytes().to_vec()),
        AMQPValue::FieldArray(it) => Value::Array(it.as_slice().iter().map(self::value).collect()),
        AMQPValue::Timestamp(it) => Value::Timestamp(*it),
        AMQPValue::FieldTable(it) => Value::Table(table(it)),
        AMQPValue::ByteArray(it) => Value::Bytes(it.as_slice().to_vec()),
        AMQPValue::Void => Value::Void,
    }
}

fn table(table: &FieldTable) -> Vec<(String, Value)> {
    table.inner().iter().map(|(name, it)| (name.to_string(), value(it))).collect()
}

/// Properties as we would have them.
fn properties(p: &AMQPProperties) -> Properties {
    let text = |it: &Option<amq_protocol::types::ShortString>| it.as_ref().map(ToString::to_string);
    Properties {
        content_type: text(p.content_type()),
        content_encoding: text(p.content_encoding()),
        headers: p.headers().as_ref().map(table).unwrap_or_default(),
        delivery_mode: *p.delivery_mode(),
        priority: *p.priority(),
        correlation_id: text(p.correlation_id()),
        reply_to: text(p.reply_to()),
        expiration: text(p.expiration()),
        message_id: text(p.message_id()),
        timestamp: *p.timestamp(),
        kind: text(p.kind()),
        user_id: text(p.user_id()),
        app_id: text(p.app_id()),
        cluster_id: text(p.cluster_id()),
    }
}

fn sorted(mut properties: Properties) -> Properties {
    properties.headers.sort_by(|a, b| a.0.cmp(&b.0));
    properties
}

/// Values whose type octet means the same to both. amq-protocol writes an unsigned 16-bit integer as `u` and a signed one as
/// `U`, which RabbitMQ's errata leave out; both are read.
fn any_value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        (-1e6f32..1e6).prop_map(AMQPValue::Float),
        (-1e9f64..1e9).prop_map(AMQPValue::Double),
        (0u8..9, 0u32..1_000_000)
            .prop_map(|(scale, value)| { AMQPValue::DecimalValue(DecimalValue { scale, value }) }),
        "[a-zäö ]{0,40}".prop_map(|text| AMQPValue::LongString(text.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
            fields(inner).prop_map(AMQPValue::FieldTable),
        ]
    })
}

fn fields(values: impl Strategy<Value = AMQPValue>) -> impl Strategy<Value = FieldTable> {
    prop::collection::btree_map("[a-z-]{1,12}", values, 0..5).prop_map(|fields| {
        let mut table = FieldTable::default();
        for (name, value) in fields {
            table.insert(name.into(), value);
        }
        table
    })
}

fn any_properties() -> impl Strategy<Value = AMQPProperties> {
    let short = || prop::option::of("[ -~]{0,30}");
    let first =
        (short(), short(), prop::option::of(fields(any_value())), any::<Option<u8>>(), any::<Option<u8>>());
    let second = (short(), short(), short(), short(), any::<Option<u64>>());
    let third = (short(), short(), short(), short());
    (first, second, third).prop_map(|(first, second, third)| {
        let mut p = AMQPProperties::default();
        let set =
            |p: AMQPProperties,
             it: Option<String>,
             with: fn(AMQPProperties, amq_protocol::types::ShortString) -> AMQPProperties| {
                match it {
                    Some(it) => with(p, it.into()),
                    None => p,
                }
            };
        p = set(p, first.0, AMQPProperties::with_content_type);
        p = set(p, first.1, AMQPProperties::with_content_encoding);
        if let Some(headers) = first.2 {
            p = p.with_headers(headers);
        }
        if let Some(mode) = first.3 {
            p = p.with_delivery_mode(mode);
        }
        if let Some(priority) = first.4 {
            p = p.with_priority(priority);
        }
        p = set(p, second.0, AMQPProperties::with_correlation_id);
        p = set(p, second.1, AMQPProperties::with_reply_to);
        p = set(p, second.2, AMQPProperties::with_expiration);
        p = set(p, second.3, AMQPProperties::with_message_id);
        if let Some(timestamp) = second.4 {
            p = p.with_timestamp(timestamp);
        }
        p = set(p, third.0, AMQPProperties::with_type);
        p = set(p, third.1, AMQPProperties::with_user_id);
        p = set(p, third.2, AMQPProperties::with_app_id);
        set(p, third.3, AMQPProperties::with_cluster_id)
    })
}

/// Header and body of a message, the body in frames of `chunk` bytes.
fn content(channel: u16, p: &AMQPProperties, body: &[u8], chunk: usize) -> Vec<u8> {
    let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties: p.clone() };
    let mut all = bytes(&AMQPFrame::Header(channel, 60, Box::new(header)));
    for part in body.chunks(chunk) {
        all.extend(bytes(&AMQPFrame::Body(channel, part.to_vec())));
    }
    all
}

fn kind(operation: &Operation) -> &ActionKind {
    match &operation.detail {
        Detail::Amqp(action) => &action.kind,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn messages_it_writes_are_read_as_meant(
        channel in 1u16..2000,
        exchange in "[a-z.]{0,20}",
        routing_key in "[a-zä.#*]{0,40}",
        mandatory in any::<bool>(),
        p in any_properties(),
        body in prop::collection::vec(any::<u8>(), 0..3000),
        chunk in 1usize..1500,
        piece in 1usize..4000,
        tag in 1u64..u64::MAX,
        redelivered in any::<bool>(),
    ) {
        let publish = Publish {
            exchange: exchange.clone().into(), routing_key: routing_key.clone().into(), mandatory, immediate: false,
        };
        let publish = AMQPFrame::Method(channel, AMQPClass::Basic(AMQPMethod::Publish(publish)));
        let deliver = Deliver {
            consumer_tag: "worker".into(), delivery_tag: tag, redelivered,
            exchange: exchange.clone().into(), routing_key: routing_key.clone().into(),
        };
        let deliver = AMQPFrame::Method(channel, AMQPClass::Basic(AMQPMethod::Deliver(deliver)));
        let ack = basic::Ack { delivery_tag: tag, multiple: false };
        let ack = AMQPFrame::Method(channel, AMQPClass::Basic(AMQPMethod::Ack(ack)));
        let message = content(channel, &p, &body, chunk);
        let sent = [
            (Sender::Client, b"AMQP\0\0\x09\x01".to_vec()),
            (Sender::Client, [bytes(&publish), message.clone()].concat()),
            (Sender::Server, [bytes(&deliver), message].concat()),
            (Sender::Client, bytes(&ack)),
        ];
        let mut operations = captures::closed(AmqpSession::new(Role::Client, &Protocols::default()), &sent, piece);
        // A mandatory publish may still be returned: it is over later.
        operations.sort_by_key(|operation| operation.id);
        let [one, two, settle] = operations.as_slice() else { panic!("{operations:?}") };
        let (ActionKind::Publish(one), ActionKind::Deliver(two)) = (kind(one), kind(two)) else { panic!("{operations:?}") };
        prop_assert!(matches!(kind(settle), ActionKind::Settle(settle) if settle.delivery_tag == tag));
        prop_assert_eq!((&one.exchange, &one.routing_key, one.mandatory), (&exchange, &routing_key, mandatory));
        prop_assert_eq!((&two.exchange, &two.routing_key), (&exchange, &routing_key));
        prop_assert_eq!((two.delivery_tag, two.redelivered, two.consumer_tag.as_str()), (tag, redelivered, "worker"));
        for found in [&one.content, &two.content] {
            prop_assert_eq!(sorted(found.properties.clone()), sorted(properties(&p)));
            prop_assert_eq!(&found.body.bytes, &body);
            prop_assert_eq!(found.body.len, body.len() as u64);
        }
    }

    /// Between messages it wrote, anything: what is called complete is one of them, in their order, and the one before is
    /// never missed.
    #[test]
    fn anything_between_messages_invents_none(noise in prop::collection::vec(any::<u8>(), 0..60)) {
        let publish = |id: &str| {
            let method = Publish { exchange: "a".into(), routing_key: "b".into(), ..Publish::default() };
            let method = AMQPFrame::Method(1, AMQPClass::Basic(AMQPMethod::Publish(method)));
            let p = AMQPProperties::default().with_message_id(id.into());
            [bytes(&method), content(1, &p, b"body", 100)].concat()
        };
        let mut session = AmqpSession::new(Role::Client, &Protocols::default());
        let (mut out, mut pos) = (Events::default(), 0);
        // Each of them is a record of its own, as clients write them.
        for part in [b"AMQP\0\0\x09\x01".to_vec(), publish("before"), noise, publish("a"), publish("b"), publish("c")] {
            session.bytes(Sender::Client, pos, &part, Mark { at: BootTime::from_nanos(1), ..Mark::default() }, &mut out);
            pos += part.len() as u64;
        }
        session.end(End::Closed, BootTime::from_nanos(2), &mut out);
        let mut found = Vec::new();
        while let Some(event) = out.pop() {
            if let Event::Closed(operation) = event
                && operation.completeness == Completeness::Complete
                && let ActionKind::Publish(publish) = kind(&operation)
            {
                found.extend(publish.content.properties.message_id.clone());
            }
        }
        prop_assert_eq!(found.first().map(String::as_str), Some("before"));
let mut sent = ["before", "a", "b", "c"].iter();
        prop_assert!(found.iter().all(|id| sent.any(|sent| sent == id)), "{:?}", found);
    }
}

/// Address, identifier and length of each message, in the order of their methods.
type Messages = Vec<(String, String, u64)>;

fn messages_by_amq_protocol(stream: &[u8]) -> Messages {
    let mut rest = stream;
    let (mut messages, mut addressed) = (Vec::new(), std::collections::BTreeMap::new());
    while !rest.is_empty() {
        let (after, frame) = parse_frame(rest).expect("the capture's frames are whole");
        rest = after;
        match frame {
            AMQPFrame::Method(channel, AMQPClass::Basic(method)) => {
                let address = match method {
                    AMQPMethod::Publish(it) => format!("publish {}:{}", it.exchange, it.routing_key),
                    AMQPMethod::Deliver(it) => format!("deliver {}:{}", it.exchange, it.routing_key),
                    AMQPMethod::GetOk(it) => format!("get {}:{}", it.exchange, it.routing_key),
                    _ => continue,
                };
                addressed.insert(channel, address);
            }
            AMQPFrame::Header(channel, _, header) => {
                if let Some(address) = addressed.remove(&channel) {
                    let id = header.properties.message_id().as_ref().map(ToString::to_string);
                    messages.push((address, id.unwrap_or_default(), header.body_size));
                }
            }
            _ => {}
        }
    }
    messages.sort();
    messages
}

#[test]
fn captures_say_the_same_to_both() {
    let folder = fixtures().join("amqp");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the captures are there") {
        let path = entry.expect("the captures can be listed").path();
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        for connection in captures::connections(&path, &[25_672]) {
            let stream = |from: Sender| {
                let own = connection.packets.iter().filter(|packet| packet.from == from);
                own.flat_map(|packet| packet.data.iter().copied()).collect::<Vec<u8>>()
            };
            let mut expected = messages_by_amq_protocol(&stream(Sender::Client));
            expected.extend(messages_by_amq_protocol(&stream(Sender::Server)));
            expected.sort();
            let new = Box::new(AmqpSession::new(Role::Client, &Protocols::default()));
            let told = captures::run(new, &connection.packets, None, usize::MAX, End::Closed);
            let of = |address: &str, exchange: &str, key: &str, content: &Content| {
                let id = content.properties.message_id.clone().unwrap_or_default();
                (format!("{address} {exchange}:{key}"), id, content.body.len)
            };
            let mut found: Messages = told
                .operations
                .iter()
                .filter_map(|operation| match kind(operation) {
                    ActionKind::Publish(it) => {
                        Some(of("publish", &it.exchange, &it.routing_key, &it.content))
                    }
                    ActionKind::Deliver(it) => {
                        Some(of("deliver", &it.exchange, &it.routing_key, &it.content))
                    }
                    ActionKind::Get(Some(it)) => Some(of("get", &it.exchange, &it.routing_key, &it.content)),
                    _ => None,
                })
                .collect();
            found.sort();
            assert_eq!(found, expected, "{}", path.display());
            seen += found.len();
        }
    }
    assert!(seen > 500, "{seen} messages");
}
