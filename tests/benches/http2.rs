//! What HTTP/2 costs to read: exchanges a second and bytes of bodies a second, on one thread, from captured bytes to
//! finished operations. The figures promised are a million small exchanges and a gigabyte of bodies.

use std::hint::black_box;
use std::time::Duration;

use spoor_core::protocol::http2::Http2Session;
use spoor_core::protocol::{End, Event, Events, Session as _};
use spoor_core::record::Sender::{self, Client, Server};
use spoor_core::record::{Mark, Role, Worker};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::measure::cpu;
use spoor_tests::transcript::wire;

/// As the agent has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXCHANGES: u32 = 100_000;
const BODIES: u32 = 20_000;
const BODY_FRAME: usize = 16_384;
const RUNS: usize = 5;

fn main() {
    println!("{:<44} {:>14} {:>10}", "HTTP/2", "exchanges/s", "GB/s");
    row("GET, indexed fields, 200 with 16 bytes", &small(false), EXCHANGES);
    row("GET, a path of its own each time", &small(true), EXCHANGES);
    row("gRPC call, 20 bytes each way", &calls(), EXCHANGES);
    row("upload in frames of 16 KiB", &bodies(), 1);
}

type Records = Vec<(Sender, Vec<u8>)>;

fn row(name: &str, records: &Records, exchanges: u32) {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let mut session = Http2Session::new(Role::Server, &Protocols::default());
        let mut out = Events::default();
        let mut pos = [0_u64; 2];
        let mut closed = 0;
        let start = cpu();
        for (at, (from, bytes)) in records.iter().enumerate() {
            let other_pos = pos[1 - *from as usize];
            let mark = Mark {
                at: BootTime::from_nanos(at as u64),
                thread: Worker::new(1, 1),
                other_pos,
                awaited_by: None,
            };
            session.bytes(*from, pos[*from as usize], black_box(bytes), mark, &mut out);
            pos[*from as usize] += bytes.len() as u64;
            while let Some(event) = out.pop() {
                closed += u32::from(matches!(black_box(event), Event::Closed(_)));
            }
        }
        session.end(End::Closed, BootTime::MAX, &mut out);
        best = best.min(cpu() - start);
        assert_eq!(closed, exchanges, "{name}");
    }
    let bytes: usize = records.iter().map(|(_, bytes)| bytes.len()).sum();
    let seconds = best.as_secs_f64();
    println!("{name:<44} {:>14.0} {:>10.2}", f64::from(exchanges) / seconds, bytes as f64 / seconds / 1e9);
}

fn begin() -> Records {
    vec![(Client, wire::http2_hello(true)), (Server, wire::http2_hello(false))]
}

fn small(new_paths: bool) -> Records {
    let mut records = begin();
    for number in 0..EXCHANGES {
        let stream = 2 * number + 1;
        let path = if new_paths { format!("/orders/{number}") } else { String::new() };
        records.push((Client, wire::http2_request(stream, &path, number == 0)));
        let head = wire::http2_frame(1, 4, stream, &wire::http2_response_block(number == 0));
        records.push((Server, [head, wire::http2_frame(0, 1, stream, b"{\"status\":\"new\"}")].concat()));
    }
    records
}

fn calls() -> Records {
    let mut records = begin();
    let message = [&[0, 0, 0, 0, 15][..], &[7; 15]].concat();
    for number in 0..EXCHANGES {
        let stream = 2 * number + 1;
        let head = wire::http2_frame(1, 4, stream, &wire::grpc_request_block(number == 0));
        records.push((Client, [head, wire::http2_frame(0, 1, stream, &message)].concat()));
        let head = wire::http2_frame(1, 4, stream, &wire::grpc_response_block(number == 0));
        let trailers = wire::http2_frame(1, 5, stream, &wire::grpc_trailers_block(number == 0));
        records.push((Server, [head, wire::http2_frame(0, 0, stream, &message), trailers].concat()));
    }
    records
}

fn bodies() -> Records {
    let mut records = begin();
    let part = wire::http2_frame(0, 0, 1, &vec![b'x'; BODY_FRAME]);
    records.push((Client, wire::http2_frame(1, 4, 1, &wire::grpc_request_block(true))));
    records.extend((0..BODIES).map(|_| (Client, part.clone())));
    records.push((Client, wire::http2_frame(0, 1, 1, b"")));
    records.push((Server, wire::http2_frame(1, 5, 1, &wire::http2_response_block(true))));
    records
}
