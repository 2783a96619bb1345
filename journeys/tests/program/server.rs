//! A running `spoor-serve`, at ports that the kernel gave it: it says itself which, so nobody else can have taken them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A busy machine may take this long for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// `spoor-serve` with a command of its own.
pub(crate) fn spoor_serve(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spoor-serve"));
    command.args(words.split(' '));
    command
}

/// `spoor-serve` on the store of a folder.
pub(crate) fn of_folder(folder: &Path, words: &str) -> Command {
    let mut command = spoor_serve(words);
    command.arg("--data").arg(folder.join("data"));
    command
}

/// The same, under the folder's key.
pub(crate) fn under_key(folder: &Path, words: &str) -> Command {
    let mut command = of_folder(folder, words);
    command.arg("--key-file").arg(folder.join("master.key"));
    command
}

/// What a command says that goes well.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().expect("a process");
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}{error}");
    said.into_owned()
}

/// A folder with a new key.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    output(spoor_serve("key new").arg(folder.path().join("master.key")));
    folder
}

/// Leaves the spans of the demo's orders in a file of the folder and imports them.
pub(crate) fn import_demo(folder: &Path) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/journeys/demo.jsonl.zst");
    let packed = std::fs::read(demo).expect("the demo's spans");
    let spans = zstd::decode_all(packed.as_slice()).expect("zstd");
    std::fs::write(folder.join("demo.jsonl"), spans).expect("written");
    output(under_key(folder, "import").arg(folder.join("demo.jsonl")));
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts a program and waits until a line of its log says what is wanted.
    pub(crate) fn start<T>(mut command: Command, wanted: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let says = BufReader::new(child.stderr.take().expect("it is piped"));
        let process = Self(child);
        let (heard, lines) = mpsc::channel();
        // To the end, so that it never waits for us.
        std::thread::spawn(move || {
            for line in says.lines().map_while(Result::ok) {
                let _ = heard.send(line);
            }
        });
        let begin = Instant::now();
        let mut said = String::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE.saturating_sub(begin.elapsed())) {
            if let Some(found) = wanted(&line) {
                return (process, found);
            }
            said.push_str(&line);
            said.push('\n');
        }
        panic!("{command:?} is not ready:\n{said}")
    }
}

/// The address after `name=` in a line of a log.
pub(crate) fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) otlp: SocketAddr,
    pub(crate) pages: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Server {
    /// `run` is a whole `spoor-serve run` but for its addresses.
    pub(crate) fn start(mut run: Command) -> Self {
        for name in ["--otlp-grpc", "--otlp-http", "--listen", "--admin"] {
            run.args([name, "127.0.0.1:0"]);
        }
        let (process, (otlp, pages, metrics)) = Process::start(run, |line| {
            Some((address(line, "http")?, address(line, "pages")?, address(line, "metrics")?))
        });
        Self { process, otlp, pages, metrics }
    }
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An answer's body, of an answer that says it went well.
pub(crate) fn http(to: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
