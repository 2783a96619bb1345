//! A method frame's payload → which method it is and the arguments that matter.
//!
//! *Owns* the list of classes and methods: name, who may send it, what answers it. *Must not know* channels' state.
//! Arguments that may hold secrets (`connection.start-ok`, `secure-ok`, `update-secret`) are never read.
//!
//! *Spec*: AMQP 0-9-1 section 4.2.4 (class 16 bits, method 16 bits, arguments) and RabbitMQ's
//! `amqp0-9-1.extended.xml`.

use super::wire::{Cursor, text};
use crate::record::Sender;

/// Class and method number.
pub type Id = (u16, u16);

pub const CONNECTION: u16 = 10;
pub const QUEUE: u16 = 50;
pub const CONNECTION_START: Id = (10, 10);
pub const TUNE: Id = (10, 30);
pub const TUNE_OK: Id = (10, 31);
pub const CONNECTION_OPEN: Id = (10, 40);
pub const CONNECTION_CLOSE: Id = (10, 50);
pub const CONNECTION_CLOSE_OK: Id = (10, 51);
pub const CONNECTION_BLOCKED: Id = (10, 60);
pub const CONNECTION_UNBLOCKED: Id = (10, 61);
pub const CHANNEL_OPEN: Id = (20, 10);
pub const CHANNEL_OPEN_OK: Id = (20, 11);
pub const CHANNEL_CLOSE: Id = (20, 40);
pub const CHANNEL_CLOSE_OK: Id = (20, 41);
pub const QUEUE_DECLARE: Id = (50, 10);
pub const QUEUE_DECLARE_OK: Id = (50, 11);
pub const CONSUME: Id = (60, 20);
pub const CONSUME_OK: Id = (60, 21);
pub const CANCEL: Id = (60, 30);
pub const CANCEL_OK: Id = (60, 31);
pub const PUBLISH: Id = (60, 40);
pub const RETURN: Id = (60, 50);
pub const DELIVER: Id = (60, 60);
pub const GET: Id = (60, 70);
pub const GET_OK: Id = (60, 71);
pub const ACK: Id = (60, 80);
pub const REJECT: Id = (60, 90);
pub const RECOVER_ASYNC: Id = (60, 100);
pub const RECOVER: Id = (60, 110);
pub const NACK: Id = (60, 120);
pub const CONFIRM_SELECT: Id = (85, 10);
pub const TX_SELECT: Id = (90, 10);
pub const TX_COMMIT: Id = (90, 20);
pub const TX_COMMIT_OK: Id = (90, 21);
pub const TX_ROLLBACK: Id = (90, 30);
pub const TX_ROLLBACK_OK: Id = (90, 31);

/// Who may send a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Client,
    Server,
    Both,
}

/// What a method is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Answered by one of these methods of its class.
    Request(&'static [u16]),
    /// Answers a request.
    Reply,
    /// Stands alone.
    Alone,
}

/// One method of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub id: Id,
    /// `class.method`, as the specification writes it.
    pub name: &'static str,
    pub by: By,
    pub part: Part,
}

impl Spec {
    /// Whether `from` may send it.
    pub fn may_come_from(&self, from: Sender) -> bool {
        match self.by {
            By::Client => from == Sender::Client,
            By::Server => from == Sender::Server,
            By::Both => true,
        }
    }
}

/// The method with this number, if there is one.
pub fn lookup(id: Id) -> Option<Spec> {
    use By::{Both, Client, Server};
    use Part::{Alone, Reply, Request};
    let (name, by, part) = match id {
        (10, 10) => ("connection.start", Server, Alone),
        // The login: what answers it is the next step of the handshake.
        (10, 11) => ("connection.start-ok", Client, Request(&[20, 30])),
        (10, 20) => ("connection.secure", Server, Reply),
        (10, 21) => ("connection.secure-ok", Client, Request(&[20, 30])),
        (10, 30) => ("connection.tune", Server, Reply),
        (10, 31) => ("connection.tune-ok", Client, Alone),
        (10, 40) => ("connection.open", Client, Request(&[41])),
        (10, 41) => ("connection.open-ok", Server, Reply),
        (10, 50) => ("connection.close", Both, Request(&[51])),
        (10, 51) => ("connection.close-ok", Both, Reply),
        (10, 60) => ("connection.blocked", Server, Alone),
        (10, 61) => ("connection.unblocked", Server, Alone),
        (10, 70) => ("connection.update-secret", Both, Request(&[71])),
        (10, 71) => ("connection.update-secret-ok", Both, Reply),
        (20, 10) => ("channel.open", Client, Request(&[11])),
        (20, 11) => ("channel.open-ok", Server, Reply),
        (20, 20) => ("channel.flow", Both, Request(&[21])),
        (20, 21) => ("channel.flow-ok", Both, Reply),
        (20, 40) => ("channel.close", Both, Request(&[41])),
        (20, 41) => ("channel.close-ok", Both, Reply),
        (30, 10) => ("access.request", Client, Request(&[11])),
        (30, 11) => ("access.request-ok", Server, Reply),
        (40, 10) => ("exchange.declare", Client, Request(&[11])),
        (40, 11) => ("exchange.declare-ok", Server, Reply),
        (40, 20) => ("exchange.delete", Client, Request(&[21])),
        (40, 21) => ("exchange.delete-ok", Server, Reply),
        (40, 30) => ("exchange.bind", Client, Request(&[31])),
        (40, 31) => ("exchange.bind-ok", Server, Reply),
        // 51, not 41: so it is in amqp0-9-1.extended.xml.
        (40, 40) => ("exchange.unbind", Client, Request(&[51])),
        (40, 51) => ("exchange.unbind-ok", Server, Reply),
        (50, 10) => ("queue.declare", Client, Request(&[11])),
        (50, 11) => ("queue.declare-ok", Server, Reply),
        (50, 20) => ("queue.bind", Client, Request(&[21])),
        (50, 21) => ("queue.bind-ok", Server, Reply),
        (50, 30) => ("queue.purge", Client, Request(&[31])),
        (50, 31) => ("queue.purge-ok", Server, Reply),
        (50, 40) => ("queue.delete", Client, Request(&[41])),
        (50, 41) => ("queue.delete-ok", Server, Reply),
        (50, 50) => ("queue.unbind", Client, Request(&[51])),
        (50, 51) => ("queue.unbind-ok", Server, Reply),
        (60, 10) => ("basic.qos", Client, Request(&[11])),
        (60, 11) => ("basic.qos-ok", Server, Reply),
        (60, 20) => ("basic.consume", Client, Request(&[21])),
        (60, 21) => ("basic.consume-ok", Server, Reply),
        // From the server: the queue is gone (`consumer_cancel_notify`).
        (60, 30) => ("basic.cancel", Both, Request(&[31])),
        (60, 31) => ("basic.cancel-ok", Both, Reply),
        (60, 40) => ("basic.publish", Client, Alone),
        (60, 50) => ("basic.return", Server, Alone),
        (60, 60) => ("basic.deliver", Server, Alone),
        (60, 70) => ("basic.get", Client, Request(&[71, 72])),
        (60, 71) => ("basic.get-ok", Server, Reply),
        (60, 72) => ("basic.get-empty", Server, Reply),
        // From the server: a publisher confirm.
        (60, 80) => ("basic.ack", Both, Alone),
        (60, 90) => ("basic.reject", Client, Alone),
        (60, 100) => ("basic.recover-async", Client, Alone),
        (60, 110) => ("basic.recover", Client, Request(&[111])),
        (60, 111) => ("basic.recover-ok", Server, Reply),
        (60, 120) => ("basic.nack", Both, Alone),
        (85, 10) => ("confirm.select", Client, Request(&[11])),
        (85, 11) => ("confirm.select-ok", Server, Reply),
        (90, 10) => ("tx.select", Client, Request(&[11])),
        (90, 11) => ("tx.select-ok", Server, Reply),
        (90, 20) => ("tx.commit", Client, Request(&[21])),
        (90, 21) => ("tx.commit-ok", Server, Reply),
        (90, 30) => ("tx.rollback", Client, Request(&[31])),
        (90, 31) => ("tx.rollback-ok", Server, Reply),
        _ => return None,
    };
    Some(Spec { id, name, by, part })
}

/// The number at the start of a method frame's payload.
pub fn id(payload: &[u8]) -> Option<Id> {
    let mut cursor = Cursor::new(payload);
    Some((cursor.u16()?, cursor.u16()?))
}

/// Arguments of the methods whose arguments matter. Strings borrow from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    FrameMax(u32),
    Open {
        vhost: &'a [u8],
    },
    /// `connection.close`, `channel.close`.
    Close {
        code: u16,
        text: &'a [u8],
        /// The method that caused it; `(0, 0)` when none did.
        cause: Id,
    },
    Blocked {
        reason: &'a [u8],
    },
    /// A method that names one queue or exchange and has nothing else to say here.
    Target {
        name: &'a [u8],
        no_wait: bool,
    },
    /// `queue.declare`.
    Declare {
        name: &'a [u8],
        no_wait: bool,
        /// The queue stays when nobody takes from it any more.
        stays: bool,
        /// A field table; `None` where it was not captured.
        arguments: Option<&'a [u8]>,
    },
    Consume {
        queue: &'a [u8],
        tag: &'a [u8],
        no_ack: bool,
        no_wait: bool,
    },
    ConsumerTag {
        tag: &'a [u8],
        no_wait: bool,
    },
    Publish {
        exchange: &'a [u8],
        routing_key: &'a [u8],
        mandatory: bool,
    },
    Return {
        code: u16,
        text: &'a [u8],
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    /// `basic.deliver`, and `basic.get-ok` with an empty consumer tag.
    Deliver {
        tag: &'a [u8],
        delivery_tag: u64,
        redelivered: bool,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    Get {
        queue: &'a [u8],
        no_ack: bool,
    },
    /// `basic.ack`, `basic.nack`, `basic.reject`.
    Settle {
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    },
    Recover {
        requeue: bool,
    },
    NoWait(bool),
    None,
}

/// Reads the arguments of method `id`; `None` when bytes are missing.
pub fn arguments(id: Id, payload: &[u8]) -> Option<Arguments<'_>> {
    let mut c = Cursor::new(payload.get(4..)?);
    let bit = |octet: u8, n: u32| octet & (1 << n) != 0;
    Some(match id {
        TUNE | TUNE_OK => {
            let _channel_max = c.u16()?;
            Arguments::FrameMax(c.u32()?)
        }
        CONNECTION_OPEN => Arguments::Open { vhost: c.short()? },
        CONNECTION_CLOSE | CHANNEL_CLOSE => {
            let (code, text) = (c.u16()?, c.short()?);
            Arguments::Close { code, text, cause: (c.u16()?, c.u16()?) }
        }
        CONNECTION_BLOCKED => Arguments::Blocked { reason: c.short()? },
        // exchange.declare: reserved, exchange, type, passive|durable|auto-delete|internal|no-wait
        (40, 10) => {
            let _reserved = c.u16()?;
            let name = c.short()?;
            let _type = c.short()?;
            Arguments::Target { name, no_wait: bit(c.u8()?, 4) }
        }
        // exchange.delete: if-unused|no-wait
        (40, 20) => {
            let _reserved = c.u16()?;
            Arguments::Target { name: c.short()?, no_wait: bit(c.u8()?, 1) }
        }
        // exchange.bind, exchange.unbind: destination, source, routing key, no-wait. queue.bind: queue, exchange, ….
        (40, 30 | 40) | (50, 20) => {
            let _reserved = c.u16()?;
            let name = c.short()?;
            let (_source, _routing_key) = (c.short()?, c.short()?);
            Arguments::Target { name, no_wait: bit(c.u8()?, 0) }
        }
        (50, 50) => {
            let _reserved = c.u16()?;
            Arguments::Target { name: c.short()?, no_wait: false }
        }
        // queue.declare: passive|durable|exclusive|auto-delete|no-wait
        QUEUE_DECLARE => {
            let _reserved = c.u16()?;
            let (name, bits) = (c.short()?, c.u8()?);
            // Who only asks whether it is there says nothing of how it is.
            let stays = !(bit(bits, 0) || bit(bits, 2) || bit(bits, 3));
            Arguments::Declare { name, no_wait: bit(bits, 4), stays, arguments: c.long() }
        }
        QUEUE_DECLARE_OK => Arguments::Target { name: c.short()?, no_wait: false },
        // queue.purge: no-wait
        (50, 30) => {
            let _reserved = c.u16()?;
            Arguments::Target { name: c.short()?, no_wait: bit(c.u8()?, 0) }
        }
        // queue.delete: if-unused|if-empty|no-wait
        (50, 40) => {
            let _reserved = c.u16()?;
            Arguments::Target { name: c.short()?, no_wait: bit(c.u8()?, 2) }
        }
        // basic.consume: no-local|no-ack|exclusive|no-wait
        CONSUME => {
            let _reserved = c.u16()?;
            let (queue, tag, bits) = (c.short()?, c.short()?, c.u8()?);
            Arguments::Consume { queue, tag, no_ack: bit(bits, 1), no_wait: bit(bits, 3) }
        }
        CONSUME_OK | CANCEL_OK => Arguments::ConsumerTag { tag: c.short()?, no_wait: false },
        CANCEL => Arguments::ConsumerTag { tag: c.short()?, no_wait: bit(c.u8()?, 0) },
        PUBLISH => {
            let _reserved = c.u16()?;
            let (exchange, routing_key) = (c.short()?, c.short()?);
            Arguments::Publish { exchange, routing_key, mandatory: bit(c.u8()?, 0) }
        }
        RETURN => Arguments::Return {
            code: c.u16()?,
            text: c.short()?,
            exchange: c.short()?,
            routing_key: c.short()?,
        },
        DELIVER => Arguments::Deliver {
            tag: c.short()?,
            delivery_tag: c.u64()?,
            redelivered: bit(c.u8()?, 0),
            exchange: c.short()?,
            routing_key: c.short()?,
        },
        GET => {
            let _reserved = c.u16()?;
            Arguments::Get { queue: c.short()?, no_ack: bit(c.u8()?, 0) }
        }
        GET_OK => Arguments::Deliver {
            tag: &[],
            delivery_tag: c.u64()?,
            redelivered: bit(c.u8()?, 0),
            exchange: c.short()?,
            routing_key: c.short()?,
        },
        ACK => Arguments::Settle { delivery_tag: c.u64()?, multiple: bit(c.u8()?, 0), requeue: false },
        REJECT => Arguments::Settle { delivery_tag: c.u64()?, multiple: false, requeue: bit(c.u8()?, 0) },
        NACK => {
            let (delivery_tag, bits) = (c.u64()?, c.u8()?);
            Arguments::Settle { delivery_tag, multiple: bit(bits, 0), requeue: bit(bits, 1) }
        }
        RECOVER | RECOVER_ASYNC => Arguments::Recover { requeue: bit(c.u8()?, 0) },
        CONFIRM_SELECT => Arguments::NoWait(bit(c.u8()?, 0)),
        _ => Arguments::None,
    })
}

/// Reply code and text as an operation keeps them.
pub(super) fn error(code: u16, reason: &[u8]) -> Option<(u16, String)> {
    // 200 is reply-success: an orderly close.
    (code != 200).then(|| (code, text(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_a_reply_its_counterpart_may_send() {
        let mut known = 0;
        for class in 0..=100 {
            for method in 0..=130 {
                let Some(spec) = lookup((class, method)) else { continue };
                known += 1;
                let Part::Request(answers) = spec.part else { continue };
                for answer in answers {
                    let reply = lookup((class, *answer)).expect("the answer exists");
                    assert_eq!(reply.part, Part::Reply, "{}", spec.name);
                    let swapped = match spec.by {
                        By::Client => By::Server,
                        By::Server => By::Client,
                        By::Both => By::Both,
                    };
                    assert_eq!(reply.by, swapped, "{}", spec.name);
                }
            }
        }
        assert_eq!(known, 66);
    }

    #[test]
    fn every_prefix_of_arguments_is_none_and_never_a_panic() {
        let payload = |id: Id, arguments: &[u8]| {
            let mut bytes = id.0.to_be_bytes().to_vec();
            bytes.extend_from_slice(&id.1.to_be_bytes());
            bytes.extend_from_slice(arguments);
            bytes
        };
        let cases: [(Id, &[u8]); 6] = [
            (PUBLISH, b"\0\0\x02ex\x02rk\x01"),
            (DELIVER, b"\x02ct\0\0\0\0\0\0\0\x07\x01\x02ex\x02rk"),
            (CONSUME, b"\0\0\x01q\x01t\x0a"),
            (NACK, b"\0\0\0\0\0\0\0\x07\x03"),
            (RETURN, b"\x01\x38\x08NO_ROUTE\x02ex\x02rk"),
            (CHANNEL_CLOSE, b"\x01\x94\x09NOT_FOUND\0\x3c\0\x28"),
        ];
        for (id, bytes) in cases {
            let whole = payload(id, bytes);
            assert!(arguments(id, &whole).is_some());
            for end in 0..whole.len() {
                assert_eq!(arguments(id, &whole[..end]), None, "{id:?} {end}");
            }
        }
        assert_eq!(
            arguments(CONSUME, &payload(CONSUME, b"\0\0\x01q\x01t\x0a")),
            Some(Arguments::Consume { queue: b"q", tag: b"t", no_ack: true, no_wait: true })
        );
        assert_eq!(
            arguments(NACK, &payload(NACK, b"\0\0\0\0\0\0\0\x07\x03")),
            Some(Arguments::Settle { delivery_tag: 7, multiple: true, requeue: true })
        );
    }
}
