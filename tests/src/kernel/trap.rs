//! The trap program: the name of a scenario → what it says it has done.
//!
//! *Owns* building and running `fixtures/kernel/trap.c`, and reading its report.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use spoor_core::record::{ConnId, Direction};

use super::COMM;

const SOURCE: &str = include_str!("../../fixtures/kernel/trap.c");

/// The compiled trap program: the one that `SPOOR_TRAP` names, or one that is built once per version of its source.
pub fn trap_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // A guest has no compiler.
        if let Some(built) = std::env::var_os("SPOOR_TRAP") {
            return built.into();
        }
        let mut hasher = DefaultHasher::new();
        SOURCE.hash(&mut hasher);
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = manifest.join("../target/tmp").join(format!("trap-{:016x}", hasher.finish()));
        let binary = directory.join(COMM);
        if !binary.is_file() {
            std::fs::create_dir_all(&directory).expect("a directory for the trap program");
            // Other test processes may build it at the same time: each under its own name.
            let mine = directory.join(format!("build-{}", std::process::id()));
            let status = Command::new("cc")
                .args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
                .arg(&mine)
                .arg(manifest.join("fixtures/kernel/trap.c"))
                .status()
                .expect("cc, the C compiler that Rust links with");
            assert!(status.success(), "cc: {status}");
            std::fs::rename(&mine, &binary).expect("the trap program in its place");
        }
        binary
    })
}

/// Whose bytes, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub side: u8,
    pub bytes: u64,
}

/// What a trap says it has done.
#[derive(Debug, Default)]
pub struct Facts {
    /// Cookies by name.
    pub sockets: BTreeMap<String, ConnId>,
    /// Connecting end first.
    pub pairs: Vec<(String, String)>,
    pub moved: BTreeMap<(String, Way), Moved>,
    /// Intervals that moved without readable bytes.
    pub holes: BTreeMap<(String, Way), Vec<(u64, u64)>>,
    /// Intervals that moved without any event.
    pub gaps: BTreeMap<(String, Way), Vec<(u64, u64)>>,
    /// Intervals that a call moved of which only its return is an event.
    pub spliced: BTreeMap<(String, Way), Vec<(u64, u64)>>,
    /// Measurements: what, operations, nanoseconds.
    pub took: Vec<(String, u64, u64)>,
}

/// [`Direction`] with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Egress,
    Ingress,
}

impl Way {
    pub fn direction(self) -> Direction {
        match self {
            Way::Egress => Direction::Egress,
            Way::Ingress => Direction::Ingress,
        }
    }
}

impl Facts {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let way = |text: &str| if text == "egress" { Way::Egress } else { Way::Ingress };
        match words.as_slice() {
            ["socket", name, cookie] => {
                self.sockets.insert((*name).to_owned(), ConnId(number(cookie)));
            }
            ["pair", client, server] => self.pairs.push(((*client).to_owned(), (*server).to_owned())),
            [direction @ ("egress" | "ingress"), name, side, bytes] => {
                let moved = Moved { side: number(side) as u8, bytes: number(bytes) };
                self.moved.insert(((*name).to_owned(), way(direction)), moved);
            }
            [kind @ ("hole" | "gap" | "spliced"), name, direction, from, to] => {
                let list = match *kind {
                    "hole" => &mut self.holes,
                    "gap" => &mut self.gaps,
                    _ => &mut self.spliced,
                };
                let key = ((*name).to_owned(), way(direction));
                list.entry(key).or_default().push((number(from), number(to)));
            }
            ["took", what, operations, ns] => {
                self.took.push(((*what).to_owned(), number(operations), number(ns)));
            }
            _ => panic!("the trap says `{line}`"),
        }
    }

    /// The only pair's identifiers: client, server.
    pub fn ends(&self) -> (ConnId, ConnId) {
        let (client, server) = self.pairs.first().expect("a pair");
        (self.sockets[client], self.sockets[server])
    }
}

/// A running trap.
#[derive(Debug)]
pub struct Trap {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    pub facts: Facts,
}

impl Trap {
    /// Starts a scenario.
    pub fn start(scenario: &str, family: &str) -> Self {
        Self::start_by(Command::new(trap_path()), scenario, family)
    }

    /// Starts a scenario through another program, such as `ip netns exec`.
    pub fn start_by(mut command: Command, scenario: &str, family: &str) -> Self {
        command.args([scenario, family]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the trap starts");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("its standard output"));
        Self { child, to, from, facts: Facts::default() }
    }

    /// Process of the trap.
    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until the trap waits. False when it has ended instead.
    pub fn until_ready(&mut self) -> bool {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line).expect("the trap's output") == 0 {
                return false;
            }
            match line.trim() {
                "ready" => return true,
                line => self.facts.line(line),
            }
        }
    }

    /// Writes a line to the trap.
    pub fn tell(&mut self, line: &str) {
        let to = self.to.as_mut().expect("its standard input");
        writeln!(to, "{line}").and_then(|()| to.flush()).expect("the trap listens");
    }

    /// Lets the trap end; what it did.
    pub fn finish(mut self) -> Facts {
        self.to = None;
        while self.until_ready() {}
        let status = self.child.wait().expect("the trap ends");
        assert!(status.success(), "the trap failed: {status}");
        std::mem::take(&mut self.facts)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a scenario to its end.
pub fn run(scenario: &str, family: &str) -> Facts {
    Trap::start(scenario, family).finish()
}

/// Byte `i` of what a side writes; the same function as in the trap.
pub fn pattern(side: u8, i: u64) -> u8 {
    let sum = i
        .wrapping_mul(31)
        .wrapping_add((i >> 8).wrapping_mul(17))
        .wrapping_add((i >> 16).wrapping_mul(7))
        .wrapping_add(u64::from(side) * 101);
    sum as u8
}
