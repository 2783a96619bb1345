//! Conversations → operations: what the session makes of publishes, deliveries, confirms, losses.

mod snapshot;

use super::AmqpSession;
use super::fixture::{ack, close, consume, content, deliver, frame, header, method, publish, short};
use super::frame::PROTOCOL_HEADER;
use crate::operation::amqp::{Action, ActionKind, Content, Method};
use crate::operation::{Completeness, Detail, OpSide, Operation};
use crate::protocol::registry::Conversation;
use crate::protocol::{Discard, End, Event, Events, Session as _, Want};
use crate::record::{Mark, Role, Sender, Worker};
use crate::settings::Protocols;
use crate::time::ns;
use Sender::{Client, Server};

const SECOND: u64 = 1_000_000_000;

/// The handshake, a publish that is confirmed, a delivery that is acknowledged, and a channel that the broker closes.
pub(super) fn example() -> Conversation {
    let declare = method(1, (50, 10), &[&[0, 0][..], &short("mes"), &[0, 0, 0, 0, 0]].concat());
    let declared = method(1, (50, 11), &[&short("mes")[..], &[0; 8]].concat());
    let consumed = method(1, (60, 21), &short("ctag"));
    let open = method(0, (10, 40), &[&short("/shop")[..], &[0, 0]].concat());
    let tune_ok = method(0, (10, 31), b"\x07\xff\x00\x02\x00\x00\x00\x3c");
    vec![
        (Client, PROTOCOL_HEADER.to_vec()),
        (Server, start()),
        (Client, start_ok()),
        (Server, tune(131_072)),
        (Client, [tune_ok, open].concat()),
        (Server, method(0, (10, 41), b"\0")),
        (Client, [method(1, (20, 10), b"\0"), method(1, (85, 10), b"\0"), declare].concat()),
        (Server, [method(1, (20, 11), &[0; 4]), method(1, (85, 11), b""), declared].concat()),
        (
            Client,
            [publish(1, "orders", "created", false), content(1, "m1", b"{\"order_id\":17}", 8)].concat(),
        ),
        (Server, ack(1, 80, 1, 0)),
        (Client, consume(1, "mes", "ctag", 0)),
        (Server, [consumed, deliver(1, "ctag", 1, false), content(1, "m1", b"{}", 8)].concat()),
        (Client, ack(1, 80, 1, 0)),
        (Server, close(1, 20, 40, 406, "PRECONDITION_FAILED")),
        (Client, method(1, (20, 41), b"")),
    ]
}

/// A conversation: records of bytes and gaps, one per tick.
struct Talk {
    session: AmqpSession,
    events: Events,
    pos: [u64; 2],
    tick: u64,
}

impl Talk {
    fn new(role: Role, limits: &Protocols) -> Self {
        Self { session: AmqpSession::new(role, limits), events: Events::default(), pos: [0; 2], tick: 0 }
    }

    fn client() -> Self {
        Self::new(Role::Client, &Protocols::default())
    }

    fn mark(&mut self) -> Mark {
        self.tick += 1;
        Mark { at: ns(self.tick), thread: Worker::new(1, 1), other_pos: 0, awaited_by: None }
    }

    fn send(&mut self, from: Sender, bytes: impl AsRef<[u8]>) -> &mut Self {
        let (bytes, mark) = (bytes.as_ref(), self.mark());
        let pos = &mut self.pos[from as usize];
        self.session.bytes(from, *pos, bytes, mark, &mut self.events);
        *pos += bytes.len() as u64;
        self
    }

    fn gap(&mut self, from: Sender, len: usize) -> &mut Self {
        let mark = self.mark();
        let pos = &mut self.pos[from as usize];
        self.session.gap(from, *pos, len as u64, mark, &mut self.events);
        *pos += len as u64;
        self
    }

    fn hello(&mut self) -> &mut Self {
        self.send(Client, PROTOCOL_HEADER).send(Server, start()).send(Client, start_ok());
        self.send(Server, tune(131_072))
            .send(Client, method(0, (10, 31), b"\x07\xff\x00\x02\x00\x00\x00\x3c"));
        self.send(Client, method(0, (10, 40), &[&short("/shop")[..], &[0, 0]].concat()));
        self.send(Server, method(0, (10, 41), b"\0"));
        self.channel(1)
    }

    fn channel(&mut self, number: u16) -> &mut Self {
        self.send(Client, method(number, (20, 10), b"\0")).send(Server, method(number, (20, 11), &[0; 4]))
    }

    fn confirm(&mut self) -> &mut Self {
        self.send(Client, method(1, (85, 10), b"\0")).send(Server, method(1, (85, 11), b""))
    }

    fn publish(&mut self, message_id: &str) -> &mut Self {
        let bytes = [publish(1, "orders", "created", false), content(1, message_id, b"{}", 100)].concat();
        self.send(Client, bytes)
    }

    /// One that the broker returns where no queue takes it.
    fn mandatory(&mut self, message_id: &str) -> &mut Self {
        let bytes = [publish(1, "orders", "created", true), content(1, message_id, b"{}", 100)].concat();
        self.send(Client, bytes)
    }

    fn deliver(&mut self, tag: u64) -> &mut Self {
        let id = format!("m{tag}");
        self.send(Server, [deliver(1, "ctag", tag, tag == 3), content(1, &id, b"{}", 100)].concat())
    }

    fn timeout(&mut self, after: u64) -> &mut Self {
        self.session.timeout(ns(self.tick + after), &mut self.events);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.session.end(End::Closed, ns(1000), &mut self.events);
        self
    }

    /// All events since the last call.
    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.pop()).collect()
    }

    /// One line per operation closed since the last call, handshake and channel methods left out.
    fn closed(&mut self) -> Vec<String> {
        let lines = self.events().into_iter().filter_map(|event| match event {
            Event::Closed(operation) => Some(line(&operation)),
            _ => None,
        });
        let boring = ["connection.start-ok", "connection.open", "channel.open", "confirm.select"];
        lines.filter(|line| !boring.iter().any(|name| line.contains(name))).collect()
    }

    #[track_caller]
    fn check(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(self.closed(), expected);
        self
    }
}

fn start() -> Vec<u8> {
    let arguments = b"\x00\x09\x00\x00\x00\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US";
    method(0, (10, 10), arguments)
}

fn start_ok() -> Vec<u8> {
    let arguments =
        [&[0, 0, 0, 0][..], &short("PLAIN"), b"\0\0\0\x0e\0guest\0secret!!", &short("en_US")].concat();
    method(0, (10, 11), &arguments)
}

fn tune(frame_max: u32) -> Vec<u8> {
    method(0, (10, 30), &[&[7, 0xff][..], &frame_max.to_be_bytes(), &[0, 60]].concat())
}

fn action(operation: &Operation) -> &Action {
    let Detail::Amqp(action) = &operation.detail else { panic!("{operation:?}") };
    action
}

fn body(content: &Content) -> String {
    let kept = String::from_utf8_lossy(&content.body.bytes).into_owned();
    let id = content.properties.message_id.as_deref().unwrap_or("-");
    let kept = if kept.len() > 8 { format!("{}bytes", kept.len()) } else { kept };
    let holed = if content.body.holed { " holed" } else { "" };
    format!("{id} {kept}/{}{holed}", content.body.len)
}

/// What matters of an operation, in one line.
fn line(operation: &Operation) -> String {
    let what = match &action(operation).kind {
        ActionKind::Publish(p) => {
            format!("publish {}:{} {} {:?}", p.exchange, p.routing_key, body(&p.content), p.outcome)
        }
        ActionKind::Return(p) => {
            format!("return {}:{} {} {:?}", p.exchange, p.routing_key, body(&p.content), p.outcome)
        }
        ActionKind::Deliver(d) => {
            let again = if d.redelivered { " again" } else { "" };
            let (queue, tag) = (&d.queue, d.delivery_tag);
            format!("deliver {tag} {queue:?}{again} {} {:?}", body(&d.content), d.settlement)
        }
        ActionKind::Get(None) => "get empty".to_owned(),
        ActionKind::Get(Some(d)) => format!("get {} {:?} {}", d.delivery_tag, d.queue, body(&d.content)),
        ActionKind::Settle(s) => format!("settle {} {:?} {}", s.delivery_tag, s.settlement, s.message_count),
        ActionKind::Method(m) => format!("{} {:?} {:?}", m.name, m.target, m.error),
    };
    let end = match (operation.completeness, operation.response) {
        (Completeness::Complete, Some(_)) => String::new(),
        (Completeness::Complete, None) => " (no answer)".to_owned(),
        (other, _) => format!(" ({other:?})"),
    };
    what + &end
}

#[test]
fn a_publish_without_confirms_is_over_at_its_last_byte() {
    Talk::client().hello().publish("m1").check(&["publish orders:created m1 {}/2 Unconfirmed (no answer)"]);
}

#[test]
fn events_of_a_confirmed_publish_say_when_and_where() {
    let mut talk = Talk::client();
    talk.hello().confirm().events();
    let (client, server, tick) = (talk.pos[0], talk.pos[1], talk.tick);
    let method = publish(1, "", "q", false);
    talk.send(Client, &method[..3]).send(Client, &method[3..]);
    talk.send(Client, content(1, "", b"abcdef", 4)).send(Server, ack(1, 80, 1, 0));
    let events = talk.events();
    let [
        Event::Opened { op, shape: OpSide::Outgoing, point: opened },
        Event::Requested { op: requested_op, point: requested },
        Event::Closed(operation),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!([requested_op, &operation.id].iter().all(|other| *other == op));
    assert_eq!((opened.at, opened.pos), (ns(tick + 1), client));
    let len = method.len() + content(1, "", b"abcdef", 4).len();
    assert_eq!((requested.at, requested.pos), (ns(tick + 3), client + len as u64));
    let responded = operation.response.map(|extent| extent.start);
    assert_eq!(responded.map(|point| (point.at, point.pos)), Some((ns(tick + 4), server)));
    assert_eq!((operation.request.start, operation.request.end), (*opened, *requested));
    assert_eq!(operation.response.map(|extent| extent.len()), Some(21));
    assert_eq!(operation.ended_at, ns(tick + 4));
    assert_eq!(action(operation).vhost.as_deref(), Some("/shop"));
}

#[test]
fn confirms_close_one_several_or_refuse() {
    let mut talk = Talk::client();
    talk.hello().confirm();
    for id in ["m1", "m2", "m3", "m4", "m5"] {
        talk.publish(id);
    }
    talk.check(&[]);
    let publish = |id: &str, outcome: &str| format!("publish orders:created {id} {{}}/2 {outcome}");
    talk.send(Server, ack(1, 80, 2, 0)).check(&[&publish("m2", "Confirmed")]);
    talk.send(Server, ack(1, 80, 3, 1)).check(&[&publish("m1", "Confirmed"), &publish("m3", "Confirmed")]);
    talk.send(Server, ack(1, 120, 4, 0)).check(&[&publish("m4", "Refused")]);
    talk.send(Server, ack(1, 80, 2, 0)).check(&[]);
    talk.end().check(&["publish orders:created m5 {}/2 Unconfirmed (Cut)"]);
}

fn returned(message_id: &str) -> Vec<u8> {
    let arguments = [&[1, 56][..], &short("NO_ROUTE"), &short("orders"), &short("created")].concat();
    [method(1, (60, 50), &arguments), content(1, message_id, b"{}", 100)].concat()
}

#[test]
fn a_return_closes_the_publish_it_gives_back() {
    let outcome = "Returned { code: 312, text: \"NO_ROUTE\" }";
    let mut talk = Talk::client();
    talk.hello().confirm().mandatory("m1").mandatory("m2").send(Server, returned("m2"));
    talk.check(&[&format!("publish orders:created m2 {{}}/2 {outcome}")]);
    talk.send(Server, ack(1, 80, 2, 1)).check(&["publish orders:created m1 {}/2 Confirmed"]);

    // Without confirms a publish that can be returned waits a moment for that.
    let mut talk = Talk::client();
    talk.hello().mandatory("m1").check(&[]);
    talk.send(Server, returned("m1"));
    talk.check(&[&format!("publish orders:created m1 {{}}/2 {outcome}")]);
    // One that comes later yet is reported by itself, so that it is not lost.
    talk.mandatory("m2")
        .timeout(5 * SECOND)
        .check(&["publish orders:created m2 {}/2 Unconfirmed (no answer)"]);
    talk.send(Server, returned("m2"));
    talk.check(&[&format!("return orders:created m2 {{}}/2 {outcome} (no answer)")]);
}

#[test]
fn a_publish_that_is_not_returned_ends_with_its_last_byte() {
    let mut talk = Talk::client();
    talk.hello().events();
    talk.mandatory("m1");
    let published_at = ns(talk.tick);
    // Its message may be delivered long before.
    let [Event::Opened { .. }, Event::Requested { .. }, Event::Sent(sent)] = &talk.events()[..] else {
        panic!("not told as soon as it was whole")
    };
    assert_eq!(sent.request.end.at, published_at);
    talk.timeout(SECOND).check(&[]);
    talk.timeout(3 * SECOND);
    let closed = talk.events().into_iter().find_map(|event| match event {
        Event::Closed(operation) => Some(operation),
        _ => None,
    });
    let closed = closed.expect("it is given up");
    assert_eq!((closed.ended_at, closed.completeness), (published_at, Completeness::Complete));
    assert_eq!(closed.id, sent.id);
}

#[test]
fn the_outcome_on_a_channel_older_than_the_agent_is_not_guessed() {
    let mut talk = Talk::client();
    for number in 7..10 {
        talk.mandatory(&format!("m{number}"));
        talk.send(Server, ack(1, 80, number, 0));
    }
    talk.mandatory("m10").send(Server, returned("m10")).send(Server, ack(1, 80, 10, 0));
    talk.check(&["publish orders:created m10 {}/2 Returned { code: 312, text: \"NO_ROUTE\" }"]);
    talk.timeout(3 * SECOND);
    let unknown = |id: &str| format!("publish orders:created {id} {{}}/2 Unknown (no answer)");
    talk.check(&[&unknown("m7"), &unknown("m8"), &unknown("m9")]);
}

fn tx(method_id: u16) -> Vec<u8> {
    method(1, (90, method_id), b"")
}

#[test]
fn transactions_tell_what_became_of_their_publishes() {
    let outcome = |id: &str, outcome: &str| format!("publish orders:created {id} {{}}/2 {outcome}");
    let mut talk = Talk::client();
    talk.hello().send(Client, tx(10)).send(Server, tx(11)).closed();
    talk.publish("m1").publish("m2").check(&[]);
    talk.send(Client, tx(30)).check(&[]);
    // Already in the next transaction.
    talk.publish("m3").send(Server, tx(31));
    talk.check(&[&outcome("m1", "RolledBack"), &outcome("m2", "RolledBack"), "tx.rollback \"\" None"]);
    talk.send(Client, tx(20)).publish("m4").send(Client, tx(30)).check(&[]);
    talk.send(Server, tx(21)).check(&[&outcome("m3", "Committed"), "tx.commit \"\" None"]);
    talk.send(Server, tx(31)).check(&[&outcome("m4", "RolledBack"), "tx.rollback \"\" None"]);
    // One that nobody will answer.
    talk.publish("m5").end().check(&[&outcome("m5", "RolledBack (Cut)")]);
}

#[test]
fn a_transaction_older_than_the_agent_is_known_by_its_end() {
    let mut talk = Talk::client();
    talk.send(Client, tx(20)).send(Server, tx(21)).check(&["tx.commit \"\" None"]);
    talk.publish("m1").check(&[]);
    talk.send(Client, tx(20)).send(Server, tx(21));
    talk.check(&["publish orders:created m1 {}/2 Committed", "tx.commit \"\" None"]);
    // Its question was not seen.
    let mut talk = Talk::client();
    talk.send(Server, tx(31)).publish("m2").check(&[]);
    talk.send(Client, tx(30)).send(Server, tx(31));
    talk.check(&["publish orders:created m2 {}/2 RolledBack", "tx.rollback \"\" None"]);
}

#[test]
fn ends_of_transactions_are_answered_in_order_behind_what_waits_for_something_else() {
    let outcome = |id: &str, outcome: &str| format!("publish orders:created {id} {{}}/2 {outcome}");
    let mut talk = Talk::client();
    let mandatory = [publish(1, "orders", "created", true), content(1, "m0", b"{}", 100)].concat();
    talk.hello().send(Client, mandatory).send(Client, tx(10)).send(Server, tx(11)).closed();
    talk.publish("m1").publish("m2").send(Client, tx(20)).send(Client, tx(20)).publish("m3");
    talk.send(Client, tx(30)).publish("m4").check(&[]);
    talk.send(Server, tx(21));
    talk.check(&[&outcome("m1", "Committed"), &outcome("m2", "Committed"), "tx.commit \"\" None"]);
    // The second one held nothing.
    talk.send(Server, tx(21)).check(&["tx.commit \"\" None"]);
    talk.send(Server, tx(31)).check(&[&outcome("m3", "RolledBack"), "tx.rollback \"\" None"]);
    assert_eq!(talk.closed(), Vec::<String>::new());
}

#[test]
fn a_lost_publish_that_a_method_tells_of_is_counted() {
    let missing =
        [&404u16.to_be_bytes()[..], &short("NOT_FOUND - no exchange 'orders'"), &[0, 60, 0, 40]].concat();
    let mut talk = Talk::client();
    let body = vec![b'x'; 2000];
    talk.hello()
        .send(Client, [publish(1, "orders", "created", false), content(1, "m", &body, 4000)].concat());
    let before = talk.session.held();
    talk.send(Server, method(1, (20, 40), &missing));
    let more = talk.session.held() - before;
    assert!(more > 2000, "its copy in the method is held until the answer: {more}");
    talk.send(Client, method(1, (20, 41), b""));
    let held = talk.events().into_iter().find_map(|event| match event {
        Event::Closed(operation) => match &action(&operation).kind {
            ActionKind::Method(Method { lost: Some(_), .. }) => Some(operation.held()),
            _ => None,
        },
        _ => None,
    });
    assert!(held.is_some_and(|held| held > 2000), "{held:?}");
}

#[test]
fn lost_bytes_leave_a_transaction_without_an_outcome() {
    let mut talk = Talk::client();
    talk.hello().send(Client, tx(10)).send(Server, tx(11)).closed();
    talk.publish("m1").send(Client, tx(20)).gap(Server, 12);
    talk.send(Client, tx(20)).send(Server, tx(21)).publish("m2");
    talk.timeout(60 * SECOND);
    assert!(talk.closed().iter().all(|line| !line.contains("Committed") && !line.contains("RolledBack")));
}

#[test]
fn what_the_broker_closes_a_channel_for_is_its_last_publish() {
    let missing =
        [&404u16.to_be_bytes()[..], &short("NOT_FOUND - no exchange 'orders'"), &[0, 60, 0, 40]].concat();
    let missing = method(1, (20, 40), &missing);
    let lost = |talk: &mut Talk| {
        let closed = talk.events().into_iter().find_map(|event| match event {
            Event::Closed(operation) => match &action(&operation).kind {
                ActionKind::Method(method) if method.name == "channel.close" => Some(method.clone()),
                _ => None,
            },
            _ => None,
        });
        let method = closed.expect("the channel is closed");
        method.lost.map(|lost| (lost.exchange, lost.content.properties.message_id.unwrap_or_default()))
    };
    let plain = |id: &str| [publish(1, "orders", "created", false), content(1, id, b"{}", 100)].concat();
    let mut talk = Talk::client();
    talk.hello().send(Client, plain("m1")).send(Client, plain("m2")).send(Server, &missing);
    talk.send(Client, method(1, (20, 41), b""));
    assert_eq!(lost(&mut talk), Some(("orders".to_owned(), "m2".to_owned())));
    assert_eq!(talk.session.held_bytes, 0);

    // Another cause.
    let mut talk = Talk::client();
    let declared = [&406u16.to_be_bytes()[..], &short("PRECONDITION_FAILED"), &[0, 50, 0, 10]].concat();
    talk.hello().send(Client, plain("m1")).send(Server, method(1, (20, 40), &declared));
    talk.send(Client, method(1, (20, 41), b""));
    assert_eq!(lost(&mut talk), None);

    // A later one may be among lost bytes.
    let mut talk = Talk::client();
    talk.hello().send(Client, plain("m1")).gap(Client, 200).send(Server, &missing);
    talk.end();
    assert_eq!(lost(&mut talk), None);

    // Where it is not over yet, it fails itself.
    let mut talk = Talk::client();
    talk.hello().closed();
    talk.mandatory("m1").mandatory("m2").send(Server, &missing).send(Client, method(1, (20, 41), b""));
    let lines = talk.closed();
    assert!(lines[0].starts_with("publish orders:created m1 {}/2 Unconfirmed"), "{lines:?}");
    assert!(lines[1].starts_with("publish orders:created m2 {}/2 Error { code: 404"), "{lines:?}");
}

#[test]
fn a_blocked_connection_is_one_operation_until_it_is_unblocked() {
    let mut talk = Talk::client();
    talk.hello().closed();
    talk.send(Server, method(0, (10, 60), &short("low on memory")));
    // Once more, for another reason: it is blocked already.
    talk.send(Server, method(0, (10, 60), &short("low on disk"))).check(&[]);
    talk.send(Server, method(0, (10, 61), b""));
    let closed = talk.events().into_iter().find_map(|event| match event {
        Event::Closed(operation) => Some(operation),
        _ => None,
    });
    let closed = closed.expect("it is over");
    let ActionKind::Method(blocked) = &action(&closed).kind else { panic!("{closed:?}") };
    assert_eq!(
        (blocked.name.as_str(), blocked.reason.as_deref()),
        ("connection.blocked", Some("low on memory"))
    );
    assert!(closed.ended_at > closed.request.end.at && closed.response.is_some());
    // One that began before the agent, and one that does not end before the connection.
    talk.send(Server, method(0, (10, 61), b"")).check(&["connection.unblocked \"\" None (no answer)"]);
    talk.send(Server, method(0, (10, 60), &short("low on memory"))).end();
    talk.check(&["connection.blocked \"\" None (Cut)"]);
}

#[test]
fn a_consumer_older_than_the_agent_that_settles_nothing_is_told_by_its_deliveries() {
    let mut talk = Talk::client();
    let deliver = |talk: &mut Talk, tag| {
        talk.tick += SECOND;
        talk.deliver(tag);
        talk.tick
    };
    let first_at = deliver(&mut talk, 1);
    talk.check(&[]);
    deliver(&mut talk, 2);
    let closed = talk.events().into_iter().filter_map(|event| match event {
        Event::Closed(operation) => Some(operation),
        _ => None,
    });
    let ended: Vec<_> = closed.map(|operation| (operation.ended_at, operation.completeness)).collect();
    assert_eq!(ended[0], (ns(first_at), Completeness::Complete), "without a length");
    assert_eq!(ended.len(), 2);
    for tag in 3..7 {
        deliver(&mut talk, tag);
        assert_eq!(talk.closed().len(), 1, "{tag}");
    }
    assert_eq!(talk.session.open_count, 0);
    // It does settle after all.
    talk.send(Client, ack(1, 80, 6, 0)).check(&["settle 6 Ack 1"]);
    deliver(&mut talk, 7);
    talk.check(&[]);
    talk.send(Client, ack(1, 80, 7, 0));
    talk.check(&["deliver 7 None m7 {}/2 Some(Ack)", "settle 7 Ack 1"]);
}

#[test]
fn answers_to_direct_reply_to_are_over_as_they_come() {
    let reply = |key: &str| {
        let address = [short(""), short(key)].concat();
        let arguments = [&short("replies")[..], &1_u64.to_be_bytes(), &[0], &address].concat();
        [method(1, (60, 60), &arguments), content(1, "m", b"{}", 100)].concat()
    };
    let mut talk = Talk::client();
    talk.send(Server, reply("amq.rabbitmq.reply-to.g1h2AA"));
    assert_eq!((talk.closed().len(), talk.session.open_count), (1, 0));
    // It may be a queue of that name.
    talk.send(Server, reply("amq.rabbitmq.reply-to-me"));
    assert_eq!((talk.closed().len(), talk.session.open_count), (0, 1));
}

#[test]
fn a_backlog_that_comes_at_once_is_no_silence() {
    let mut talk = Talk::client();
    talk.deliver(1).deliver(2).deliver(3).check(&[]);
    talk.send(Client, ack(1, 80, 3, 1));
    assert_eq!(talk.closed().len(), 4);
}

#[test]
fn an_error_closes_what_is_open() {
    let error = close(1, 20, 40, 404, "NOT_FOUND");
    let mut talk = Talk::client();
    talk.hello().confirm().publish("m1").send(Server, &error);
    talk.check(&["publish orders:created m1 {}/2 Error { code: 404, text: \"NOT_FOUND\" }"]);
    // Published before the client knew.
    talk.publish("m2");
    talk.check(&["publish orders:created m2 {}/2 Error { code: 404, text: \"NOT_FOUND\" } (no answer)"]);
    talk.send(Client, method(1, (20, 41), b"")).check(&["channel.close \"\" Some((404, \"NOT_FOUND\"))"]);
    assert!(!talk.session.channels.contains_key(&1));

    let declare = method(1, (50, 10), &[&[0, 0][..], &short("q"), &[1, 0, 0, 0, 0]].concat());
    let mut talk = Talk::client();
    talk.hello().send(Client, declare).send(Server, close(0, 10, 50, 320, "CONNECTION_FORCED"));
    talk.check(&["queue.declare \"q\" Some((320, \"CONNECTION_FORCED\"))"]);
}

#[test]
fn a_refused_login_is_the_error_of_start_ok() {
    let mut talk = Talk::client();
    talk.send(Client, PROTOCOL_HEADER).send(Server, start()).send(Client, start_ok());
    talk.send(Server, close(0, 10, 50, 403, "ACCESS_REFUSED"));
    let operation = talk.events().into_iter().find_map(|event| match event {
        Event::Closed(operation) => Some(line(&operation)),
        _ => None,
    });
    assert_eq!(operation.as_deref(), Some("connection.start-ok \"\" Some((403, \"ACCESS_REFUSED\"))"));
}

#[test]
fn no_secret_of_the_login_is_kept() {
    let mut talk = Talk::client();
    talk.send(Client, PROTOCOL_HEADER).send(Server, start());
    let bytes = start_ok();
    let (head, tail) = bytes.split_at(bytes.len() - 3);
    talk.send(Client, head).send(Client, tail).send(Server, tune(0)).end();
    let kept = format!("{:?} {:?}", talk.events(), talk.session);
    for form in ["secret!!".to_owned(), format!("{:?}", b"secret!!").replace(['[', ']'], "")] {
        assert!(!kept.contains(&form), "{kept}");
    }
}

#[test]
fn deliveries_are_closed_by_their_settlement() {
    let mut talk = Talk::client();
    talk.hello()
        .send(Client, consume(1, "work", "ctag", 0))
        .send(Server, method(1, (60, 21), &short("ctag")));
    talk.check(&["basic.consume \"work\" None"]);
    for tag in 1..=5 {
        talk.deliver(tag);
    }
    talk.check(&[]);
    talk.send(Client, ack(1, 80, 2, 1)).check(&[
        "deliver 1 Some(\"work\") m1 {}/2 Some(Ack)",
        "deliver 2 Some(\"work\") m2 {}/2 Some(Ack)",
        "settle 2 Ack 2",
    ]);
    talk.send(Client, ack(1, 120, 3, 2)).check(&[
        "deliver 3 Some(\"work\") again m3 {}/2 Some(Nack { requeue: true })",
        "settle 3 Nack { requeue: true } 1",
    ]);
    talk.send(Client, method(1, (60, 90), b"\0\0\0\0\0\0\0\x04\0")).check(&[
        "deliver 4 Some(\"work\") m4 {}/2 Some(Reject { requeue: false })",
        "settle 4 Reject { requeue: false } 1",
    ]);
    talk.send(Client, close(1, 20, 40, 200, "bye")).check(&[]);
    talk.send(Server, method(1, (20, 41), b""));
    talk.check(&["channel.close \"\" None", "deliver 5 Some(\"work\") m5 {}/2 None (Cut)"]);
}

#[test]
fn deliveries_without_acknowledgements_are_over_at_their_last_byte() {
    let mut talk = Talk::client();
    // A tag made by the server is known from its answer; the queue named by the declaration.
    let declare = method(1, (50, 10), &[&[0, 0][..], &short(""), &[0, 0, 0, 0, 0]].concat());
    talk.hello().send(Client, declare);
    talk.send(Server, method(1, (50, 11), &[&short("amq.gen-1")[..], &[0; 8]].concat()));
    talk.send(Client, consume(1, "", "", 2)).send(Server, method(1, (60, 21), &short("ctag")));
    talk.check(&["queue.declare \"amq.gen-1\" None", "basic.consume \"amq.gen-1\" None"]);
    talk.deliver(1).check(&["deliver 1 Some(\"amq.gen-1\") m1 {}/2 None (no answer)"]);
}

#[test]
fn gets_carry_their_message_or_nothing() {
    let get = method(1, (60, 70), &[&[0, 0][..], &short("work"), &[0]].concat());
    let ok =
        method(1, (60, 71), &[&7_u64.to_be_bytes()[..], &[0], &short("e"), &short("k"), &[0; 4]].concat());
    let mut talk = Talk::client();
    talk.hello().send(Client, &get).send(Server, method(1, (60, 72), b"\0")).check(&["get empty"]);
    talk.send(Client, &get).send(Server, [ok, content(1, "m", b"{}", 9)].concat());
    talk.check(&["get 7 Some(\"work\") m {}/2"]);
    talk.send(Client, ack(1, 80, 0, 1)).check(&["settle 0 Ack 1"]);
    assert_eq!(talk.session.open_count, 0);
}

#[test]
fn recover_gives_deliveries_back() {
    let mut talk = Talk::client();
    talk.hello().deliver(1).send(Client, method(1, (60, 110), b"\x01"));
    talk.check(&["deliver 1 None m1 {}/2 Some(Nack { requeue: true })"]);
    talk.send(Server, method(1, (60, 111), b"")).check(&["basic.recover \"\" None"]);
}

#[test]
fn what_the_server_says_by_itself_is_relayed() {
    let mut talk = Talk::client();
    talk.hello()
        .send(Client, consume(1, "work", "ctag", 0))
        .send(Server, method(1, (60, 21), &short("ctag")))
        .events();
    talk.send(Server, method(0, (10, 60), &short("low on memory")));
    talk.send(Server, method(0, (10, 61), b""));
    talk.send(Server, method(1, (60, 30), &[&short("ctag")[..], &[1]].concat()));
    let closed = talk.events().into_iter().filter_map(|event| match event {
        Event::Closed(operation) => Some((operation.shape, line(&operation))),
        _ => None,
    });
    let operations: Vec<_> = closed.collect();
    let relayed = |line: &str| (OpSide::Relayed, line.to_owned());
    assert_eq!(
        operations,
        [relayed("connection.blocked \"\" None"), relayed("basic.cancel \"work\" None (no answer)"),]
    );
    assert_eq!(talk.session.consumer_count, 0);
}

#[test]
fn on_the_broker_everything_is_relayed() {
    let mut talk = Talk::new(Role::Server, &Protocols::default());
    talk.hello().publish("m1").deliver(1).send(Client, ack(1, 80, 1, 0));
    for event in talk.events() {
        match event {
            Event::Opened { shape, .. } => assert_eq!(shape, OpSide::Relayed),
            Event::Closed(operation) => {
                assert_eq!((operation.shape, operation.role), (OpSide::Relayed, Role::Server))
            }
            _ => {}
        }
    }
}

#[test]
fn channels_interleave_frame_by_frame() {
    let mut talk = Talk::client();
    talk.hello().channel(2);
    for bytes in [
        publish(1, "a", "1", false),
        publish(2, "b", "2", false),
        header(2, 4, "two"),
        header(1, 4, "one"),
        frame(3, 1, b"on"),
        frame(3, 2, b"tw"),
        frame(8, 0, b""),
        frame(3, 2, b"o!"),
        frame(3, 1, b"e!"),
    ] {
        talk.send(Client, bytes);
    }
    talk.check(&[
        "publish b:2 two two!/4 Unconfirmed (no answer)",
        "publish a:1 one one!/4 Unconfirmed (no answer)",
    ]);
}

#[test]
fn an_empty_body_has_no_frame() {
    let mut talk = Talk::client();
    talk.hello().send(Client, [publish(1, "a", "b", false), header(1, 0, "")].concat());
    talk.check(&["publish a:b - /0 Unconfirmed (no answer)"]);
}

#[test]
fn unknown_methods_are_skipped_and_counted() {
    let mut talk = Talk::client();
    talk.hello().events();
    talk.send(Client, method(1, (60, 200), b"credit")).publish("m1");
    let events = talk.events();
    assert_eq!(events[0], Event::Discarded { reason: Discard::Invalid, bytes: 10 });
    assert!(matches!(&events[3], Event::Closed(operation) if line(operation).contains("m1")));
}

// Joined in the middle

#[test]
fn a_publish_after_joining_is_found_behind_the_tail_of_another() {
    let mut talk = Talk::client();
    let tail = b"of a body that began before\xce";
    talk.send(Client, [&tail[..], &publish(1, "a", "b", false), &content(1, "m", b"{}", 9)].concat());
    let events = talk.events();
    assert_eq!(events[0], Event::Discarded { reason: Discard::Unsynchronised, bytes: tail.len() as u64 });
    let Some(Event::Closed(operation)) = events.last() else { panic!("{events:?}") };
    assert_eq!(line(operation), "publish a:b m {}/2 Unknown (no answer)");
    assert_eq!(action(operation).vhost, None);
    assert_eq!(operation.request.start.pos, tail.len() as u64);
}

#[test]
fn content_without_its_method_is_stepped_over() {
    let mut talk = Talk::client();
    talk.send(
        Client,
        [content(1, "m", b"{}", 9), publish(1, "a", "b", false), content(1, "m", b"{}", 9)].concat(),
    );
    let discarded: u64 = talk
        .events()
        .iter()
        .map(|event| match event {
            Event::Discarded { reason: Discard::Unsynchronised, bytes } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(discarded, 16 + 2, "payloads of the header and the body frame");
}

#[test]
fn the_default_exchange_tells_the_queue_of_an_older_subscription() {
    let deliver = |consumer: &str, tag: u64, exchange: &str, key: &str, header: Vec<u8>| {
        let address = [short(exchange), short(key)].concat();
        let arguments = [&short(consumer)[..], &tag.to_be_bytes(), &[0], &address].concat();
        [method(1, (60, 60), &arguments), header].concat()
    };
    let plain = || header(1, 0, "m");
    // A header table with `CC`: an array of one string.
    let copied = || {
        let entry = [&short("CC")[..], b"A\0\0\0\x06S\0\0\0\x01b"].concat();
        let table = [&(entry.len() as u32).to_be_bytes()[..], &entry].concat();
        let fixed = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x20\0";
        frame(2, 1, &[&fixed[..], &table].concat())
    };
    let mut talk = Talk::client();
    let mut tag = 0;
    let mut queue_of = |consumer: &str, exchange: &str, key: &str, header: Vec<u8>| {
        tag += 1;
        talk.send(Server, deliver(consumer, tag, exchange, key, header)).send(Client, ack(1, 80, tag, 0));
        let queues = talk.events().into_iter().filter_map(|event| match event {
            Event::Closed(operation) => match action(&operation).kind.clone() {
                ActionKind::Deliver(deliver) => Some(deliver.queue),
                _ => None,
            },
            _ => None,
        });
        let queues: Vec<_> = queues.collect();
        let [queue] = queues.as_slice() else { panic!("{queues:?}") };
        queue.clone()
    };
    // Before it is known, of a message of the default exchange, and from then on.
    assert_eq!(queue_of("a", "orders", "created", plain()), None);
    assert_eq!(queue_of("a", "", "work", plain()).as_deref(), Some("work"));
    assert_eq!(queue_of("a", "orders", "created", plain()).as_deref(), Some("work"));
    // Two queues for one consumer cannot be: copies were sent, and it is not told where.
    assert_eq!(queue_of("a", "", "other", plain()), None);
    assert_eq!(queue_of("a", "", "work", plain()), None);
    // With `CC`, the routing key is that of another queue, perhaps.
    assert_eq!(queue_of("b", "", "work", copied()), None);
    assert_eq!(queue_of("b", "", "work", plain()), None);
    let answers = "amq.rabbitmq.reply-to";
    assert_eq!(queue_of("c", "", "amq.rabbitmq.reply-to.g1h2", plain()).as_deref(), Some(answers));
}

#[test]
fn queue_and_terms_of_an_older_subscription_are_unknown() {
    let mut talk = Talk::client();
    talk.deliver(7).send(Client, ack(1, 80, 7, 0));
    talk.check(&["deliver 7 None m7 {}/2 Some(Ack)", "settle 7 Ack 1"]);
}

#[test]
fn confirms_of_a_joined_channel_are_matched_after_silence() {
    let unknown = |id: &str| format!("publish orders:created {id} {{}}/2 Unknown (no answer)");
    let mut talk = Talk::client();
    for tag in 40..43 {
        let id = format!("m{tag}");
        talk.publish(&id).check(&[&unknown(&id)]);
        talk.send(Server, ack(1, 80, tag, 0)).check(&[]);
    }
    talk.tick += 3 * SECOND;
    talk.publish("m43").check(&[]);
    talk.send(Server, ack(1, 80, 43, 0)).check(&["publish orders:created m43 {}/2 Confirmed"]);
    // A contradiction: nothing is attributed, and nothing is until it is learned again.
    talk.publish("m44").send(Server, ack(1, 80, 50, 0));
    talk.check(&["publish orders:created m44 {}/2 Unknown (Abandoned)"]);
    talk.publish("m51").check(&[&unknown("m51")]);
}

// Gaps

#[test]
fn a_gap_inside_a_body_is_stepped_over() {
    let mut talk = Talk::client();
    let bytes = [publish(1, "a", "b", false), content(1, "m", &[b'x'; 5000], 5000)].concat();
    let at = bytes.len() - 3000;
    talk.hello().send(Client, &bytes[..at]).gap(Client, 2000).send(Client, &bytes[at + 2000..]).publish("m2");
    talk.check(&[
        "publish a:b m 2001bytes/5000 holed Unconfirmed (Gap(2000))",
        "publish orders:created m2 {}/2 Unconfirmed (no answer)",
    ]);
}

#[test]
fn a_gap_to_the_end_of_a_frame_keeps_the_boundary() {
    let mut talk = Talk::client();
    let bytes = [publish(1, "a", "b", false), content(1, "m", &[b'x'; 500], 500)].concat();
    for cut in [1, 2, 300] {
        talk.hello().send(Client, &bytes[..bytes.len() - cut]).gap(Client, cut).publish("m2");
        let missing = cut - 1;
        let first = match missing {
            0 => "publish a:b m 500bytes/500 Unconfirmed (no answer)".to_owned(),
            _ => format!("publish a:b m {}bytes/500 holed Unconfirmed (Gap({missing}))", 500 - missing),
        };
        talk.check(&[&first, "publish orders:created m2 {}/2 Unconfirmed (no answer)"]);
        talk = Talk::client();
    }
}

#[test]
fn a_body_that_was_whole_before_the_boundary_was_lost_is_whole() {
    let bytes = [publish(1, "a", "b", false), content(1, "m", b"body", 100)].concat();
    let mut talk = Talk::client();
    talk.hello().send(Client, &bytes[..bytes.len() - 1]).gap(Client, 50).publish("m2");
    talk.check(&[
        "publish a:b m body/4 Unconfirmed (no answer)",
        "publish orders:created m2 {}/2 Unconfirmed (no answer)",
    ]);
}

#[test]
fn a_body_goes_on_behind_a_gap_over_several_frames() {
    let content = content(1, "m", &[b'x'; 1050], 100);
    let bytes = [publish(1, "a", "b", false), content].concat();
    // From the middle of the third body frame to the middle of the sixth: the seventh is where it must be.
    let first = bytes.len() - (10 * 108 + 58);
    let (from, to) = (first + 2 * 108 + 50, first + 5 * 108 + 50);
    let mut talk = Talk::client();
    talk.hello().send(Client, &bytes[..from]).gap(Client, to - from).send(Client, &bytes[to..]).publish("m2");
    talk.check(&[
        "publish a:b m 243bytes/1050 holed Unconfirmed (Gap(357))",
        "publish orders:created m2 {}/2 Unconfirmed (no answer)",
    ]);
}

#[test]
fn a_gap_over_the_end_of_a_message_ends_it_there() {
    let first = [publish(1, "a", "b", false), content(1, "m1", &[b'x'; 250], 100)].concat();
    let second = [publish(1, "a", "b", false), content(1, "m2", &[b'y'; 250], 100)].concat();
    let bytes = [first.clone(), second].concat();
    // The gap ends in the second message's body: its first whole frame is no continuation of the first message.
    let (from, to) = (first.len() - 100, bytes.len() - 60);
    let mut talk = Talk::client();
    talk.hello().send(Client, &bytes[..from]).gap(Client, to - from).send(Client, &bytes[to..]).publish("m3");
    talk.check(&[
        "publish a:b m1 159bytes/250 holed Unconfirmed (Gap(91))",
        "publish orders:created m3 {}/2 Unconfirmed (no answer)",
    ]);
}

#[test]
fn a_gap_in_the_properties_leaves_the_length() {
    let bytes = [publish(1, "a", "b", false), content(1, "message-id", b"body", 100)].concat();
    let at = publish(1, "a", "b", false).len() + 7 + 14 + 3;
    let mut talk = Talk::client();
    talk.hello().send(Client, &bytes[..at]).gap(Client, 4).send(Client, &bytes[at + 4..]).publish("m2");
    let closed: Vec<_> = talk
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Closed(operation) => action(&operation).kind.content().cloned().zip(Some(operation)),
            _ => None,
        })
        .collect();
    assert_eq!(line(&closed[0].1), "publish a:b - body/4 Unconfirmed (Gap(4))");
    assert!(closed[0].0.properties_cut);
    assert_eq!(closed[0].0.canonical_digest(), None);
    assert_eq!(line(&closed[1].1), "publish orders:created m2 {}/2 Unconfirmed (no answer)");
}

#[test]
fn after_lost_publishes_confirms_are_not_guessed() {
    let mut talk = Talk::client();
    talk.hello().confirm().publish("m1").gap(Client, 200).publish("m2");
    talk.check(&["publish orders:created m2 {}/2 Unknown (no answer)"]);
    // The first one's number is certain.
    talk.send(Server, ack(1, 80, 3, 1)).check(&["publish orders:created m1 {}/2 Confirmed"]);
}

#[test]
fn a_dropped_record_costs_only_what_it_touches() {
    let mut records = Vec::new();
    for number in 0..12 {
        let message =
            [publish(1, "e", "k", false), content(1, &format!("m{number}"), &[b'b'; 30], 20)].concat();
        // Records begin and end anywhere in messages.
        records.extend(message.chunks(37).map(<[u8]>::to_vec));
    }
    let run = |dropped: Option<usize>| {
        let mut talk = Talk::client();
        talk.hello().closed();
        for (index, record) in records.iter().enumerate() {
            if Some(index) == dropped {
                talk.gap(Client, record.len());
            } else {
                talk.send(Client, record);
            }
        }
        talk.closed()
    };
    let whole = run(None);
    assert_eq!(whole.len(), 12);
    for dropped in 0..records.len() {
        let lines = run(Some(dropped));
        let exact = lines.iter().filter(|line| whole.contains(line)).count();
        assert!(exact >= 10, "{dropped}: {lines:?}");
        let (before, after) = (dropped / 3, 12 - (dropped / 3 + 2).min(12));
        assert_eq!(lines[..before], whole[..before], "{dropped}");
        assert_eq!(lines[lines.len() - after..], whole[12 - after..], "{dropped}");
    }
}

#[test]
fn a_lost_answer_is_no_failure_and_the_next_is_not_taken_for_it() {
    let error = close(1, 20, 40, 404, "NOT_FOUND");
    let mut talk = Talk::client();
    // Its confirm may be among the lost bytes: it did not fail for certain, and what failed is what came after.
    talk.hello().confirm().publish("m1").gap(Server, 21).publish("m2").send(Server, &error);
    talk.check(&[
        "publish orders:created m1 {}/2 Unconfirmed (Gap(21))",
        "publish orders:created m2 {}/2 Error { code: 404, text: \"NOT_FOUND\" }",
    ]);
    // Several at once: the first of them may have been refused before.
    let mut talk = Talk::client();
    talk.hello().confirm().publish("m1").gap(Server, 21).publish("m2").send(Server, ack(1, 80, 2, 1));
    talk.check(&[
        "publish orders:created m1 {}/2 Unconfirmed (Gap(21))",
        "publish orders:created m2 {}/2 Confirmed",
    ]);
    // The end of the connection is no failure of what may have been confirmed.
    let mut talk = Talk::client();
    talk.hello().confirm().publish("m1").gap(Server, 21).end();
    talk.check(&["publish orders:created m1 {}/2 Unconfirmed (Gap(21))"]);
    // A get whose message was lost does not get the next one's.
    let get = |queue: &str| method(1, (60, 70), &[&[0, 0][..], &short(queue), &[1]].concat());
    let mut talk = Talk::client();
    talk.hello().send(Client, get("first")).gap(Server, 90).send(Client, get("second"));
    talk.check(&["get empty (Gap(90))"]);
    talk.send(Server, method(1, (60, 72), b"\0")).check(&["get empty"]);
}

#[test]
fn what_lost_bytes_of_the_client_said_is_unknown() {
    let declare = |queue: &str| method(1, (50, 10), &[&[0, 0][..], &short(queue), &[0; 5]].concat());
    let declared = |queue: &str| method(1, (50, 11), &[&short(queue)[..], &[0; 8]].concat());
    let subscribed = |tag: &str| method(1, (60, 21), &short(tag));
    let mut talk = Talk::client();
    // "The last declared queue" may have been declared in them.
    talk.hello().send(Client, declare("first")).send(Server, declared("first")).closed();
    talk.gap(Client, 40).send(Client, consume(1, "", "ctag", 0)).send(Server, subscribed("ctag"));
    talk.deliver(1).send(Client, ack(1, 80, 1, 0));
    talk.check(&["basic.consume \"\" None", "deliver 1 None m1 {}/2 Some(Ack)", "settle 1 Ack 1"]);
    // An answer to a subscription that was not seen is not that to another one, and ends what was known of its tag.
    talk.gap(Client, 40).send(Client, consume(1, "other", "btag", 0)).send(Server, subscribed("ctag"));
    talk.check(&[]);
    talk.send(Server, subscribed("btag")).check(&["basic.consume \"other\" None"]);
    talk.deliver(2).send(Client, ack(1, 80, 2, 0));
    talk.check(&["deliver 2 None m2 {}/2 Some(Ack)", "settle 2 Ack 1"]);
    // A declaration that was not seen does not give its name to another one.
    talk.gap(Client, 40).send(Client, declare("mine")).send(Server, declared("theirs")).check(&[]);
    talk.send(Server, declared("mine")).check(&["queue.declare \"mine\" None"]);
}

#[test]
fn how_many_a_settlement_means_is_not_counted_over_a_loss() {
    let mut talk = Talk::client();
    talk.hello().deliver(1).gap(Server, 90).deliver(3).send(Client, ack(1, 80, 3, 1));
    talk.check(&[
        "deliver 1 None m1 {}/2 Some(Ack)",
        "deliver 3 None again m3 {}/2 Some(Ack)",
        "settle 3 Ack 0",
    ]);
    talk.deliver(4).deliver(5).send(Client, ack(1, 80, 5, 1)).closed();
    // What was settled in lost bytes cannot be told either.
    talk.deliver(6).deliver(7).gap(Client, 21).deliver(8).send(Client, ack(1, 80, 8, 1));
    talk.check(&[
        "deliver 6 None m6 {}/2 None (Gap(21))",
        "deliver 7 None m7 {}/2 None (Gap(21))",
        "deliver 8 None m8 {}/2 Some(Ack)",
        "settle 8 Ack 0",
    ]);
    talk.deliver(9).deliver(10).send(Client, ack(1, 80, 10, 1));
    talk.check(&[
        "deliver 9 None m9 {}/2 Some(Ack)",
        "deliver 10 None m10 {}/2 Some(Ack)",
        "settle 10 Ack 2",
    ]);
}

// Bounds

#[test]
fn large_bodies_are_skipped_past_what_is_kept() {
    let limits = Protocols { kept_body_bytes: 2000, ..Protocols::default() };
    let mut talk = Talk::new(Role::Client, &limits);
    talk.hello().send(Client, [publish(1, "a", "b", false), header(1, 100_000, "")].concat());
    assert_eq!(talk.session.want(Client), Want::All);
    let body = frame(3, 1, &vec![b'x'; 100_000]);
    talk.send(Client, &body[..1000]);
    assert_eq!(talk.session.want(Client), Want::All);
    talk.send(Client, &body[1000..2007]);
    assert_eq!(talk.session.want(Client), Want::Skip(98_000));
    assert_eq!(talk.session.want(Server), Want::All);
    talk.gap(Client, 98_000).send(Client, &body[100_007..]).publish("m2");
    assert_eq!(
        talk.closed(),
        [
            "publish a:b - 2000bytes/100000 Unconfirmed (Gap(98000))",
            "publish orders:created m2 {}/2 Unconfirmed (no answer)",
        ]
    );
}

#[test]
fn open_operations_are_bounded() {
    let limits = Protocols { max_open_operations: 3, ..Protocols::default() };
    let mut talk = Talk::new(Role::Client, &limits);
    talk.hello();
    for tag in 1..=5 {
        talk.deliver(tag);
    }
    talk.check(&["deliver 1 None m1 {}/2 None (Abandoned)", "deliver 2 None m2 {}/2 None (Abandoned)"]);
    assert_eq!(talk.session.open_count, 3);
}

#[test]
fn open_operations_hold_a_bounded_number_of_bytes() {
    let mut talk = Talk::client();
    talk.hello();
    let body = vec![b'x'; 60_000];
    for tag in 1..=600 {
        talk.send(Server, [deliver(1, "c", tag, false), content(1, "", &body, 60_000)].concat());
        assert!(talk.session.held_bytes <= super::session::MAX_HELD_BYTES);
    }
    // Half the bound at 60,000 bytes each, then 1,024 bytes each.
    let held = talk.session.held_bytes;
    assert!((8 << 20..10 << 20).contains(&held), "{held}");
    talk.send(Client, ack(1, 80, 0, 1));
    assert_eq!((talk.session.held_bytes, talk.session.open_count), (0, 0));
}

#[test]
fn what_is_never_answered_is_given_up() {
    let mut talk = Talk::client();
    talk.hello().confirm().publish("m1").deliver(1).closed();
    talk.session.timeout(ns(61 * SECOND), &mut talk.events);
    // Subscribed before we came, and nothing is ever settled: it need not be.
    talk.check(&["deliver 1 None m1 {}/2 None (Abandoned)"]);
    talk.session.timeout(ns(3599 * SECOND), &mut talk.events);
    talk.check(&[]);
    talk.session.timeout(ns(3601 * SECOND), &mut talk.events);
    talk.check(&["publish orders:created m1 {}/2 Unconfirmed (Abandoned)"]);

    // The answer may have been lost.
    talk.publish("m2").gap(Server, 50);
    talk.session.timeout(ns(29 * SECOND), &mut talk.events);
    talk.check(&[]);
    talk.session.timeout(ns(31 * SECOND), &mut talk.events);
    talk.check(&["publish orders:created m2 {}/2 Unconfirmed (Gap(50))"]);
}

#[test]
fn channels_are_bounded() {
    let mut talk = Talk::client();
    for number in 1..=3000 {
        talk.send(Server, ack(number, 80, 1, 0));
    }
    assert_eq!(talk.session.channels.len(), super::session::MAX_CHANNELS);
}

// Every prefix, every split, anything

/// A conversation with all of it, as frames.
fn conversation() -> Vec<(Sender, Vec<u8>)> {
    let mut all = vec![
        (Client, PROTOCOL_HEADER.to_vec()),
        (Server, start()),
        (Client, start_ok()),
        (Server, tune(4096)),
        (Client, method(0, (10, 31), b"\x00\x10\x00\x00\x10\x00\x00\x3c")),
        (Client, method(0, (10, 40), b"\x01/\0\0")),
        (Server, method(0, (10, 41), b"\0")),
    ];
    for channel in [1, 2] {
        all.push((Client, method(channel, (20, 10), b"\0")));
        all.push((Server, method(channel, (20, 11), &[0; 4])));
    }
    all.push((Client, method(1, (85, 10), b"\0")));
    all.push((Server, method(1, (85, 11), b"")));
    all.push((Client, consume(2, "work", "ctag", 0)));
    all.push((Server, method(2, (60, 21), &short("ctag"))));
    for tag in 1..=3_u64 {
        let body = vec![tag as u8; 150];
        all.push((Client, [publish(1, "e", "k", true), content(1, "id", &body, 60)].concat()));
        all.push((Server, [deliver(2, "ctag", tag, false), content(2, "id", &body, 60)].concat()));
        all.push((Client, frame(8, 0, b"")));
        all.push((Server, ack(1, 80, tag, 0)));
        all.push((Client, ack(2, 80, tag, 0)));
    }
    all.push((Client, close(0, 10, 50, 200, "bye")));
    all.push((Server, method(0, (10, 51), b"")));
    all
}

/// All operations, each byte moved at a time that its position gives.
fn operations(records: impl IntoIterator<Item = (Sender, Vec<u8>)>) -> Vec<Operation> {
    let mut talk = Talk::client();
    for (from, bytes) in records {
        talk.tick = 0;
        talk.send(from, bytes);
    }
    let events = talk.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Discarded { .. })), "{events:?}");
    let closed = events.into_iter().filter_map(|event| match event {
        Event::Closed(operation) => Some(*operation),
        _ => None,
    });
    closed.collect()
}

#[test]
fn every_prefix_is_incomplete_and_nothing_else() {
    let all = conversation();
    let whole = operations(all.clone());
    assert_eq!(whole.len(), 16);
    for last in 0..all.len() {
        let (from, bytes) = &all[last];
        for end in 0..bytes.len() {
            let mut part = all[..last].to_vec();
            part.push((*from, bytes[..end].to_vec()));
            let closed = operations(part);
            assert_eq!(closed[..], whole[..closed.len()]);
        }
    }
}

proptest::proptest! {
    #[test]
    fn every_split_gives_the_same_operations(cuts in proptest::collection::vec(1_usize..40, 1..60)) {
        let mut cuts = cuts.iter().cycle();
        let mut records = Vec::new();
        for (from, bytes) in conversation() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                records.push((from, head.to_vec()));
                rest = tail;
            }
        }
        proptest::prop_assert_eq!(operations(records), operations(conversation()));
    }

    #[test]
    fn merged_frames_give_the_same_operations(seed in 0_usize..8) {
        // Runs of one sender in one record.
        let mut records: Vec<(Sender, Vec<u8>)> = Vec::new();
        for (index, (from, bytes)) in conversation().into_iter().enumerate() {
            match records.last_mut() {
                Some(last) if last.0 == from && index % 8 != seed => last.1.extend_from_slice(&bytes),
                _ => records.push((from, bytes)),
            }
        }
        proptest::prop_assert_eq!(operations(records), operations(conversation()));
    }

    #[test]
    fn random_bytes_and_gaps_never_panic_and_every_operation_closes_once(
        records in proptest::collection::vec(
            (proptest::bool::ANY, 0_usize..60, proptest::num::u16::ANY, proptest::collection::vec(proptest::num::u8::ANY, 0..40)),
            0..60,
        )
    ) {
        let all = conversation();
        let mut talk = Talk::new(Role::Client, &Protocols { max_open_operations: 4, ..Protocols::default() });
        for (is_server, index, bits, noise) in records {
            let from = if is_server { Server } else { Client };
            match bits % 5 {
                0 => { talk.send(from, noise); }
                1 => { talk.gap(from, usize::from(bits >> 3) % 400); }
                2 => {
                    // A valid frame with one byte changed.
                    let (from, mut bytes) = all[index % all.len()].clone();
                    let at = usize::from(bits) % bytes.len();
                    bytes[at] ^= 1 << (bits % 8);
                    talk.send(from, bytes);
                }
                _ => {
                    let (from, bytes) = all[index % all.len()].clone();
                    talk.send(from, bytes);
                }
            }
        }
        talk.end();
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for event in talk.events() {
            match event {
                Event::Opened { op, .. } => opened.push(op),
                Event::Requested { op, .. } => {
                    proptest::prop_assert!(opened.contains(&op) && !closed.contains(&op));
                }
                Event::Sent(operation) => {
                    proptest::prop_assert!(opened.contains(&operation.id) && !closed.contains(&operation.id));
                }
                Event::Closed(operation) => closed.push(operation.id),
                Event::Discarded { .. } | Event::Missed { .. } | Event::Unread { .. } | Event::Hidden { .. } | Event::UnreadOver { .. } | Event::Read => {}
            }
        }
        opened.sort();
        closed.sort();
        proptest::prop_assert_eq!(opened, closed);
        proptest::prop_assert_eq!((talk.session.open_count, talk.session.held_bytes), (0, 0));
    }
}
