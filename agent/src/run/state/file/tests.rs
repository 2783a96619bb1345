use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use spoor_core::conn::snapshot::Connection;
use spoor_core::pipeline::snapshot::Process;
use spoor_core::protocol::{Snapshot as Learned, amqp, http2, postgres};
use spoor_core::record::{ConnId, Endpoint, NetNs, Role, Tgid, Transport};
use spoor_core::time::BootTime;

/// Something of everything.
fn learned() -> Snapshot {
    let connection = |id, learned| Connection {
        id: ConnId(id),
        transport: Transport::Tcp,
        local: Endpoint::Inet("10.0.0.1:40000".parse().unwrap()),
        remote: Endpoint::Unix("/run/db\n\"".to_owned()),
        netns: NetNs(4_026_531_840),
        wire: Some(spoor_core::record::WireBase { egress: u32::MAX, ingress: 0 }),
        role: Role::Client,
        stands: Some(spoor_core::conn::snapshot::Stands { ingress: u64::MAX, egress: 0 }),
        spoke_at: BootTime::from_nanos(7),
        learned,
    };
    let statement = postgres::snapshot::Statement {
        name: "s1".to_owned(),
        text: Some(0),
        oids: vec![23],
        ..Default::default()
    };
    let statements = postgres::Learned { statements: vec![statement], ..Default::default() };
    let consumer = amqp::snapshot::Consumer { tag: "ctag".to_owned(), queue: "q".to_owned(), no_ack: true };
    let channel = amqp::snapshot::Channel {
        number: 1,
        confirm: amqp::snapshot::Confirm::Exact(7),
        consumers: vec![consumer],
        inferred: vec![("a".to_owned(), None)],
        unsure_to: Some(u64::MAX),
        ..Default::default()
    };
    let consumers = amqp::Learned { channels: vec![channel], ..Default::default() };
    let way =
        http2::snapshot::Compression { fields: vec![(Some(":path".to_owned()), None)], ..Default::default() };
    let headers =
        http2::Learned { last_stream: 9, request: way, response: http2::snapshot::Compression::default() };
    Snapshot {
        boot_id: [9; 16],
        at: BootTime::from_nanos(1),
        texts: vec!["SELECT $1 -- ü".to_owned()],
        connections: vec![
            connection(1, Learned::Postgres(statements)),
            connection(u64::MAX, Learned::Amqp(consumers)),
            connection(3, Learned::Http2(headers)),
        ],
        processes: vec![Process { tgid: Tgid(7), exe: "/usr/bin/x".to_owned(), ..Process::default() }],
    }
}

fn decoded(bytes: &[u8]) -> Result<Snapshot, FileError> {
    decode(bytes, Path::new("file"))
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(decoded(&encode(&learned()).unwrap()).unwrap(), learned());
    assert_eq!(decoded(&encode(&Snapshot::default()).unwrap()).unwrap(), Snapshot::default());
}

#[test]
fn a_file_cut_or_changed_at_any_byte_is_refused() {
    let bytes = encode(&learned()).unwrap();
    for at in 0..bytes.len() {
        assert!(matches!(decoded(&bytes[..at]), Err(FileError::Damaged { .. })), "cut at {at}");
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(decoded(&changed).is_err(), "changed at {at}");
    }
    assert!(decoded(&[&bytes[..], b"x"].concat()).is_err());
}

/// A whole file around any payload.
fn around(payload: &[u8]) -> Vec<u8> {
    let (len, crc) = (payload.len() as u32, crc32fast::hash(payload));
    [&MAGIC[..], &len.to_le_bytes(), &crc.to_le_bytes(), payload].concat()
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = encode(&learned()).unwrap();
    bytes[7] = b'2';
    assert!(matches!(decoded(&bytes), Err(FileError::OtherVersion(_))));
}

#[test]
fn fields_of_a_later_agent_are_passed_over_and_missing_ones_have_their_defaults() {
    let some = decoded(&around(br#"{"at":5,"texts":["a"],"later":{"x":[1]}}"#)).unwrap();
    assert_eq!(
        some,
        Snapshot { at: BootTime::from_nanos(5), texts: vec!["a".to_owned()], ..Snapshot::default() }
    );
}

#[test]
fn a_payload_that_is_something_else_is_refused() {
    let deep = "[".repeat(1 << 20);
    let named = format!("{{\"texts\":{deep}");
    for payload in
        ["", "null", "[7]", "{", "{\"connections\":[{}]}", "{\"at\":-1}", "{\"boot_id\":[1]}", &deep, &named]
    {
        let short = &payload[..payload.len().min(40)];
        assert!(matches!(decoded(&around(payload.as_bytes())), Err(FileError::Damaged { .. })), "{short}");
    }
}

/// A directory of the agent's own.
fn own() -> (tempfile::TempDir, Directory) {
    let directory = tempfile::tempdir().unwrap();
    let opened = Directory::open_or_create(directory.path()).unwrap();
    (directory, opened)
}

#[test]
fn what_is_too_large_is_neither_written_nor_read() {
    let (directory, own) = own();
    let large = Snapshot { texts: vec!["x".repeat(MAX_BYTES)], ..Snapshot::default() };
    assert!(matches!(write(&own, &large), Err(FileError::TooLarge(_))));
    assert!(read(&own).unwrap().is_none(), "the old one stays, and there was none");
    write(&own, &learned()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(directory.path().join(NAME)).unwrap();
    file.set_len(u64::MAX >> 1).or_else(|_| file.set_len(1 << 36)).unwrap();
    assert!(matches!(read(&own), Err(FileError::Unusable(Unusable::TooLarge { .. }))));
}

#[test]
fn a_file_is_for_its_owner_and_replaced_as_a_whole() {
    let (directory, own) = own();
    let path = directory.path().join(NAME);
    assert!(read(&own).unwrap().is_none());
    // What a killed agent left half written is in nobody's way.
    fs::write(path.with_extension("new"), b"half").unwrap();
    write(&own, &Snapshot::default()).unwrap();
    write(&own, &learned()).unwrap();
    assert_eq!(read(&own).unwrap(), Some(learned()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let names = fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(names.collect::<Vec<_>>(), [NAME]);
}

#[test]
fn files_that_others_can_have_written_are_refused() {
    let (directory, own) = own();
    let path = directory.path().join(NAME);
    write(&own, &learned()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(read(&own), Err(FileError::Unusable(Unusable::Writable { .. }))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(read(&own).is_ok(), "who may only read it has not written it");
    fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(matches!(read(&own), Err(FileError::Unusable(Unusable::Kind { found: "a link", .. }))));
}
