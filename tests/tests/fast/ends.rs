//! Every end of the command, seen from outside: readers that stop or go, back ends that hang, directories of others, signals.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use spoor_tests::sink::Sink;
use spoor_tests::skip::skip;
use spoor_tests::spoor::{binary, command, said, spoor};

/// What is promised: SIGTERM to the end of the process.
const PROMISED: Duration = Duration::from_secs(10);
/// For a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);

/// A capture of some hundred operations.
fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/http1/curl.pcap")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn signal(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

/// Waits for the end; what is not over by `limit` is killed, and the test fails.
fn end_within(child: &mut Child, limit: Duration) -> (ExitStatus, Duration) {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status, began.elapsed());
        }
        if began.elapsed() > limit {
            child.kill().unwrap();
            panic!("it has not ended after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the process hears SIGTERM instead of dying of it.
fn hears_signals(child: &Child) {
    let began = Instant::now();
    let bit = 1_u64 << (Signal::TERM.as_raw() - 1);
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
        if u64::from_str_radix(caught, 16).unwrap_or(0) & bit != 0 {
            return;
        }
        assert!(began.elapsed() < LIMIT, "no handler: {status}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A replay that prints more than a pipe holds to a reader that does not read.
fn unread() -> (Child, impl Read) {
    let (reader, writer) = std::io::pipe().unwrap();
    let path = capture();
    let mut replay = command(&["replay", text(&path), "--print", "otlp-json"]);
    let child = replay.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    hears_signals(&child);
    (child, reader)
}

fn errors(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_reader_that_stopped_does_not_keep_the_end() {
    let (mut child, _reader) = unread();
    // Nobody asked for the end: it waits for the reader.
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "{}", errors(&mut child));
    signal(&child);
    let (_, took) = end_within(&mut child, PROMISED);
    let said = errors(&mut child);
    assert!(said.contains("standard output"), "what was not printed is told, after {took:?}: {said}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut child, _reader) = unread();
    signal(&child);
    std::thread::sleep(Duration::from_millis(500));
    signal(&child);
    let (status, took) = end_within(&mut child, Duration::from_secs(3));
    assert_eq!(status.code(), Some(130), "after {took:?}");
}

#[test]
fn a_source_that_never_comes_does_not_keep_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let mut child = command(&["replay", text(&fifo)]).stderr(Stdio::piped()).spawn().unwrap();
    hears_signals(&child);
    signal(&child);
    let (status, _) = end_within(&mut child, PROMISED);
    let said = errors(&mut child);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the end took longer than") && said.contains("reading the file"), "{said}");
}

#[test]
fn a_back_end_that_hangs_does_not_keep_the_end_and_the_spool_has_the_spans() {
    let directory = tempfile::tempdir().unwrap();
    let (listener, path) = (TcpListener::bind("127.0.0.1:0").unwrap(), capture());
    let url = format!("http://{}", listener.local_addr().unwrap());
    for protocol in ["grpc", "http/protobuf"] {
        let spool = directory.path().join(protocol.replace('/', "-"));
        let arguments = ["replay", text(&path), "--otlp-endpoint", &url, "--otlp-protocol", protocol];
        let mut replay = command(&arguments);
        replay.env("SPOOR_EXPORT_SPOOL_DIRECTORY", &spool);
        let mut child = replay.stderr(Stdio::piped()).spawn().unwrap();
        hears_signals(&child);
        std::thread::sleep(Duration::from_millis(500));
        signal(&child);
        end_within(&mut child, PROMISED);
        let said = errors(&mut child);
        let kept =
            fs::read_dir(&spool).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum::<u64>();
        assert!(kept > 10_000, "{protocol}: {kept} bytes in the spool: {said}");
    }
}

#[test]
fn outputs_that_are_closed_or_full_are_no_panic() {
    let path = capture();
    for print in ["tree", "otlp-json"] {
        let arguments = ["replay", text(&path), "--print", print];
        // Gone before the first byte.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let ended = said(output);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("spans not printed (standard output closed)"), "{ended:?}");
        // What cannot be written was not seen enough of.
        let output =
            command(&arguments).stdout(File::options().write(true).open("/dev/full").unwrap()).output();
        let ended = said(output.unwrap());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.err.matches("cannot write to standard output").count(), 1, "{ended:?}");
        assert!(ended.err.contains("spans not printed"), "{ended:?}");
        for shut in ["/dev/full", "closed"] {
            let mut replay = command(&arguments);
            match shut {
                "closed" => {
                    let (reader, writer) = std::io::pipe().unwrap();
                    drop(reader);
                    replay.stderr(writer);
                }
                path => drop(replay.stderr(File::options().write(true).open(path).unwrap())),
            }
            let status = replay.stdout(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(0), "standard error {shut}, {print}");
        }
    }
    // Errors, help and documents, too.
    for arguments in
        [&["replay", "/nonexistent"][..], &["--help"], &["config", "default"], &["seccomp"], &["no"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = command(arguments).stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
        assert!(status.code().is_some_and(|code| code < 3), "{arguments:?}: {status:?}");
    }
}

#[test]
fn a_reader_that_goes_ends_the_printing_and_not_the_export() {
    let path = capture();
    let printed = spoor(&["replay", text(&path), "--print", "otlp-json"], &[]);
    let exported = |err: &str| {
        let rest = err.split("exported: ").nth(1).unwrap_or_default();
        rest.split(' ').next().unwrap_or_default().parse::<usize>().unwrap_or_default()
    };
    let sink = Sink::start();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let url = sink.grpc_url();
    let arguments = ["replay", text(&path), "--print", "otlp-json", "--otlp-endpoint", &url];
    let ended = said(command(&arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let whole = printed.err.split("; spans ").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
    assert_eq!(Some(exported(&ended.err)), whole, "{ended:?}");
    assert_eq!(sink.span_names().len(), exported(&ended.err));
    assert!(ended.err.contains("spans not printed (standard output closed)"), "{ended:?}");
    assert!(ended.err.matches("nothing more is printed").count() <= 1, "{ended:?}");
}

#[test]
fn a_back_end_that_takes_nothing_is_waited_for_once() {
    let (listener, path) = (TcpListener::bind("127.0.0.1:0").unwrap(), capture());
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arguments = ["replay", text(&path), "--otlp-endpoint", &url, "--timeout", "4s"];
    // So little memory that it is waited for before the end, too.
    let began = Instant::now();
    let small =
        [("SPOOR_EXPORT_SPOOL_MEMORY_BYTES", "65536"), ("SPOOR_EXPORT_OTLP_MAX_REQUEST_BYTES", "16384")];
    let ended = spoor(&arguments, &small);
    let took = began.elapsed();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}: {ended:?}");
}

/// A spool that cannot be used, `run` and `replay`: what they say, without a panic.
#[track_caller]
fn refused(spool: &Path, words: &[&str]) {
    let path = capture();
    for arguments in [&["run"][..], &["replay", text(&path)]] {
        let environment = [
            ("SPOOR_EXPORT_SPOOL_DIRECTORY", text(spool)),
            ("SPOOR_EXPORT_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            ("SPOOR_ADMIN_LISTEN", ""),
        ];
        let said = spoor(arguments, &environment);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(!said.err.contains("panicked"), "{said:?}");
        let sentences: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
        let [sentence] = sentences.as_slice() else { panic!("{said:?}") };
        for word in words.iter().chain(&["spool", "export.spool.directory"]) {
            assert!(sentence.contains(word), "no `{word}` in: {sentence}");
        }
    }
}

#[test]
fn a_spool_that_cannot_be_used_is_said_in_one_sentence_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
    refused(&at("open"), &["chmod go-w"]);
    refused(&at("open/below"), &["chmod go-w"]);
    fs::write(at("file"), "").unwrap();
    refused(&at("file"), &["is a plain file, not a directory"]);
    fs::create_dir(at("linked")).unwrap();
    fs::set_permissions(at("linked"), Permissions::from_mode(0o700)).unwrap();
    fs::write(at("victim"), "keep").unwrap();
    symlink(at("victim"), at("linked/lock")).unwrap();
    refused(&at("linked"), &["is a link"]);
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "keep");
    refused(Path::new("/proc/spoor"), &["cannot create directory"]);
    if rustix::process::geteuid().is_root() {
        fs::create_dir(at("theirs")).unwrap();
        std::os::unix::fs::chown(at("theirs"), Some(12_345), None).unwrap();
        refused(&at("theirs"), &["belongs to user 12345", "chown 0"]);
    }
    // Another agent's.
    let spool = at("used");
    let limits = spoor::export::spool::Limits { max_bytes: 1 << 20, max_age: Duration::from_secs(60) };
    let held = spoor::export::spool::Spool::open(&spool, limits).unwrap();
    refused(&spool, &["another running agent"]);
    drop(held);
}

#[test]
fn a_recording_is_private_and_never_written_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("victim"), "keep").unwrap();
    symlink(at("victim"), at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();
    for name in ["link", "fifo"] {
        let said = spoor(&["record", "--output", text(&at(name)), "--seconds", "1"], &[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("not a plain file") && said.err.contains("--output -"), "{said:?}");
    }
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "keep");
    // Whether or not this machine lets it capture, the file is there first.
    fs::write(at("old"), "old").unwrap();
    fs::set_permissions(at("old"), Permissions::from_mode(0o666)).unwrap();
    spoor(&["record", "--output", text(&at("old")), "--seconds", "1"], &[]);
    assert_eq!(fs::metadata(at("old")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_ne!(fs::read(at("old")).unwrap(), b"old");
}

#[test]
fn the_memory_of_the_process_is_dumped_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU | rustix::fs::Mode::ROTH).unwrap();
    let mut child = command(&["replay", text(&fifo)]).spawn().unwrap();
    hears_signals(&child);
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    child.kill().unwrap();
    child.wait().unwrap();

    // As another user: what is dumpable belongs to that user, what is not belongs to root.
    let Some(setpriv) = spoor_tests::tools::tool("setpriv").filter(|_| rustix::process::geteuid().is_root())
    else {
        return skip("changing the user needs root and setpriv");
    };
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&fifo, Permissions::from_mode(0o666)).unwrap();
    let copy = directory.path().join("spoor");
    fs::copy(binary(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let mut as_nobody = Command::new(setpriv);
    as_nobody
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy)
        .arg("replay")
        .arg(&fifo);
    let mut child = as_nobody.stdin(Stdio::null()).spawn().unwrap();
    hears_signals(&child);
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/environ", child.id())).unwrap());
    assert_eq!(owner, 0, "its memory can be read by whoever is the same user");
    child.kill().unwrap();
    child.wait().unwrap();
}
