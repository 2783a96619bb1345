//! A scripted host: processes, connections and bytes → the records a kernel source would deliver.
//!
//! Time is virtual: one step per record. Both ends of a connection are recorded unless one is left out.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use spoor_core::record::{
    CgroupId, Chain, ClockPair, Close, Conn, ConnId, Data, DataFlags, Direction, Endpoint, NetNs,
    ProcessInfo, Record, Role, Sender, TaskId, Tgid, Transport, WireBase, Worker,
};
use spoor_core::time::{BootTime, WallTime};

/// Records of one host, in order.
#[derive(Debug)]
pub struct Host {
    pub records: Vec<Record>,
    now: BootTime,
    next_conn: u64,
    wires: Vec<Wire>,
    step: Duration,
    /// Tasks of the next write.
    tasks: Vec<TaskId>,
}

/// A process of the script.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// One of its threads; thread 0 is the main one.
    pub fn thread(self, number: u32) -> Worker {
        Worker::new(self.0, self.0 + number)
    }
}

/// A connection between two processes of the script.
#[derive(Clone, Copy, Debug)]
pub struct Link(usize);

#[derive(Clone, Copy, Debug)]
struct Wire {
    client: ConnId,
    server: ConnId,
    client_covered: bool,
    server_covered: bool,
    client_pos: u64,
    server_pos: u64,
}

/// Which ends of a connection are on an observed host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    Both,
    Client,
    Server,
}

/// Unix time of the script's first record.
pub const EPOCH: WallTime = WallTime::from_nanos(1_800_000_000_000_000_000);

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    pub fn new() -> Self {
        let now = BootTime::ZERO + Duration::from_secs(1);
        let clock = Record::Clock(ClockPair { boot: now, wall: EPOCH });
        Self {
            records: vec![clock],
            now,
            next_conn: 0,
            wires: Vec::new(),
            step: Duration::from_micros(100),
            tasks: Vec::new(),
        }
    }

    /// The time of the last record.
    pub fn now(&self) -> BootTime {
        self.now
    }

    /// Lets time pass.
    pub fn wait_ms(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    pub fn process(&mut self, tgid: u32, service: &str) -> Process {
        let at = self.tick();
        let info = ProcessInfo {
            at,
            tgid: Tgid(tgid),
            started_at: BootTime::from_nanos(1),
            service: service.to_owned(),
            ..ProcessInfo::default()
        };
        self.records.push(Record::ProcessInfo(Box::new(info)));
        Process(tgid)
    }

    /// Opens a TCP connection.
    pub fn connect(&mut self, client: Process, server: Process, port: u16, covered: Covered) -> Link {
        self.next_conn += 2;
        let number = self.next_conn;
        let wire = Wire {
            client: ConnId(number),
            server: ConnId(number + 1),
            client_covered: covered != Covered::Server,
            server_covered: covered != Covered::Client,
            client_pos: 0,
            server_pos: 0,
        };
        let client_address = SocketAddr::from(([127, 0, 0, 1], 30_000 + (number % 30_000) as u16));
        let server_address = SocketAddr::from(([127, 0, 0, 1], port));
        let first = (number as u32).wrapping_mul(2_654_435_761);
        let (client_first, server_first) = (first, !first);
        for role in [Role::Client, Role::Server] {
            let (id, local, remote, thread, egress, ingress, is_covered) = match role {
                Role::Client => (
                    wire.client,
                    client_address,
                    server_address,
                    client.thread(0),
                    client_first,
                    server_first,
                    wire.client_covered,
                ),
                Role::Server => (
                    wire.server,
                    server_address,
                    client_address,
                    server.thread(0),
                    server_first,
                    client_first,
                    wire.server_covered,
                ),
            };
            if !is_covered {
                continue;
            }
            let at = self.tick();
            self.records.push(Record::Conn(Box::new(Conn {
                at,
                id,
                transport: Transport::Tcp,
                local: Endpoint::Inet(local),
                remote: Endpoint::Inet(remote),
                netns: NetNs(1),
                role: Some(role),
                from_start: true,
                thread,
                comm: String::new(),
                cgroup: CgroupId::UNKNOWN,
                wire: Some(WireBase { egress, ingress }),
                peer: None,
            })));
        }
        self.wires.push(wire);
        Link(self.wires.len() - 1)
    }

    /// The next bytes are written by a task for which others wait, one for another.
    pub fn written_by(&mut self, tasks: &[u64]) {
        self.tasks = tasks.iter().map(|task| TaskId(*task)).collect();
    }

    /// Bytes from one end to the other: written by `writer`, then read by `reader`, whole.
    pub fn send(
        &mut self,
        link: Link,
        from: Sender,
        bytes: impl AsRef<[u8]>,
        writer: Worker,
        reader: Worker,
    ) {
        let bytes = Bytes::copy_from_slice(bytes.as_ref());
        let wire = self.wires[link.0];
        let (pos, other_pos) = match from {
            Sender::Client => (wire.client_pos, wire.server_pos),
            Sender::Server => (wire.server_pos, wire.client_pos),
        };
        let (writes, reads) = match from {
            Sender::Client => ((wire.client, wire.client_covered), (wire.server, wire.server_covered)),
            Sender::Server => ((wire.server, wire.server_covered), (wire.client, wire.client_covered)),
        };
        for ((conn, covered), direction, thread) in
            [(writes, Direction::Egress, writer), (reads, Direction::Ingress, reader)]
        {
            if covered {
                let at = self.tick();
                let len = bytes.len() as u32;
                let bytes = bytes.clone();
                let flags = DataFlags::default();
                if direction == Direction::Egress && !self.tasks.is_empty() {
                    let tasks = std::mem::take(&mut self.tasks);
                    self.records.push(Record::Chain(Box::new(Chain { at, conn, thread, tasks })));
                }
                self.records.push(Record::Data(Data {
                    at,
                    conn,
                    direction,
                    pos,
                    other_pos,
                    len,
                    bytes,
                    thread,
                    awaited_by: None,
                    flags,
                }));
            }
        }
        let wire = &mut self.wires[link.0];
        match from {
            Sender::Client => wire.client_pos += bytes.len() as u64,
            Sender::Server => wire.server_pos += bytes.len() as u64,
        }
    }

    /// An AMQP connection's first bytes and a consumer of `queue`, whose deliveries `reader` reads.
    pub fn consume(&mut self, link: Link, queue: &str, reader: Worker, broker: Worker) {
        self.send(link, Sender::Client, wire::AMQP_HELLO, reader, broker);
        self.send(link, Sender::Client, wire::consume(1, queue), reader, broker);
        self.send(link, Sender::Server, wire::consume_ok(1), broker, reader);
    }

    pub fn close(&mut self, link: Link) {
        let wire = self.wires[link.0];
        for (conn, covered) in [(wire.client, wire.client_covered), (wire.server, wire.server_covered)] {
            if covered {
                let at = self.tick();
                self.records.push(Record::Close(Close { at, conn, reset: false }));
            }
        }
    }

    fn tick(&mut self) -> BootTime {
        self.now += self.step;
        self.now
    }
}

/// Builders of protocol bytes for scripts.
pub mod wire {
    /// An HTTP/1.1 request with a JSON body, or none when it is empty.
    pub fn request(method: &str, target: &str, headers: &str, body: &str) -> Vec<u8> {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        format!("{method} {target} HTTP/1.1\r\nHost: test.local\r\n{headers}{length}\r\n{body}").into_bytes()
    }

    /// An HTTP/1.1 response with a JSON body.
    pub fn response(status: u16, body: &str) -> Vec<u8> {
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// An HTTP/2 frame.
    pub fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// An integer of HPACK with a prefix (RFC 7541, section 5.1).
    pub fn hpack_integer(mut value: usize, pattern: u8, mask: usize) -> Vec<u8> {
        if value < mask {
            return vec![pattern | value as u8];
        }
        let mut bytes = vec![pattern | mask as u8];
        value -= mask;
        while value >= 128 {
            bytes.push(128 | (value % 128) as u8);
            value /= 128;
        }
        bytes.push(value as u8);
        bytes
    }

    /// What each side of an HTTP/2 connection begins with.
    pub fn http2_hello(is_client: bool) -> Vec<u8> {
        let preface: &[u8] = if is_client { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" } else { b"" };
        [preface, &http2_frame(4, 0, 0, b"")].concat()
    }

    /// A header field with both strings in plain, entered into the table.
    fn indexed(name: &str, value: &str) -> Vec<u8> {
        [&[0x40, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    }

    /// A GET with four fields that the first one enters into the table. `path`: another one each time; empty for the same.
    pub fn http2_request(stream: u32, path: &str, is_first: bool) -> Vec<u8> {
        let mut block = match is_first {
            true => [
                &[0x82, 0x86][..],
                &indexed(":path", "/orders"),
                &indexed(":authority", "shop:8080"),
                &indexed("user-agent", "bench/1.0"),
                &indexed("accept", "application/json"),
            ]
            .concat(),
            false => vec![0x82, 0x86, 0xc1, 0xc0, 0xbf, 0xbe],
        };
        if !path.is_empty() && !is_first {
            // Literal without indexing, name by index: the path in place of the first one.
            block =
                [&[0x82, 0x86, 0x04, path.len() as u8][..], path.as_bytes(), &[0xc0, 0xbf, 0xbe]].concat();
        }
        http2_frame(1, 5, stream, &block)
    }

    /// 200 with three fields.
    pub fn http2_response_block(is_first: bool) -> Vec<u8> {
        match is_first {
            true => [
                &[0x88][..],
                &indexed("server", "bench"),
                &indexed("content-type", "application/json"),
                &indexed("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ]
            .concat(),
            false => vec![0x88, 0xc0, 0xbf, 0xbe],
        }
    }

    /// A gRPC call's header section.
    pub fn grpc_request_block(is_first: bool) -> Vec<u8> {
        match is_first {
            true => [
                &[0x83, 0x86][..],
                &indexed(":path", "/shop.v1.Orders/Get"),
                &indexed(":authority", "shop:50051"),
                &indexed("te", "trailers"),
                &indexed("content-type", "application/grpc"),
                &indexed("user-agent", "grpc-bench/1.0"),
            ]
            .concat(),
            false => vec![0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe],
        }
    }

    /// Its answer's header section.
    pub fn grpc_response_block(is_first: bool) -> Vec<u8> {
        match is_first {
            true => [&[0x88][..], &indexed("content-type", "application/grpc")].concat(),
            // The trailers' entry came behind it.
            false => vec![0x88, 0xbf],
        }
    }

    /// Its trailers.
    pub fn grpc_trailers_block(is_first: bool) -> Vec<u8> {
        if is_first { indexed("grpc-status", "0") } else { vec![0xbe] }
    }

    /// A PostgreSQL message.
    pub fn pg(tag: u8, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![tag];
        message.extend((payload.len() as u32 + 4).to_be_bytes());
        message.extend(payload);
        message
    }

    /// A simple query.
    pub fn query(sql: &str) -> Vec<u8> {
        pg(b'Q', format!("{sql}\0").as_bytes())
    }

    /// What a server answers to a statement without rows.
    pub fn done(tag: &str, status: u8) -> Vec<u8> {
        [pg(b'C', format!("{tag}\0").as_bytes()), pg(b'Z', &[status])].concat()
    }

    /// What an AMQP client begins with.
    pub const AMQP_HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";

    /// An AMQP frame.
    pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        frame.push(0xce);
        frame
    }

    fn short(text: &str) -> Vec<u8> {
        [&[text.len() as u8], text.as_bytes()].concat()
    }

    fn content(channel: u16, message_id: &str, body: &str) -> Vec<u8> {
        let mut header = [60u16.to_be_bytes(), 0u16.to_be_bytes()].concat();
        header.extend((body.len() as u64).to_be_bytes());
        header.extend(0x0080u16.to_be_bytes());
        header.extend(short(message_id));
        [frame(2, channel, &header), frame(3, channel, body.as_bytes())].concat()
    }

    fn method(channel: u16, class: u16, id: u16, arguments: &[u8]) -> Vec<u8> {
        frame(1, channel, &[&class.to_be_bytes()[..], &id.to_be_bytes()[..], arguments].concat())
    }

    /// `basic.publish` with its content.
    pub fn publish(channel: u16, exchange: &str, key: &str, message_id: &str, body: &str) -> Vec<u8> {
        published(channel, exchange, key, message_id, body, 0)
    }

    /// The same of one that the broker returns where no queue takes it.
    pub fn mandatory(channel: u16, exchange: &str, key: &str, message_id: &str, body: &str) -> Vec<u8> {
        published(channel, exchange, key, message_id, body, 1)
    }

    fn published(channel: u16, exchange: &str, key: &str, message_id: &str, body: &str, bits: u8) -> Vec<u8> {
        let arguments = [vec![0, 0], short(exchange), short(key), vec![bits]].concat();
        [method(channel, 60, 40, &arguments), content(channel, message_id, body)].concat()
    }

    /// `basic.deliver` with its content.
    pub fn deliver(
        channel: u16,
        tag: u64,
        exchange: &str,
        key: &str,
        message_id: &str,
        body: &str,
    ) -> Vec<u8> {
        let arguments =
            [short("ctag"), tag.to_be_bytes().to_vec(), vec![0], short(exchange), short(key)].concat();
        [method(channel, 60, 60, &arguments), content(channel, message_id, body)].concat()
    }

    /// `queue.declare` of a durable queue, and its answer.
    pub fn declare(channel: u16, queue: &str) -> [Vec<u8>; 2] {
        let asked = [vec![0, 0], short(queue), vec![0b10], 0u32.to_be_bytes().to_vec()].concat();
        let answer = [short(queue), vec![0; 8]].concat();
        [method(channel, 50, 10, &asked), method(channel, 50, 11, &answer)]
    }

    /// `basic.consume` of a queue with the tag that [`deliver`] uses.
    pub fn consume(channel: u16, queue: &str) -> Vec<u8> {
        let arguments =
            [vec![0, 0], short(queue), short("ctag"), vec![0], 0u32.to_be_bytes().to_vec()].concat();
        method(channel, 60, 20, &arguments)
    }

    /// `basic.consume-ok`.
    pub fn consume_ok(channel: u16) -> Vec<u8> {
        method(channel, 60, 21, &short("ctag"))
    }

    /// `basic.ack` of one delivery.
    pub fn ack(channel: u16, tag: u64) -> Vec<u8> {
        method(channel, 60, 80, &[&tag.to_be_bytes()[..], &[0]].concat())
    }
}
