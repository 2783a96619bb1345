//! Input made to hurt: every parser stays bounded, linear in its input, and counts what it leaves out.
//!
//! Cost is CPU time of this thread, so that a busy machine changes nothing.
//!
//! Long because each parser has its own hostile input, written out.

use std::time::Duration;

use spoor_core::operation::amqp::ActionKind;
use spoor_core::operation::{Detail, Operation};
use spoor_core::protocol::detect::Detector;
use spoor_core::protocol::{Discard, End, Event, Events, Protocol};
use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{Direction, Mark, Role, Sender};
use spoor_core::settings::Protocols;
use spoor_core::sql;
use spoor_core::time::BootTime;
use spoor_tests::measure::cpu;
use spoor_tests::transcript::wire;

/// Makes about so many bytes of hostile input.
type Make<'a> = dyn Fn(usize) -> Vec<u8> + 'a;

/// What a session said: operations, and bytes discarded by reason.
#[derive(Debug, Default)]
struct Told {
    operations: Vec<Operation>,
    events: usize,
    limited: u64,
    invalid: u64,
}

/// Feeds what both sides sent, in reads of `piece` bytes.
fn feed(protocol: Protocol, sent: &[(Sender, Vec<u8>)], piece: usize) -> Told {
    let mut session = protocol.session(Role::Server, &Protocols::default());
    let (mut out, mut told) = (Events::default(), Told::default());
    let (mut pos, mut at) = ([0u64; 2], 0);
    let mut drain = |out: &mut Events| {
        while let Some(event) = out.pop() {
            told.events += 1;
            match event {
                Event::Closed(operation) => told.operations.push(*operation),
                Event::Discarded { reason: Discard::Limit, bytes } => told.limited += bytes.max(1),
                Event::Discarded { reason: Discard::Invalid, bytes } => told.invalid += bytes.max(1),
                _ => {}
            }
        }
    };
    for (from, bytes) in sent {
        for part in bytes.chunks(piece) {
            at += 1;
            let pos = &mut pos[*from as usize];
            session.bytes(
                *from,
                *pos,
                part,
                Mark { at: BootTime::from_nanos(at), ..Mark::default() },
                &mut out,
            );
            *pos += part.len() as u64;
            drain(&mut out);
        }
    }
    session.end(End::Closed, BootTime::from_nanos(at + 1), &mut out);
    drain(&mut out);
    told
}

fn cost(mut run: impl FnMut()) -> Duration {
    let one = |run: &mut dyn FnMut()| {
        let start = cpu();
        run();
        cpu() - start
    };
    (0..2).map(|_| one(&mut run)).min().unwrap_or_default()
}

/// Eight times the input costs at most twenty times as much; quadratic would be sixty-four. Says what is not so.
fn not_linear(name: &str, run: impl Fn(usize)) -> Option<String> {
    const LEN: usize = 16 << 10;
    let (small, large) = (cost(|| run(LEN)), cost(|| run(8 * LEN)));
    let most = small * 20 + Duration::from_millis(20);
    (large > most).then(|| format!("{name}: {small:?} for {LEN} bytes, {large:?} for eight times as many"))
}

#[track_caller]
fn assert_linear(name: &str, run: impl Fn(usize)) {
    assert_eq!(not_linear(name, run), None);
}

const PIECES: [usize; 2] = [1, 1 << 16];

/// What `from` sends after `before`, of any length, costs no more than its length, also when the connection is joined in
/// mid-stream.
#[track_caller]
fn assert_cheap(protocol: Protocol, before: &[(Sender, Vec<u8>)], from: Sender, name: &str, make: &Make<'_>) {
    for piece in PIECES {
        assert_linear(&format!("{name} in pieces of {piece}"), |len| {
            let sent = [before, &[(from, make(len))]].concat();
            let told = feed(protocol, &sent, piece);
            assert!(told.events <= 64 + 4 * len, "{name}: {} events", told.events);
        });
        // A byte that begins nothing.
        assert_linear(&format!("{name} in pieces of {piece}, joined late"), |len| {
            feed(protocol, &[(from, [b"\xff".to_vec(), make(len)].concat())], piece);
        });
    }
}

/// Input made to hurt each protocol. For a new one, the compiler asks for it here.
fn hostile_input(protocol: Protocol) -> fn() {
    match protocol {
        Protocol::Http1 => http_costs_are_linear,
        Protocol::Http2 => http2_costs_are_linear,
        Protocol::Amqp => amqp_costs_are_linear,
        Protocol::Postgres => postgres_costs_are_linear,
        Protocol::FastCgi => fastcgi_costs_are_linear,
        Protocol::Scgi => scgi_costs_are_linear,
        Protocol::Uwsgi => uwsgi_costs_are_linear,
    }
}

#[test]
fn every_protocol_costs_no_more_than_its_input_is_long() {
    std::thread::scope(|scope| {
        for protocol in Protocol::ALL {
            scope.spawn(hostile_input(protocol));
        }
    });
}

fn http_costs_are_linear() {
    let head = |headers: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}");
    let chunked = head("Transfer-Encoding: chunked\r\n\r\n");
    let form = head(
        "Content-Type: multipart/form-data; boundary=bb\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    );
    let cases: [(&str, String, &str); 11] = [
        ("endless header lines", head(""), "a: b\r\n"),
        ("one endless header", head("a: "), "x"),
        ("endless folds", head("a: b\r\n"), " c\r\n"),
        ("endless names", head(""), "a"),
        ("an endless target", "GET /".to_owned(), "a"),
        ("empty lines", String::new(), "\r\n"),
        ("chunks of one byte", chunked.clone(), "1\r\nx\r\n"),
        ("an endless chunk extension", format!("{chunked}5;"), "x=y;"),
        ("an endless trailer", format!("{chunked}0\r\n"), "a: b\r\n"),
        ("beginnings of a boundary", form, "\r\n--b"),
        ("pipelined requests", String::new(), "GET / HTTP/1.1\r\n\r\n"),
    ];
    for (name, start, part) in cases {
        for piece in PIECES {
            assert_linear(&format!("{name} in pieces of {piece}"), |len| {
                let bytes = format!("{start}{}", part.repeat(len / part.len())).into_bytes();
                let told = feed(Protocol::Http1, &[(Client, bytes)], piece);
                assert!(told.events <= 16 + 4 * len, "{name}: {} events", told.events);
            });
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    assert_linear("interim responses", |len| {
        let many = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(len / 25);
        let sent = [(Client, b"GET / HTTP/1.1\r\n\r\n".to_vec()), (Server, [many, answer.clone()].concat())];
        assert_eq!(feed(Protocol::Http1, &sent, 100).operations.len(), 1);
    });
}

fn fastcgi_costs_are_linear() {
    let record = |kind: u8, id: u16, content: &[u8]| {
        let (id, len) = (id.to_be_bytes(), (content.len() as u16).to_be_bytes());
        [&[1, kind, id[0], id[1], len[0], len[1], 0, 0][..], content].concat()
    };
    let begin = |id: u16| record(1, id, &[0, 1, 1, 0, 0, 0, 0, 0]);
    let repeat = |part: Vec<u8>| move |len: usize| part.repeat(len / part.len() + 1);
    let opened = [(Client, begin(1))];
    assert_cheap(Protocol::FastCgi, &opened, Client, "empty variables", &repeat(record(4, 1, &[0, 0])));
    assert_cheap(Protocol::FastCgi, &opened, Client, "records of one byte", &repeat(record(5, 1, b"x")));
    assert_cheap(Protocol::FastCgi, &opened, Client, "an endless name", &repeat(record(4, 1, &[0xff; 64])));
    assert_cheap(Protocol::FastCgi, &opened, Client, "requests without an end", &|len| {
        (0..len / 16).flat_map(|n| begin(n as u16 | 1)).collect()
    });
    assert_cheap(Protocol::FastCgi, &opened, Server, "an endless header line", &repeat(record(6, 1, b"x")));
    assert_cheap(
        Protocol::FastCgi,
        &opened,
        Server,
        "endless header lines",
        &repeat(record(6, 1, b"a: b\n")),
    );
    assert_cheap(Protocol::FastCgi, &opened, Server, "empty records", &repeat(record(7, 1, b"")));
}

fn scgi_costs_are_linear() {
    let block = b"CONTENT_LENGTH\x000\0SCGI\x001\0";
    let request = [format!("{}:", block.len()).as_bytes(), block, b","].concat();
    let requests = request.clone();
    assert_cheap(Protocol::Scgi, &[], Client, "requests without an answer", &|len| {
        requests.repeat(len / requests.len())
    });
    assert_cheap(Protocol::Scgi, &[], Client, "a block that does not end", &|len| {
        [&b"60000:CONTENT_LENGTH\0"[..], &vec![b'x'; len]].concat()
    });
    let opened = [(Client, request)];
    assert_cheap(Protocol::Scgi, &opened, Server, "an endless header line", &|len| vec![b'x'; len]);
    assert_cheap(Protocol::Scgi, &opened, Server, "endless header lines", &|len| b"a: b\n".repeat(len / 5));
}

fn uwsgi_costs_are_linear() {
    let block = b"\x0c\0QUERY_STRING\0\0\x0e\0REQUEST_METHOD\x03\0GET";
    let request = [&[0, block.len() as u8, 0, 0][..], block].concat();
    let requests = request.clone();
    assert_cheap(Protocol::Uwsgi, &[], Client, "requests without an answer", &|len| {
        requests.repeat(len / requests.len())
    });
    assert_cheap(Protocol::Uwsgi, &[], Client, "a block that does not end", &|len| {
        [&[0, 0xff, 0xff, 0][..], block, &vec![b'x'; len]].concat()
    });
    let opened = [(Client, request)];
    assert_cheap(Protocol::Uwsgi, &opened, Server, "an endless header line", &|len| vec![b'x'; len]);
    assert_cheap(Protocol::Uwsgi, &opened, Server, "endless header lines", &|len| b"a: b\n".repeat(len / 5));
}

/// So many requests, each on a stream of its own, whose header block is `block`.
fn streams(count: usize, block: &[u8]) -> Vec<u8> {
    (0..count as u32).flat_map(|n| wire::http2_frame(1, 5, 2 * n + 1, block)).collect()
}

/// A header field that enters the table, with a value of so many bytes.
fn entry(len: usize) -> Vec<u8> {
    let digits = |mut rest: usize| {
        let mut bytes = vec![0x7f];
        rest -= 0x7f;
        while rest >= 128 {
            bytes.push(128 | (rest % 128) as u8);
            rest /= 128;
        }
        bytes.push(rest as u8);
        bytes
    };
    [&[0x40, 1, b'a'][..], &digits(len), &vec![b'x'; len]].concat()
}

fn http2_costs_are_linear() {
    let hello = [(Client, wire::http2_hello(true)), (Server, wire::http2_hello(false))];
    let frame = wire::http2_frame;
    // Each reference to the entry costs a byte and means 3,900.
    let bomb = [&[0x82, 0x86, 0x84][..], &entry(3900), &[0xbe; 9000]].concat();
    let bomb = &bomb[..];
    let cases: [(&str, &Make<'_>); 17] = [
        ("PINGs", &|len| frame(6, 0, 0, &[0; 8]).repeat(len / 17)),
        ("SETTINGS", &|len| frame(4, 0, 0, &[0, 1, 0, 0, 16, 0]).repeat(len / 15)),
        ("window updates", &|len| frame(8, 0, 1, &[0, 0, 0, 1]).repeat(len / 13)),
        ("frames of unknown kinds", &|len| frame(77, 0, 1, b"").repeat(len / 9)),
        ("empty DATA", &|len| {
            [frame(1, 4, 1, &[0x83, 0x86, 0x84]), frame(0, 0, 1, b"").repeat(len / 9)].concat()
        }),
        ("padding", &|len| {
            let open = frame(1, 4, 1, &[0x83, 0x86, 0x84]);
            [open, frame(0, 8, 1, &[&[255][..], &[0; 255]].concat()).repeat(len / 265)].concat()
        }),
        ("an endless header block", &|len| {
            let first = frame(1, 1, 1, &[0x82, 0x86, 0x84]);
            [first, frame(9, 0, 1, b"\x40\x01a\x01b").repeat(len / 14)].concat()
        }),
        ("an endless header block without fields", &|len| {
            [frame(1, 1, 1, b""), frame(9, 0, 1, b"").repeat(len / 9)].concat()
        }),
        ("streams that are not closed", &|len| {
            (0..len as u32 / 12).flat_map(|n| frame(1, 4, 2 * n + 1, &[0x82, 0x86, 0x84])).collect()
        }),
        ("streams that are reset", &|len| {
            let both = |n: u32| {
                [frame(1, 4, 2 * n + 1, &[0x82, 0x86, 0x84]), frame(3, 0, 2 * n + 1, &[0; 4])].concat()
            };
            (0..len as u32 / 25).flat_map(both).collect()
        }),
        ("tables that change their size", &|len| {
            streams(len / 20, &[0x20, 0x3f, 0xe1, 0x1f, 0x82, 0x86, 0x84])
        }),
        ("tables full of entries", &|len| streams(len / 18, b"\x82\x86\x84\x40\x01a\x01b\x40")),
        ("references to a large entry", &|len| streams(len / bomb.len() + 1, bomb)),
        ("references to nothing", &|len| streams(len / 5000 + 1, &[0xfe; 5000])),
        ("integers that never end", &|len| streams(len / 5000 + 1, &[0xff; 5000])),
        ("Huffman codes", &|len| {
            let value = [&[0x40, 1, b'a', 0x80 | 120][..], &[0; 120]].concat();
            streams(len / value.len() + 1, &value)
        }),
        ("beginnings of frames", &|len| [0, 0, 9, 1, 4, 0, 0, 0, 1].repeat(len / 9)),
    ];
    for (name, make) in cases {
        assert_cheap(Protocol::Http2, &hello, Client, name, make);
    }
}

#[test]
fn a_header_block_means_no_more_than_is_kept() {
    let bomb = [&[0x82, 0x86, 0x84][..], &entry(3900), &[0xbe; 9000]].concat();
    let sent = [(Client, wire::http2_hello(true)), (Client, streams(1, &bomb))];
    let told = feed(Protocol::Http2, &sent, usize::MAX);
    let [operation] = told.operations.as_slice() else { panic!("{:?}", told.operations) };
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    let kept: usize = exchange.request_headers.iter().map(|field| field.name.len() + field.value.len()).sum();
    assert!(kept <= Protocols::default().max_header_bytes, "{kept} bytes of fields");
    assert!(told.limited > 1 << 20, "35 MB of fields were left out, {} were counted", told.limited);
}

/// A content header whose header table is `table`.
fn header(table: &[u8], body_len: u64) -> Vec<u8> {
    let fixed = [&[0, 60, 0, 0][..], &body_len.to_be_bytes(), &[0x20, 0]].concat();
    wire::frame(2, 1, &[&fixed[..], &(table.len() as u32).to_be_bytes(), table].concat())
}

/// `basic.publish` without its content.
fn publish() -> Vec<u8> {
    wire::frame(1, 1, b"\0\x3c\0\x28\0\0\x01e\x01k\0")
}

fn amqp_costs_are_linear() {
    let start = [(Client, wire::AMQP_HELLO.to_vec())];
    // A table in a table in a table …: each level has a name, the type octet and a length.
    let deep = |len: usize| {
        let levels = (len / 6).min(30_000);
        (0..levels).fold(Vec::new(), |inner: Vec<u8>, level| {
            // Built from the inside out; only the lengths of the outer levels can be true.
            if level > 2_000 {
                return inner;
            }
            [&[1, b'a', b'F'][..], &(inner.len() as u32).to_be_bytes(), &inner].concat()
        })
    };
    let cases: [(&str, &Make<'_>); 9] = [
        ("heartbeats", &|len| wire::frame(8, 0, b"").repeat(len / 8)),
        ("empty bodies", &|len| wire::frame(3, 1, b"").repeat(len / 8)),
        ("unknown methods", &|len| wire::frame(1, 1, b"\0\x3c\x7f\x7f").repeat(len / 12)),
        ("publishes without content", &|len| publish().repeat(len / 19)),
        ("a wide header table", &|len| [publish(), header(&b"\x01aV".repeat(len / 3), 0)].concat()),
        ("a deep header table", &|len| [publish(), header(&deep(len), 0)].concat()),
        ("frames that never end", &|len| {
            [publish(), [1, 0, 1, 0, 1, 0xff, 0xff].to_vec(), vec![1; len]].concat()
        }),
        ("beginnings of frames", &|len| [1, 0, 1, 0, 0, 0].repeat(len / 6)),
        ("channels", &|len| {
            (0..len / 13).flat_map(|n| wire::frame(1, n as u16, b"\0\x14\0\x0a\0")).collect()
        }),
    ];
    for (name, make) in cases {
        assert_cheap(Protocol::Amqp, &start, Client, name, make);
    }
}

#[test]
fn header_tables_are_cut_at_a_bound() {
    let deep = (0..200).fold(Vec::new(), |inner: Vec<u8>, _| {
        [&[1, b'a', b'F'][..], &(inner.len() as u32).to_be_bytes(), &inner].concat()
    });
    let wide = b"\x01aV".repeat(5000);
    // A length that is more than there is, for the table and inside it.
    let long = [&[1, b'a', b'S'][..], &u32::MAX.to_be_bytes(), b"x"].concat();
    for (name, table) in [("deep", deep), ("wide", wide), ("long", long)] {
        let sent = [(Client, [wire::AMQP_HELLO.to_vec(), publish(), header(&table, 0)].concat())];
        let told = feed(Protocol::Amqp, &sent, usize::MAX);
        let [operation] = told.operations.as_slice() else { panic!("{name}: {:?}", told.operations) };
        let Detail::Amqp(action) = &operation.detail else { panic!("{operation:?}") };
        let ActionKind::Publish(publish) = &action.kind else { panic!("{action:?}") };
        assert!(publish.content.properties_cut, "{name} says that it was cut");
        assert!(publish.content.properties.headers.len() <= 1024, "{name}");
        assert_eq!(publish.content.canonical_digest(), None, "{name}: no identity from a part");
    }
}

#[test]
fn announced_lengths_cost_nothing() {
    let hello = wire::AMQP_HELLO.to_vec();
    let huge = [hello, publish(), header(b"", u64::MAX), wire::frame(3, 1, b"body")].concat();
    let told = feed(Protocol::Amqp, &[(Client, huge)], usize::MAX);
    assert_eq!(told.operations.len(), 1);
    let row = [&[b'D'][..], &0x3fff_ffffu32.to_be_bytes(), &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]].concat();
    let told = feed(
        Protocol::Postgres,
        &[(Client, wire::query("SELECT 1")), (Server, row), (Server, vec![b'x'; 1000])],
        usize::MAX,
    );
    assert_eq!(told.operations.len(), 1);
    for size in ["ffffffffffffffff", "7fffffffffffffff"] {
        let request = format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nbody");
        assert_eq!(feed(Protocol::Http1, &[(Client, request.into_bytes())], 7).operations.len(), 1);
    }
    let request = format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\nbody", u64::MAX);
    assert_eq!(feed(Protocol::Http1, &[(Client, request.into_bytes())], 7).operations.len(), 1);
}

fn postgres_costs_are_linear() {
    let parse = |n: usize| wire::pg(b'P', format!("s{n}\0SELECT {n}\0\0\0").as_bytes());
    let bind = |n: usize| wire::pg(b'B', format!("p{n}\0s\0\0\0\0\0\0\0").as_bytes());
    let cases: [(&str, Sender, &Make<'_>); 11] = [
        ("Syncs", Client, &|len| wire::pg(b'S', b"").repeat(len / 5)),
        ("statements", Client, &|len| (0..len / 20).flat_map(parse).collect()),
        ("portals", Client, &|len| (0..len / 20).flat_map(bind).collect()),
        ("executions", Client, &|len| wire::pg(b'E', b"\0\0\0\0\0").repeat(len / 10)),
        ("queries", Client, &|len| wire::query("SELECT 1").repeat(len / 14)),
        ("statements in a query", Client, &|len| wire::query(&"a;".repeat(len / 2))),
        ("parameters", Client, &|len| {
            let count = (len / 4).min(30_000);
            let values = [&(count as u16).to_be_bytes()[..], &[0xff; 4].repeat(count)].concat();
            wire::pg(b'B', &[&b"\0\0\0\0"[..], &values, &[0, 0]].concat())
        }),
        ("readiness", Server, &|len| wire::pg(b'Z', b"I").repeat(len / 6)),
        ("errors", Server, &|len| wire::pg(b'E', b"SERROR\0C42601\0Mno\0\0").repeat(len / 25)),
        ("rows", Server, &|len| wire::pg(b'D', b"\0\x01\0\0\0\x01x").repeat(len / 12)),
        ("columns", Server, &|len| {
            let count = (len / 20).min(1600);
            wire::pg(
                b'T',
                &[&(count as u16).to_be_bytes()[..], &[&b"a\0"[..], &[0; 18]].concat().repeat(count)]
                    .concat(),
            )
        }),
    ];
    let before = [(Client, wire::query("SELECT a FROM b"))];
    for (name, from, make) in cases {
        assert_cheap(Protocol::Postgres, &before, from, name, make);
    }
}

#[test]
fn sql_costs_are_linear_and_depth_costs_no_stack() {
    let mut findings = Vec::new();
    for part in [
        "(",
        ")",
        "[",
        "CASE ",
        "SELECT (",
        "(SELECT 1 FROM ",
        "a,",
        "a.",
        "/*",
        "'",
        "\"",
        "$a$",
        "$a",
        "--\n",
        "+",
        "-- ",
        "$1",
        "a = $1 AND ",
        "WHERE a IN (",
        "VALUES (",
        "($1),",
        ";",
        "é",
        "E'\\",
        "U&'",
        "WITH a AS (",
        "JOIN ",
        "UPDATE a SET b = ",
        "INSERT INTO a (b) ",
        "BEGIN ",
        "CREATE FUNCTION f() BEGIN ATOMIC ",
        "ANY(",
        "::text",
        "NOT ",
        "AND ",
        "(WITH a (",
        "(INSERT INTO a (b) VALUES (",
        "FROM a, ",
        "FROM (a, ",
        "a(",
        "CAST(a AS ",
        "IN (1,",
    ] {
        for start in ["", "SELECT a FROM b WHERE ", "INSERT INTO a (b) VALUES "] {
            let name = format!("{start}{part}");
            findings.extend(not_linear(&name, |len| {
                let text = format!("{start}{}", part.repeat(len / part.len() / 4));
                std::hint::black_box(sql::sanitize(&text));
                std::hint::black_box(sql::summary(&text));
                std::hint::black_box(sql::bindings(&text));
                std::hint::black_box(sql::statements(&text));
                std::hint::black_box(sql::returning_table(&text));
                std::hint::black_box(sql::comment_value(&text, "traceparent"));
                std::hint::black_box(sql::with_explicit_escapes(&text));
            }));
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn detection_is_linear_and_ends() {
    for part in [
        "GET ",
        "HTTP/1.",
        "\x01\0\x01\0\0\0\x0d",
        "\0\0\0\x08",
        "Q\0\0\0\x04",
        "\x16\x03\x01\0\x01\0",
        "\r\n",
        "PRI * ",
        "a",
    ] {
        for piece in PIECES {
            assert_linear(&format!("detection of {part:?} in pieces of {piece}"), |len| {
                let mut detector = Detector::default();
                for (n, bytes) in part.repeat(len / part.len()).as_bytes().chunks(piece).enumerate() {
                    let direction = if n % 2 == 0 { Direction::Ingress } else { Direction::Egress };
                    detector.offer(direction, bytes, None);
                }
            });
        }
    }
}
