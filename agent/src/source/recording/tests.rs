use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use spoor_core::record::*;
use spoor_core::time::{BootTime, WallTime};

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        Just(Endpoint::Unknown),
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| Endpoint::Inet((ip, port).into())),
        any::<([u8; 16], u16, u32, u32)>().prop_map(|(ip, port, flow, scope)| {
            Endpoint::Inet(std::net::SocketAddrV6::new(ip.into(), port, flow, scope).into())
        }),
        ".{0,20}".prop_map(Endpoint::Unix),
    ]
}

fn thread() -> impl Strategy<Value = Worker> {
    any::<(u32, u32)>().prop_map(|(tgid, tid)| Worker::new(tgid, tid))
}

/// One for which another may wait, and that one.
fn awaited() -> impl Strategy<Value = (Worker, Option<Tid>)> {
    (thread(), any::<u32>().prop_map(Tid::some))
}

fn conn() -> impl Strategy<Value = Conn> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Mptcp), Just(Transport::Unix)];
    let role = prop_oneof![Just(None), Just(Some(Role::Client)), Just(Some(Role::Server))];
    let wire = any::<(u32, u32)>().prop_map(|(egress, ingress)| WireBase { egress, ingress });
    (
        (any::<(u64, u64, u32, bool, u64)>(), transport, endpoint(), endpoint()),
        (
            role,
            thread(),
            "[a-z]{0,15}",
            prop::option::of(wire),
            prop::option::of(any::<u64>().prop_map(ConnId)),
        ),
    )
        .prop_map(
            |(
                ((at, id, netns, from_start, cgroup), transport, local, remote),
                (role, thread, comm, wire, peer),
            )| {
                let id = ConnId(id);
                Conn {
                    at: BootTime::from_nanos(at),
                    id,
                    transport,
                    local,
                    remote,
                    netns: NetNs(netns),
                    role,
                    from_start,
                    thread,
                    comm,
                    cgroup: CgroupId(cgroup),
                    wire,
                    peer,
                }
            },
        )
}

fn data() -> impl Strategy<Value = Data> {
    let flags =
        any::<(bool, bool, bool, bool)>().prop_map(|(unreadable, budget, plaintext, position_uncertain)| {
            DataFlags { unreadable, budget, plaintext, position_uncertain }
        });
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let bytes = prop::collection::vec(any::<u8>(), 0..100);
    (any::<(u64, u64, u64, u64, u16)>(), direction, bytes, awaited(), flags).prop_map(
        |((at, conn, pos, other_pos, more), direction, bytes, (thread, awaited_by), flags)| Data {
            at: BootTime::from_nanos(at),
            conn: ConnId(conn),
            direction,
            pos,
            other_pos,
            len: bytes.len() as u32 + u32::from(more),
            bytes: Bytes::from(bytes),
            thread,
            awaited_by,
            flags,
        },
    )
}

fn clocks(boot: u64, wall: u64) -> ClockPair {
    ClockPair { boot: BootTime::from_nanos(boot), wall: WallTime::from_nanos(wall) }
}

fn record() -> impl Strategy<Value = Record> {
    let kind = prop_oneof![
        any::<u32>().prop_map(|parent| ProcessEventKind::Fork { parent_tgid: Tgid(parent) }),
        any::<(u32, u32)>()
            .prop_map(|(tid, creator)| ProcessEventKind::Thread { tid: Tid(tid), creator: Tid(creator) }),
        Just(ProcessEventKind::Exec),
        Just(ProcessEventKind::Exit),
    ];
    let optional = || prop::option::of("[a-z]{0,12}");
    prop_oneof![
        any::<(u64, u64)>().prop_map(|(boot, wall)| Record::Clock(clocks(boot, wall))),
        conn().prop_map(|conn| Record::Conn(Box::new(conn))),
        data().prop_map(Record::Data),
        (any::<(u64, u64, u32, u32)>(), prop::collection::vec(any::<u64>(), 0..9)).prop_map(
            |((at, conn, tgid, tid), tasks)| Record::Chain(Box::new(Chain {
                at: BootTime::from_nanos(at),
                conn: ConnId(conn),
                thread: Worker::new(tgid, tid),
                tasks: tasks.into_iter().map(TaskId).collect(),
            }))
        ),
        any::<(u64, u64, bool)>().prop_map(|(at, conn, reset)| Record::Close(Close {
            at: BootTime::from_nanos(at),
            conn: ConnId(conn),
            reset
        })),
        (any::<(u64, u32)>(), kind).prop_map(|((at, tgid), kind)| Record::Process(ProcessEvent {
            at: BootTime::from_nanos(at),
            tgid: Tgid(tgid),
            kind
        })),
        (
            any::<(u64, u32, u64)>(),
            ".{0,30}",
            ".{0,15}",
            ".{0,30}",
            optional(),
            optional(),
            prop::collection::vec((".{0,9}", ".{0,9}"), 0..3)
        )
            .prop_map(
                |((at, tgid, start), exe, comm, service, service_namespace, container_id, attributes)| {
                    Record::ProcessInfo(Box::new(ProcessInfo {
                        at: BootTime::from_nanos(at),
                        tgid: Tgid(tgid),
                        started_at: BootTime::from_nanos(start),
                        exe,
                        comm,
                        service,
                        service_namespace,
                        container_id,
                        attributes,
                    }))
                }
            ),
        any::<(u64, u64, u64)>().prop_map(|(at, records, bytes)| Record::Lost(Lost {
            at: BootTime::from_nanos(at),
            records,
            bytes
        })),
    ]
}

fn header() -> Header {
    Header {
        started: Some(clocks(5, 1_700_000_000_000_000_000)),
        boot_id: "7f1c3a52-0000-4000-8000-000000000000".to_owned(),
        host_id: "machine".to_owned(),
        config_digest: "abcd".to_owned(),
        agent_version: "0.1.0".to_owned(),
        contents: Contents::Scrubbed,
    }
}

/// The file of some records, and where each record ends.
fn written(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let mut ends = vec![writer.bytes() as usize];
    for record in records {
        writer.write(record).unwrap();
        ends.push(writer.bytes() as usize);
    }
    assert_eq!(writer.records(), records.len() as u64);
    (writer.into_inner().unwrap(), ends)
}

/// Everything a file yields: records, and the sentences about what is wrong with it.
fn read_all(bytes: &[u8]) -> (Vec<Record>, Vec<String>) {
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    let mut reader = match Reader::new("x.spoor".to_owned(), bytes) {
        Ok(reader) => reader,
        Err(error) => return (records, vec![error.to_string()]),
    };
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => break,
            Err(error) => {
                assert!(error.is_warning());
                errors.push(error.to_string());
            }
        }
    }
    assert!(matches!(reader.next(), Ok(None)), "the end stays the end");
    (records, errors)
}

fn close(at: u64) -> Record {
    Record::Close(Close { at: BootTime::from_nanos(at), conn: ConnId(1), reset: false })
}

#[test]
fn the_header_says_where_it_was_made() {
    let (bytes, _) = written(&[]);
    assert_eq!(Reader::new(String::new(), &bytes[..]).unwrap().header(), Some(&header()));
    let long = Header { host_id: "é".repeat(60_000), ..Header::default() };
    let bytes = Writer::new(Vec::new(), &long).unwrap().into_inner().unwrap();
    let reader = Reader::new(String::new(), &bytes[..]).unwrap();
    let read = reader.header().unwrap();
    assert_eq!((read.host_id.len(), read.started), (MAX_HEADER / 8, None));
}

#[test]
fn the_layout_of_version_2_does_not_change() {
    let (bytes, ends) = written(&[close(0x0102)]);
    assert_eq!(&bytes[..12], b"\x89spoor\r\n\x02\0\0\0");
    let mut record = vec![17, 0, 0, 0, 4, 0];
    record.extend_from_slice(&head_check(&record).to_le_bytes());
    let payload = [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    record.extend_from_slice(&payload);
    assert_eq!(&bytes[ends[0]..], record);
}

/// Written in format version 1, which no program writes any more.
static VERSION_1: &[u8] = include_bytes!("../../../../tests/fixtures/recording/version-1.spoor");

#[test]
fn a_recording_of_version_1_is_read_in_full() {
    let reader = Reader::new("x.spoor".to_owned(), VERSION_1).unwrap();
    let at = |n: u64| BootTime::from_nanos(5_000_000_000 + n * 100);
    let clocks = ClockPair { boot: at(0), wall: WallTime::from_nanos(1_790_000_000_000_000_000) };
    let expected = Header {
        started: Some(clocks),
        boot_id: "7f1c3a52-0000-4000-8000-000000000001".to_owned(),
        host_id: "host-a".to_owned(),
        config_digest: "abcd".to_owned(),
        agent_version: "0.1.0".to_owned(),
        contents: Contents::Raw,
    };
    assert_eq!(reader.header(), Some(&expected));

    let data = |n, conn, direction, thread| Data {
        at: at(n),
        conn: ConnId(conn),
        direction,
        pos: 0,
        other_pos: 0,
        len: 38,
        bytes: Bytes::new(),
        thread,
        awaited_by: None,
        flags: DataFlags::default(),
    };
    let conn = |n, id| Conn {
        at: at(n),
        id: ConnId(id),
        transport: Transport::Tcp,
        local: Endpoint::Unix("/run/crm.sock".to_owned()),
        remote: Endpoint::Unix(String::new()),
        netns: NetNs(4_026_531_840),
        role: Some(Role::Client),
        from_start: false,
        thread: Worker::new(4712, 4712),
        comm: "crm".to_owned(),
        cgroup: CgroupId::UNKNOWN,
        wire: None,
        peer: None,
    };
    let info = |n, tgid, name: &str| ProcessInfo {
        at: at(n),
        tgid: Tgid(tgid),
        started_at: BootTime::from_nanos(4_000_000_000),
        exe: format!("/usr/bin/{name}"),
        comm: name.to_owned(),
        service: name.to_owned(),
        ..ProcessInfo::default()
    };
    let process = |n, kind| Record::Process(ProcessEvent { at: at(n), tgid: Tgid(5000), kind });
    let expected = vec![
        Record::Clock(clocks),
        Record::ProcessInfo(Box::new(ProcessInfo {
            service_namespace: Some("factory".to_owned()),
            container_id: Some("c0ffee".to_owned()),
            attributes: vec![("k8s.pod.name".to_owned(), "shop-0".to_owned())],
            ..info(1, 4711, "shop")
        })),
        Record::ProcessInfo(Box::new(ProcessInfo {
            started_at: BootTime::from_nanos(4_000_000_001),
            ..info(2, 4712, "crm")
        })),
        Record::Conn(Box::new(Conn {
            local: Endpoint::Inet(([10, 0, 0, 1], 40000).into()),
            remote: Endpoint::Inet(([10, 0, 0, 2], 8080).into()),
            from_start: true,
            thread: Worker::new(4711, 4713),
            comm: "shop".to_owned(),
            cgroup: CgroupId(99),
            wire: Some(WireBase { egress: 1000, ingress: 2000 }),
            ..conn(3, 17)
        })),
        Record::Conn(Box::new(Conn {
            transport: Transport::Unix,
            role: Some(Role::Server),
            peer: Some(ConnId(17)),
            ..conn(4, 18)
        })),
        Record::Data(Data {
            bytes: Bytes::from_static(b"GET /orders/4711 HTTP/1.1\r\nHost: c\r\n\r\n"),
            ..data(5, 17, Direction::Egress, Worker::new(4711, 4713))
        }),
        Record::Data(Data {
            other_pos: 38,
            len: 5000,
            bytes: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
            awaited_by: Tid::some(0x8000_5678),
            flags: DataFlags { budget: true, ..DataFlags::default() },
            ..data(6, 17, Direction::Ingress, Worker::new(4711, 0x8000_1234))
        }),
        Record::Data(Data {
            pos: 7,
            len: 12,
            flags: DataFlags { unreadable: true, position_uncertain: true, ..DataFlags::default() },
            ..data(7, 18, Direction::Ingress, Worker::new(4712, 4712))
        }),
        process(8, ProcessEventKind::Fork { parent_tgid: Tgid(4711) }),
        process(9, ProcessEventKind::Exec),
        process(10, ProcessEventKind::Thread { tid: Tid(5001), creator: Tid(5000) }),
        process(11, ProcessEventKind::Exit),
        Record::Close(Close { at: at(12), conn: ConnId(17), reset: true }),
        Record::Lost(Lost { at: at(13), records: 3, bytes: 4096 }),
    ];
    assert_eq!(read_all(VERSION_1), (expected, vec![]));
}

#[test]
fn what_version_1_may_leave_out_version_2_may_not() {
    // The same bytes under the later number: each record that ends too early is told, none is invented.
    let mut bytes = VERSION_1.to_vec();
    bytes[8] = 2;
    let (records, errors) = read_all(&bytes);
    assert!(
        errors.iter().any(|error| error.contains("a process information record is malformed")),
        "{errors:?}"
    );
    assert!(errors.iter().any(|error| error.contains("a data record is malformed")), "{errors:?}");
    assert!(!records.iter().any(|record| matches!(record, Record::Data(data) if data.awaited_by.is_some())));
}

#[test]
fn a_later_version_is_refused_by_number() {
    let (mut bytes, _) = written(&[]);
    bytes[8] = 9;
    let expected = "`x.spoor` has format version 9, this program reads up to version 2";
    assert_eq!(read_all(&bytes), (vec![], vec![expected.to_owned()]));
}

#[test]
fn a_damaged_payload_costs_its_record_and_a_damaged_head_what_follows() {
    let records = [close(1), close(2), close(3)];
    let (bytes, ends) = written(&records);
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        read_all(&bytes)
    };
    let at = ends[1];
    let expected = format!(
        "`x.spoor` is damaged at byte {at}: a record of 17 bytes does not match its checksum and is left out"
    );
    assert_eq!(flipped(at + 14), (vec![close(1), close(3)], vec![expected]));
    let expected =
        format!("`x.spoor` is damaged at byte {at}: the head of a record does not match its checksum");
    assert_eq!(flipped(at), (vec![close(1)], vec![expected]));
    let expected = "`x.spoor` is damaged at byte 20: the header does not match its checksum";
    assert_eq!(flipped(30), (vec![], vec![expected.to_owned()]));
}

#[test]
fn unknown_types_and_appended_fields_are_skipped() {
    let (mut bytes, ends) = written(&[close(1)]);
    let record = bytes[ends[0]..].to_vec();
    for (kind, more) in [(200u8, 0usize), (4, 5)] {
        let payload = [&record[12..], &vec![7; more]].concat();
        let mut head = Vec::new();
        let mut encoder = Encoder(&mut head);
        encoder.u32(payload.len() as u32);
        encoder.u8(kind);
        encoder.u8(0);
        let check = head_check(&head);
        head.extend_from_slice(&check.to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&payload);
    }
    assert_eq!(read_all(&bytes), (vec![close(1), close(1)], vec![]));
}

#[test]
fn captured_bytes_beyond_the_largest_payload_are_left_out() {
    let data = Data {
        at: BootTime::from_nanos(1),
        conn: ConnId(1),
        direction: Direction::Egress,
        pos: 0,
        other_pos: 0,
        len: MAX_PAYLOAD as u32 + 10,
        bytes: Bytes::from(vec![b'x'; MAX_PAYLOAD + 10]),
        thread: Worker::default(),
        awaited_by: None,
        flags: DataFlags::default(),
    };
    let (bytes, _) = written(&[Record::Data(data.clone())]);
    let (records, errors) = read_all(&bytes);
    assert_eq!(errors, Vec::<String>::new());
    let [Record::Data(read)] = &records[..] else { panic!("{records:?}") };
    assert_eq!(read.len, data.len);
    assert!(read.bytes.len() > MAX_PAYLOAD - 100 && read.bytes.len() < MAX_PAYLOAD);
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_was(records in prop::collection::vec(record(), 0..20)) {
        let (bytes, _) = written(&records);
        prop_assert_eq!(read_all(&bytes), (records, vec![]));
    }

    #[test]
    fn any_prefix_yields_the_whole_records_in_it(
        records in prop::collection::vec(record(), 1..8), cut in any::<prop::sample::Index>()
    ) {
        let (bytes, ends) = written(&records);
        let cut = cut.index(bytes.len());
        let (read, errors) = read_all(&bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        prop_assert_eq!(&read[..], &records[..whole]);
        prop_assert_eq!(errors.is_empty(), ends.contains(&cut));
        for error in errors {
            let expected = format!("`x.spoor` ends at byte {cut} inside ");
            prop_assert!(error.starts_with(&expected), "{}", error);
        }
    }

    #[test]
    fn a_flipped_bit_never_panics_nor_invents_a_record(
        records in prop::collection::vec(record(), 1..8), at in any::<prop::sample::Index>(), bit in 0u8..8
    ) {
        let (mut bytes, _) = written(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (read, _) = read_all(&bytes);
        prop_assert!(read.iter().all(|record| records.contains(record)));
    }

    #[test]
    fn random_bytes_never_panic(kind in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for version in FIRST_VERSION..=VERSION {
            let _ = codec::decode(version, kind, &bytes);
        }
        let (mut file, _) = written(&[]);
        file.extend_from_slice(&bytes);
        read_all(&file);
        read_all(&bytes);
    }
}

#[test]
fn a_chain_of_more_tasks_than_are_followed_is_malformed() {
    let tasks = |count: u8| {
        let fields = [&[0; 16][..], &[0; 8], &[count], &vec![1; usize::from(count) * 8]];
        codec::decode(2, 8, &fields.concat()).map(|record| match record {
            Some(Record::Chain(chain)) => chain.tasks.len(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(tasks(8), Ok(8));
    assert_eq!(tasks(9), Err("a chain record is malformed"));
}
