//! A real browser over a running `spoor-serve` with the demo's orders in it: what a person sees and can do.
//!
//! `drive.mjs` drives Debian's chromium; what it needs of Node.js is installed by `cargo xtask setup`, never committed.
//! With `SPOOR_PICTURES` set to a folder it leaves pictures of the pages there.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A busy machine may take this long to start a process.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; dropping it kills it.
struct Server {
    child: Child,
    pages: SocketAddr,
    otlp: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(folder: &Path, command: &str) -> Command {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_spoor-serve"));
    serve.args(command.split(' ')).arg("--data").arg(folder.join("data"));
    serve
}

/// Its output, when it went well.
fn output(mut command: Command) -> String {
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn start(folder: &Path) -> Server {
    let (grpc, otlp, pages) = (free(), free(), free());
    let mut run = serve(folder, "run");
    run.arg("--key-file").arg(folder.join("master.key")).args(["--zone", "UTC", "--lang", "en", "--model"]);
    run.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/journeys/model.yaml"));
    for (name, address) in [("--otlp-grpc", grpc), ("--otlp-http", otlp), ("--listen", pages)] {
        run.arg(name).arg(address.to_string());
    }
    let child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spoor-serve starts");
    let server = Server { child, pages, otlp };
    let begin = Instant::now();
    while TcpStream::connect(pages).is_err() {
        assert!(begin.elapsed() < PATIENCE, "spoor-serve does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// The packages that `cargo xtask setup` installed for this lock file.
fn node_modules() -> Option<PathBuf> {
    let own = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/package-lock.json")).ok()?;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let folders = fs::read_dir(cache.join("spoor")).ok()?.flatten().map(|entry| entry.path());
    let mut fitting = folders.filter(|folder| {
        folder.join("node_modules/.package-lock.json").is_file()
            && fs::read(folder.join("package-lock.json")).is_ok_and(|lock| lock == own)
    });
    fitting.next().map(|folder| folder.join("node_modules"))
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says why the test is skipped and counts it, as the harness of the live tests does.
fn skip(reason: &str) {
    eprintln!("skipped pages_in_a_browser: {reason}");
    if let Some(path) = std::env::var_os("SPOOR_SKIPPED") {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "pages_in_a_browser\t{reason}")).expect("a skip is counted");
    }
}

#[test]
fn pages_in_a_browser() {
    let (Some(node), Some(chromium), Some(modules)) = (program("node"), program("chromium"), node_modules())
    else {
        return skip("node, chromium and their packages are not here: `cargo xtask setup` installs them");
    };
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("master.key");
    let mut new_key = Command::new(env!("CARGO_BIN_EXE_spoor-serve"));
    new_key.args(["key", "new"]).arg(&key);
    output(new_key);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packed = fs::read(root.join("../tests/fixtures/journeys/demo.jsonl.zst")).expect("the demo's spans");
    let spans = zstd::decode_all(packed.as_slice()).expect("zstd");
    let file = folder.path().join("demo.jsonl");
    fs::write(&file, spans).expect("written");
    let mut import = serve(folder.path(), "import");
    import.arg("--key-file").arg(&key).arg(&file);
    output(import);
    let server = start(folder.path());
    let base = format!("http://{}", server.pages);
    let mut invite = serve(folder.path(), "user invite anna --role admin");
    invite.args(["--url", &base]);
    let link = output(invite);
    let mut drive = Command::new(node);
    drive.arg(root.join("tests/browser/drive.mjs")).arg(&modules).arg(&chromium);
    drive.args([&base, link.trim(), &format!("http://{}", server.otlp)]);
    print!("{}", output(drive));
}
