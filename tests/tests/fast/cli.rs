//! The command line from outside: exit codes, messages, outputs, and what survives a kill.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use spoor::source::recording::{Header, Writer};
use spoor_core::record::Sender::{Client, Server};
use spoor_tests::sink::{Options, Reply, Sink};
use spoor_tests::spoor::{Said, command, said, spoor};
use spoor_tests::transcript::{Covered, Host, wire};

/// Orders served by a shop that asks the CRM, as a recording: two spans each.
fn recording(directory: &Path, orders: u32) -> PathBuf {
    let mut host = Host::new();
    let (shopper, shop, crm) =
        (host.process(100, "browser"), host.process(200, "shop"), host.process(300, "crm"));
    for order in 1..=orders {
        let front = host.connect(shopper, shop, 8080, Covered::Server);
        let back = host.connect(shop, crm, 8081, Covered::Client);
        let worker = shop.thread(1);
        let body = format!("{{\"order_id\": {order}, \"quantity\": 3}}");
        host.send(front, Client, wire::request("POST", "/orders", "", &body), shopper.thread(0), worker);
        host.send(back, Client, wire::request("POST", "/api/confirm", "", &body), worker, crm.thread(0));
        host.send(back, Server, wire::response(200, "{}"), crm.thread(0), worker);
        host.send(front, Server, wire::response(201, "{}"), worker, shopper.thread(0));
        host.close(front);
        host.close(back);
    }
    let path = directory.join("orders.spoor");
    let header = Header { host_id: "host-of-the-recording".to_owned(), ..Header::default() };
    let mut writer = Writer::new(BufWriter::new(File::create(&path).unwrap()), &header).unwrap();
    for record in &host.records {
        writer.write(record).unwrap();
    }
    writer.flush().unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn check(arguments: &[&str], environment: &[(&str, &str)], code: i32, message: &str) {
    let said = spoor(arguments, environment);
    assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
    assert!(said.err.contains(message), "{arguments:?} does not say `{message}`: {said:?}");
    if code != 0 && !said.err.contains("Usage:") {
        // One sentence, not a trace of how it came about.
        let lines: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{said:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spoor.yaml");
    let file = text(&path);
    std::fs::write(&path, "export:\n  otlp:\n    endpont: http://a:4317\n").unwrap();
    let located = format!("{file}:3:5: `export.otlp`: unknown key `endpont`; did you mean `endpoint`?");

    check(&[], &[], 2, "Usage: spoor");
    check(&["rnu"], &[], 2, "unrecognized subcommand 'rnu'");
    check(&["run", "--prnt", "tree"], &[], 2, "--print");
    check(&["run", "--print", "treee"], &[], 2, "[possible values: tree, otlp-json]");
    check(&["record"], &[], 2, "--output <FILE>");
    check(&["record", "--output", "x", "--seconds", "0"], &[], 2, "0 is not in 1..");
    check(&["replay"], &[], 2, "<FILE>");
    check(&["config", "check", file], &[], 2, &located);
    check(&["run", "--config", file], &[], 2, &located);
    check(&["replay", "x", "--config", file], &[], 2, &located);
    check(&["run", "--config", "/nonexistent.yaml"], &[], 2, "no such file; `spoor config default` prints");
    check(&["run", "--otlp-endpoint", "localhost:4317"], &[], 2, "write `http://localhost:4317`");
    check(
        &["run"],
        &[("SPOOR_EXPORT_OTLP_TIMEOUT", "fast")],
        2,
        "environment variable SPOOR_EXPORT_OTLP_TIMEOUT",
    );
    check(&["run", "--log", "a=b=c"], &[], 2, "is not a log filter");
    let unreadable = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4317"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
    ];
    check(&["replay", text(&recording(directory.path(), 1))], &unreadable, 2, "/nonexistent/ca.pem");
}

#[test]
fn a_configuration_that_is_no_plain_file_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo.yaml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let large = directory.path().join("large.yaml");
    File::create(&large).unwrap().set_len(5 << 20).unwrap();
    for (path, message) in [
        (text(&fifo), "is a FIFO, not a plain file"),
        ("/dev/zero", "is a device, not a plain file"),
        (text(directory.path()), "is a directory, not a plain file"),
        (text(&large), "is larger than 4194304 bytes"),
    ] {
        check(&["config", "check", path], &[], 2, message);
        check(&["replay", "x", "--config", path], &[], 2, message);
    }
}

#[test]
fn a_profile_may_be_a_file_of_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut install = command(&["seccomp", "--install", "x.json"]);
    let said = said(install.current_dir(directory.path()).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(directory.path().join("x.json").is_file());
}

#[test]
fn a_recording_is_read_once_so_that_it_may_come_through_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let recording = std::fs::read(recording(directory.path(), 1)).unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let to = fifo.clone();
    let writer = std::thread::spawn(move || std::fs::write(to, recording).unwrap());
    let said = spoor(&["replay", text(&fifo), "--print", "otlp-json"], &[]);
    writer.join().unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("host-of-the-recording") && said.out.contains("/orders"), "{said:?}");
}

#[test]
fn compressed_files_and_pipes_are_replayed_like_plain_ones() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 20);
    let plain = spoor(&["replay", text(&file), "--print", "otlp-json"], &[]);
    let packed = directory.path().join("orders.spoor.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    std::io::copy(&mut File::open(&file).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let unpacked = spoor(&["replay", text(&packed), "--print", "otlp-json"], &[]);
    assert_eq!((unpacked.code, unpacked.out.len()), (Some(0), plain.out.len()), "{unpacked:?}");
    for file in [&file, &packed] {
        let mut replay = command(&["replay", "-", "--print", "otlp-json"]);
        let piped = said(replay.stdin(File::open(file).unwrap()).output().unwrap());
        assert_eq!((piped.code, piped.out.len()), (Some(0), plain.out.len()), "{piped:?}");
    }
}

#[test]
fn a_file_that_holds_nothing_is_told_and_a_directory_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pcap");
    let header = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0";
    std::fs::write(&empty, header).unwrap();
    check(&["replay", text(&empty)], &[], 0, "empty.pcap` holds no packet");
    let none = recording(directory.path(), 0);
    let said = spoor(&["replay", text(&none)], &[]);
    assert!(said.code == Some(0), "{said:?}");
    check(&["replay", text(directory.path())], &[], 1, "cannot open");
    check(&["replay", text(directory.path())], &[], 1, "directory");
}

#[test]
fn manual_pages_are_written_all_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man");
    assert_eq!(spoor(&["man", "--all", text(&pages)], &[]).code, Some(0));
    for (file, command) in
        [("spoor.1", None), ("spoor-run.1", Some("run")), ("spoor-config.1", Some("config"))]
    {
        let one = spoor(&["man"].into_iter().chain(command).collect::<Vec<_>>(), &[]);
        assert_eq!(std::fs::read_to_string(pages.join(file)).unwrap(), one.out, "{file}");
    }
}

#[test]
fn config_check_says_whose_rules_are_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.yaml");
    let rule = "order:\n  keys:\n    - { namespace: crm, type: text, in: { fields: [sales_order] } }\n";
    std::fs::write(&path, rule).unwrap();
    let said = spoor(&["config", "check"], &[("SPOOR_CONFIG", text(&path))]);
    assert!(said.out.contains("order.keys: 1 of yours, ") && said.out.contains(" built in\n"), "{said:?}");
    std::fs::write(&path, format!("{rule}  builtin_keys: false\n")).unwrap();
    let said = spoor(&["config", "check", text(&path)], &[]);
    assert!(said.out.contains("order.keys: 1 of yours, 0 built in, "), "{said:?}");
    check(&["config", "check"], &[], 2, "name a file");
}

#[test]
fn failures_end_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not.pcap");
    std::fs::write(&path, "#!/bin/sh").unwrap();
    check(&["replay", "/nonexistent.pcap"], &[], 1, "cannot open `/nonexistent.pcap`: No such file");
    check(&["replay", text(&path)], &[], 1, "neither a recording nor a pcap or pcapng capture");
    check(&["record", "--output", "/nonexistent/x", "--seconds", "1"], &[], 1, "cannot write the recording");
}

#[test]
fn success_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let default = spoor(&["config", "default"], &[]);
    assert_eq!(default.code, Some(0));
    let path = directory.path().join("default.yaml");
    std::fs::write(&path, &default.out).unwrap();
    let checked = spoor(&["config", "check", text(&path)], &[]);
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), format!("{}: ok\n", path.display()).as_str()));
    let schema: Value = serde_json::from_str(&spoor(&["config", "schema"], &[]).out).unwrap();
    assert!(schema.pointer("/properties/export").is_some(), "{schema}");
    for arguments in
        [&["--help"][..], &["--version"], &["run", "--help"], &["replay", "--help"], &["record", "--help"]]
    {
        let said = spoor(arguments, &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!said.out.is_empty());
    }
}

#[test]
fn doctor_speaks_text_and_json() {
    let said = spoor(&["doctor", "--json"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said.code, Some(i32::from(report["ok"] == Value::Bool(false))), "{said:?}");
    let findings = report["findings"].as_array().unwrap();
    let endpoint = findings.iter().find(|finding| finding["name"] == "otlp endpoint").unwrap();
    assert_eq!(endpoint["level"], "warn");
    assert!(endpoint["says"].as_str().unwrap().contains("cannot be reached"), "{endpoint}");
    assert!(endpoint["remedy"].is_string());
    let text = spoor(&["doctor"], &[("SPOOR_EXPORT_OTLP_PROTOCOL", "smoke")]);
    assert_eq!(text.code, Some(1));
    assert!(text.out.contains("fail  configuration"), "{text:?}");
}

#[test]
fn doctor_asks_the_back_end_as_spans_will() {
    let finding = |endpoint: &str, protocol: &str| {
        let environment =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let report: Value = serde_json::from_str(&spoor(&["doctor", "--json"], &environment).out).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|finding| finding["name"] == "otlp endpoint").unwrap()
    };
    let sink = Sink::start();
    for (endpoint, protocol) in [(sink.grpc_url(), "grpc"), (sink.http_url(), "http/protobuf")] {
        let found = finding(&endpoint, protocol);
        assert_eq!(found["level"], "ok", "{found}");
        assert!(found["says"].as_str().unwrap().contains("takes spans"), "{found}");
    }
    assert_eq!((sink.received().len(), sink.spans().len()), (2, 0), "requests without spans");

    // A plain web server, as everybody has one on some port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let answer = "HTTP/1.0 501 Unsupported method\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                          content-type: text/html\r\n\r\n<html>";
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    for (scheme, protocol, level, says) in [
        ("http", "http/protobuf", "fail", "a web page"),
        ("http", "grpc", "warn", "does not speak gRPC"),
        ("https", "grpc", "warn", "does not speak TLS"),
        ("https", "http/protobuf", "warn", "cannot be reached"),
    ] {
        let found = finding(&format!("{scheme}://{address}"), protocol);
        assert_eq!(found["level"], level, "{found}");
        assert!(found["says"].as_str().unwrap().contains(says), "{scheme}, {protocol}: {found}");
    }
}

#[test]
fn replay_prints_trees_on_standard_output_and_counts_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 2);
    for arguments in [&["replay", text(&file)][..], &["replay", text(&file), "--print", "tree"]] {
        let said = spoor(arguments, &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.out.matches("shop ← ").count(), 2, "{}", said.out);
        assert_eq!(said.out.matches("└─ shop → POST").count(), 2, "{}", said.out);
        assert!(said.out.contains("order 2  trace "), "{}", said.out);
        assert!(
            !said.out.contains('\x1b') && !said.err.contains('\x1b'),
            "colour without a terminal: {said:?}"
        );
        assert!(said.err.contains("4 operations (http 4, amqp 0, postgresql 0"), "{said:?}");
        assert!(said.err.contains("lost: nothing"), "{said:?}");
    }
}

#[test]
fn replay_prints_one_otlp_json_request_per_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 3);
    let said = spoor(&["replay", text(&file), "--print", "otlp-json"], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut spans = 0;
    for line in said.out.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        for group in request["resourceSpans"].as_array().unwrap() {
            let attributes = group["resource"]["attributes"].as_array().unwrap();
            let host = attributes.iter().find(|attribute| attribute["key"] == "host.id").unwrap();
            assert_eq!(host["value"]["stringValue"], "host-of-the-recording");
            spans += group["scopeSpans"][0]["spans"].as_array().unwrap().len();
        }
    }
    assert_eq!(spans, 6);
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 2000);
    for form in ["tree", "otlp-json"] {
        let arguments = ["replay", text(&file), "--print", form];
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        let said = said(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{form}: {said:?}");
        assert!(!said.err.contains("panicked") && !said.err.contains("error"), "{form}: {said:?}");
    }
}

#[test]
fn replay_exports_everything() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 500);
    let sink = Sink::start();
    let said = spoor(&["replay", text(&file), "--otlp-endpoint", &sink.grpc_url()], &[]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.err.contains("exported: 1000 spans"), "{said:?}");
    let spans = sink.spans();
    assert_eq!(spans.len(), 1000);
    let traces: std::collections::HashSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
    assert_eq!(traces.len(), 500, "each order is a trace of its own");
}

#[test]
fn unreachable_endpoint_is_told_and_the_spans_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 10);
    let spool = directory.path().join("spool");
    let environment = [("SPOOR_EXPORT_SPOOL_DIRECTORY", text(&spool))];
    let said = spoor(&["replay", text(&file), "--otlp-endpoint", "http://127.0.0.1:1"], &environment);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("cannot deliver to http://127.0.0.1:1/"), "{said:?}");
    assert!(said.err.contains("20 wait in the spool"), "{said:?}");
    let sink = Sink::start();
    let said = spoor(&["replay", text(&file), "--otlp-endpoint", &sink.grpc_url()], &environment);
    assert!(said.err.contains("exported: 40 spans"), "{said:?}");
    assert_eq!(sink.spans().len(), 40);
}

#[test]
fn a_replay_that_does_not_deliver_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 10);
    let lost = "error: 20 spans did not reach the back end; the lines above say why";
    let nobody = ["replay", text(&file), "--otlp-endpoint", "http://127.0.0.1:1", "--timeout", "1s"];
    let said = spoor(&nobody, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("cannot deliver to http://127.0.0.1:1/: ") && said.err.contains(lost),
        "{said:?}"
    );

    let refusing = Sink::start();
    refusing.reply([Reply::Grpc(tonic::Code::InvalidArgument, None)]);
    let said = spoor(&["replay", text(&file), "--otlp-endpoint", &refusing.grpc_url()], &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("refused 20 spans for good") && said.err.contains(lost), "{said:?}");
    check(&["replay", text(&file), "--timeout", "soon"], &[], 2, "not a duration");
}

#[test]
fn a_replay_waits_for_a_back_end_that_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 10);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = format!("http://{address}");
    let arguments = ["replay", text(&file), "--otlp-endpoint", &endpoint];
    let child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Longer than a live run waits at its end.
    std::thread::sleep(Duration::from_secs(12));
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.code, sink.spans().len()), (Some(0), 20), "{said:?}");
}

/// Kills a replay that writes to its spool, at a moment that differs from round to round.
#[test]
fn kill_leaves_nothing_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let file = recording(directory.path(), 3000);
    let spool = directory.path().join("spool");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = format!("http://{address}");
    let environment =
        [("SPOOR_EXPORT_SPOOL_DIRECTORY", text(&spool)), ("SPOOR_EXPORT_OTLP_MAX_REQUEST_BYTES", "16384")];
    let arguments = ["replay", text(&file), "--otlp-endpoint", &endpoint];
    let written = || {
        let entries = std::fs::read_dir(&spool)
            .map(|entries| entries.flatten().collect())
            .unwrap_or_else(|_| Vec::new());
        entries.iter().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum::<u64>()
    };
    for round in 1..=5 {
        let mut child = command(&arguments).envs(environment).stderr(Stdio::piped()).spawn().unwrap();
        let (before, end) = (written(), Instant::now() + Duration::from_secs(20));
        while written() < before + round * 30_000 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "nothing was spooled");
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        child.wait().unwrap();
        assert!(!err.contains("damaged"), "{err}");
    }
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let Said { code, err, .. } = spoor(&arguments, &environment);
    assert_eq!(code, Some(0), "{err}");
    assert!(!err.contains("damaged"), "{err}");
    // Everything spooled before the kills, and the whole last replay, decoded by the receiver.
    let spans = sink.spans();
    assert!(spans.len() > 6000, "{} spans, {err}", spans.len());
    assert!(spans.iter().all(|span| span.trace_id.len() == 16 && span.span_id.len() == 8));
}

/// The README's first picture is what its sentence says: one tree of that recording, all of it.
#[test]
fn the_first_picture_of_the_readme_is_what_replay_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let picture = readme.split("```").nth(1).unwrap().trim_matches('\n');
    let file = readme.split('`').find(|text| text.starts_with("tests/fixtures/")).unwrap();
    let said = spoor(&["replay", text(&root.join(file)), "--print", "tree"], &[]);
    assert!(picture.lines().count() > 5 && picture.starts_with("order "), "{picture}");
    // A tree ends with an empty line.
    let is_printed = format!("\n{}\n", said.out).contains(&format!("\n{picture}\n\n"));
    assert!(is_printed, "the README shows\n{picture}\nand this is printed:\n{}", said.out);
}
