//! What an executable shows → the runtime its program runs on, and that one's version where the file has it.
//!
//! *Owns* the signs by which runtimes are told, and the names that `process.runtime.name` has for them. Each sign is one
//! that only the runtime's own makers put there: a section, an exported symbol, a library it cannot do without.
//! *Spec*: semantic conventions, `process.runtime.*` ("for compiled native binaries, this SHOULD be the name of the
//! compiler"); the values are those of the official SDKs.

use std::io::{Read, Seek};

use super::go;
use super::image::Image;

/// What a program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Go,
    CPython,
    Node,
    Jvm,
    DotNet,
    Mono,
    Ruby,
    /// Erlang, Elixir.
    Beam,
    /// None of its own: the compiler is named.
    Rust,
}

impl Kind {
    /// `process.runtime.name`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::CPython => "cpython",
            Self::Node => "nodejs",
            // `java.runtime.name` names the vendor's build, which the launcher does not show.
            Self::Jvm => "java",
            Self::DotNet => ".NET",
            Self::Mono => "Mono",
            Self::Ruby => "ruby",
            Self::Beam => "BEAM",
            Self::Rust => "rustc",
        }
    }
}

/// A runtime and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub kind: Kind,
    /// As far as the file shows it: `3.11` where only the library's name has it, `3.11.2` where the program does.
    pub version: Option<String>,
}

/// Texts of a launcher are few.
const MAX_RODATA: u64 = 64 << 10;
/// The compiler's and linker's notes.
const MAX_COMMENT: u64 = 16 << 10;
/// A version is short.
const MAX_VERSION: usize = 64;

/// Exported symbols that name a runtime.
const SYMBOLS: [(&str, Kind); 6] = [
    // `node::Start(int, char**)`
    ("_ZN4node5StartEiPPc", Kind::Node),
    ("Py_BytesMain", Kind::CPython),
    ("mono_jit_init", Kind::Mono),
    ("enif_alloc", Kind::Beam),
    // Programs published as one file have the runtime inside.
    ("DotNetRuntimeInfo", Kind::DotNet),
    ("JNI_CreateJavaVM", Kind::Jvm),
];

/// `name` is the last part of the file's path.
pub(super) fn of<R: Read + Seek>(image: &Image<'_, R>, name: &str) -> Option<Runtime> {
    let (needed, sections) = (image.needed(), image.sections());
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    if let Some(info) = section(go::SECTION) {
        return Some(Runtime { kind: Kind::Go, version: go::version(image, info) });
    }
    if let Some(runtime) = needed.iter().find_map(|library| of_library(library)) {
        let version = match runtime.kind {
            Kind::Jvm => section(".rodata").and_then(|texts| java_version(image.bytes(texts, MAX_RODATA)?)),
            _ => runtime.version,
        };
        return Some(Runtime { version, ..runtime });
    }
    if let Some(exports) = image.exports()
        && let Some((_, kind)) = SYMBOLS.iter().find(|(symbol, _)| exports.find(symbol).is_some())
    {
        let version = match kind {
            Kind::CPython => exports.find("Py_Version").and_then(|at| python_version(image.bytes_at(at, 8)?)),
            _ => None,
        };
        return Some(Runtime { kind: *kind, version });
    }
    // Ahead-of-time compiled .NET has its code in a section of its own; the launcher exports nothing.
    if section("__managedcode").is_some() || name == "dotnet" {
        return Some(Runtime { kind: Kind::DotNet, version: None });
    }
    let version = section(".comment").and_then(|notes| rustc_version(image.bytes(notes, MAX_COMMENT)?))?;
    Some(Runtime { kind: Kind::Rust, version: Some(version) })
}

/// `libpython3.11.so.1.0`, `libjli.so`, `libnode.so.108`, `libruby-3.1.so.3.1`.
fn of_library(library: &str) -> Option<Runtime> {
    let (stem, _) = library.split_once(".so")?;
    let versioned = |kind, version: &str| {
        let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && version.len() <= MAX_VERSION;
        Runtime { kind, version: is_version.then(|| version.to_owned()) }
    };
    if let Some(version) = stem.strip_prefix("libpython") {
        return Some(versioned(Kind::CPython, version));
    }
    if let Some(version) = stem.strip_prefix("libruby") {
        return Some(versioned(Kind::Ruby, version.trim_start_matches('-')));
    }
    let kind = match stem {
        "libjli" | "libjvm" => Kind::Jvm,
        "libnode" => Kind::Node,
        "libcoreclr" | "libhostfxr" => Kind::DotNet,
        "libmonosgen-2.0" | "libmono-2.0" => Kind::Mono,
        _ => return None,
    };
    Some(Runtime { kind, version: None })
}

/// `PY_VERSION_HEX`: 3.11.2 final is 0x030b02f0; what is no final release has its level and number behind.
fn python_version(bytes: &[u8]) -> Option<String> {
    let [low, high] = [bytes.get(..4)?, bytes.get(4..8)?].map(|half| <[u8; 4]>::try_from(half).ok());
    // An `unsigned long` of either byte order, of which four bytes are zero.
    let hex = match (low?, high?) {
        (low, [0, 0, 0, 0]) => u32::from_le_bytes(low),
        ([0, 0, 0, 0], high) => u32::from_be_bytes(high),
        _ => return None,
    };
    let [major, minor, micro, rest] = hex.to_be_bytes();
    let level = match rest >> 4 {
        0xa => format!("a{}", rest & 0xf),
        0xb => format!("b{}", rest & 0xf),
        0xc => format!("rc{}", rest & 0xf),
        0xf => String::new(),
        _ => return None,
    };
    Some(format!("{major}.{minor}.{micro}{level}"))
}

/// The launcher has its version among its few texts, as in `17.0.15+6-Debian-1deb12u1` or `1.8.0_352-b08`, and a shorter
/// `0.0` or `1.8` beside it.
fn java_version(texts: &[u8]) -> Option<String> {
    let of_version = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'+' | b'-' | b'_');
    let is_version = |text: &&[u8]| {
        text.first().is_some_and(u8::is_ascii_digit)
            && text.len() <= MAX_VERSION
            && text.iter().all(|c| of_version(*c))
            && text.iter().any(|c| matches!(c, b'.' | b'+'))
    };
    let found = texts.split(|c| *c == 0).filter(is_version).max_by_key(|text| text.len())?;
    let text = std::str::from_utf8(found).ok()?;
    (text != "0.0").then(|| text.to_owned())
}

/// `rustc version 1.95.0 (59807616e 2026-04-14)`.
fn rustc_version(notes: &[u8]) -> Option<String> {
    let mut notes = notes.split(|c| *c == 0).filter_map(|note| std::str::from_utf8(note).ok());
    let version = notes.find_map(|note| note.strip_prefix("rustc version "))?.split(' ').next()?;
    let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && version.len() <= MAX_VERSION;
    is_version.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_name_runtimes() {
        let check = |library: &str, expected: Option<(Kind, Option<&str>)>| {
            let found = of_library(library);
            let found = found.as_ref().map(|runtime| (runtime.kind, runtime.version.as_deref()));
            assert_eq!(found, expected, "{library}");
        };
        check("libpython3.11.so.1.0", Some((Kind::CPython, Some("3.11"))));
        check("libpython3.13t.so.1.0", Some((Kind::CPython, Some("3.13t"))));
        check("libpython.so", Some((Kind::CPython, None)));
        check("libruby-3.1.so.3.1", Some((Kind::Ruby, Some("3.1"))));
        check("libruby.so.3.3", Some((Kind::Ruby, None)));
        check("libjli.so", Some((Kind::Jvm, None)));
        check("libnode.so.108", Some((Kind::Node, None)));
        check("libnodemon.so", None);
        check("libc.so.6", None);
        check("", None);
    }

    #[test]
    fn versions_are_read_as_their_runtimes_write_them() {
        assert_eq!(python_version(&0x030b_02f0_u64.to_le_bytes()).as_deref(), Some("3.11.2"));
        assert_eq!(python_version(&0x030e_00c2_u64.to_be_bytes()).as_deref(), Some("3.14.0rc2"));
        assert_eq!(python_version(&u64::MAX.to_le_bytes()), None);
        assert_eq!(python_version(&[0; 7]), None);
        let java = |texts: &[u8]| java_version(texts);
        assert_eq!(
            java(b"java\0-J-ms8m\x000.0\x0017.0.15+6-Debian-1deb12u1\0").as_deref(),
            Some("17.0.15+6-Debian-1deb12u1")
        );
        assert_eq!(java(b"1.8\x001.8.0_352-b08\0").as_deref(), Some("1.8.0_352-b08"));
        assert_eq!(java(b"0.0\0openjdk\0"), None);
        assert_eq!(
            rustc_version(b"GCC: 12\0rustc version 1.95.0 (59807616e 2026-04-14)\0").as_deref(),
            Some("1.95.0")
        );
        assert_eq!(rustc_version(b"GCC: (Debian 12.2.0-14) 12.2.0\0"), None);
    }
}
