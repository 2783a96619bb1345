use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

/// A section to be: name, type, flags, link, content.
struct Part(&'static str, u32, u64, u32, Vec<u8>);

const PROGBITS: u32 = 1;
const DYNAMIC: u32 = 6;
const STRTAB: u32 = 3;
const DYNSYM: u32 = 11;
const GNU_HASH: u32 = 0x6fff_fff6;
const LOADED: u64 = 2;
/// Where the first byte of the file is loaded.
const BASE: u64 = 0x40_0000;

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A small program: one segment that is the whole file, and sections.
fn elf(parts: &[Part]) -> Vec<u8> {
    let headers = 64 + 2 * 56;
    let mut names = vec![0];
    let mut file = vec![0; headers];
    let mut table = vec![0; 64];
    for Part(name, kind, flags, link, content) in parts {
        file.resize(file.len().next_multiple_of(8), 0);
        let (offset, len) = (file.len() as u64, content.len() as u64);
        table.extend_from_slice(&(names.len() as u32).to_le_bytes());
        table.extend_from_slice(&kind.to_le_bytes());
        table.extend(words(&[*flags, BASE + offset, offset, len]));
        table.extend_from_slice(&link.to_le_bytes());
        table.extend_from_slice(&1_u32.to_le_bytes());
        table.extend(words(&[8, if *kind == DYNSYM { 24 } else { 16 }]));
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        file.extend_from_slice(content);
    }
    let (name_at, names_offset) = (names.len() as u32, file.len() as u64);
    names.extend_from_slice(b".shstrtab\0");
    file.extend_from_slice(&names);
    table.extend_from_slice(&name_at.to_le_bytes());
    table.extend_from_slice(&STRTAB.to_le_bytes());
    table.extend(words(&[0, 0, names_offset, names.len() as u64, 0, 1, 0]));
    file.resize(file.len().next_multiple_of(8), 0);
    let sections_at = file.len() as u64;
    file.extend_from_slice(&table);

    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    head.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    head.extend(words(&[BASE, 64, sections_at]));
    head.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0]);
    head.extend_from_slice(&(parts.len() as u16 + 2).to_le_bytes());
    head.extend_from_slice(&(parts.len() as u16 + 1).to_le_bytes());
    // The second one is empty.
    for (kind, offset, len) in [(1_u32, 0, file.len() as u64), (0, 0, 0)] {
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&5_u32.to_le_bytes());
        head.extend(words(&[offset, BASE + offset, BASE + offset, len, len, 4]));
    }
    file[..headers].copy_from_slice(&head);
    file
}

/// Build information as Go 1.18 and later write it.
fn go_info(version: &str) -> Part {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    info.push(version.len() as u8);
    info.extend_from_slice(version.as_bytes());
    info.extend_from_slice(b"\x03mod");
    Part(go::SECTION, PROGBITS, LOADED, 0, info)
}

/// Dynamic strings, the libraries asked for, and exported symbols, which are sections 1 to 4.
fn dynamic(needed: &[&str], exports: &[(&str, u64, u64)]) -> Vec<Part> {
    let mut strings = vec![0];
    let mut text = |text: &str| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let entries: Vec<u64> = needed.iter().flat_map(|name| [1, text(name)]).chain([0, 0]).collect();
    let mut symbols = vec![0; 24];
    let mut chain = Vec::new();
    for (at, (name, address, len)) in exports.iter().enumerate() {
        symbols.extend_from_slice(&(text(name) as u32).to_le_bytes());
        symbols.extend_from_slice(&[0x11, 0, 1, 0]);
        symbols.extend(words(&[*address, *len]));
        let hash = name.bytes().fold(5381_u32, |hash, c| hash.wrapping_mul(33).wrapping_add(c.into()));
        let is_last = u32::from(at + 1 == exports.len());
        chain.extend_from_slice(&(hash & !1 | is_last).to_le_bytes());
    }
    // One bucket, a filter that lets everything through.
    let mut hashes: Vec<u8> = [1_u32, 1, 1, 6].iter().flat_map(|word| word.to_le_bytes()).collect();
    hashes.extend_from_slice(&[0xff; 8]);
    hashes.extend_from_slice(&u32::from(!exports.is_empty()).to_le_bytes());
    hashes.extend(chain);
    vec![
        Part(".dynstr", STRTAB, LOADED, 0, strings),
        Part(".dynamic", DYNAMIC, LOADED, 1, words(&entries)),
        Part(".dynsym", DYNSYM, LOADED, 1, symbols),
        Part(".gnu.hash", GNU_HASH, LOADED, 3, hashes),
    ]
}

fn of(bytes: &[u8]) -> Result<Option<Runtime>, ExecutableError> {
    read(Cursor::new(bytes), "x")
}

/// One file with everything in it.
fn whole() -> Vec<u8> {
    let mut parts = dynamic(&["libc.so.6", "libz.so.1"], &[("first", 0x1000, 8), ("second", 0x2000, 16)]);
    parts.push(go_info("go1.27.3"));
    elf(&parts)
}

#[track_caller]
fn check_runtime(parts: &[Part], expected: Option<(Kind, Option<&str>)>) {
    let runtime = of(&elf(parts)).expect("an executable");
    let found = runtime.as_ref().map(|runtime| (runtime.kind, runtime.version.as_deref()));
    assert_eq!(found, expected);
}

#[test]
fn a_program_has_libraries_sections_and_exported_symbols() {
    let source = Source::new(Cursor::new(whole()));
    let image = Image::parse(&source).unwrap();
    assert_eq!(image.needed(), ["libc.so.6", "libz.so.1"]);
    let sections = image.sections();
    let info = sections.iter().find(|section| section.name == go::SECTION).unwrap();
    assert!(info.len == 45 && info.in_file, "{info:?}");
    assert_eq!(image.bytes(info, 45).unwrap()[..15], *b"\xff Go buildinf:\x08");
    let exports = image.exports().unwrap();
    assert_eq!(
        ["second", "third", "first"].map(|name| exports.find(name)),
        [Some(0x2000), None, Some(0x1000)]
    );
}

#[test]
fn runtimes_are_told_by_sections_libraries_and_symbols() {
    check_runtime(&[go_info("go1.27.3 X:jsonv2")], Some((Kind::Go, Some("go1.27.3 X:jsonv2"))));
    check_runtime(&[go_info("not a version")], Some((Kind::Go, None)));
    check_runtime(&dynamic(&["libc.so.6", "libpython3.11.so.1.0"], &[]), Some((Kind::CPython, Some("3.11"))));
    check_runtime(&dynamic(&[], &[("main", 1, 1), ("_ZN4node5StartEiPPc", 2, 1)]), Some((Kind::Node, None)));
    check_runtime(&dynamic(&["libc.so.6"], &[("main", 1, 1)]), None);
    let mut java = dynamic(&["libjli.so"], &[]);
    java.push(Part(".rodata", PROGBITS, LOADED, 0, b"\x01\0java\x000.0\x0021.0.2+13-LTS\0".to_vec()));
    check_runtime(&java, Some((Kind::Jvm, Some("21.0.2+13-LTS"))));
    let comment =
        Part(".comment", PROGBITS, 0, 0, b"rustc version 1.95.0 (5980 2026-04-14)\0GCC: 12\0".to_vec());
    check_runtime(&[comment], Some((Kind::Rust, Some("1.95.0"))));
}

#[test]
fn a_static_python_has_its_version_in_a_symbol() {
    let version = Part(".rodata", PROGBITS, LOADED, 0, words(&[0x030b_02f0]));
    let address = BASE + (64 + 2 * 56_u64).next_multiple_of(8);
    let mut parts = vec![version];
    // The sections that the others link to are one further on.
    for Part(name, kind, flags, link, content) in
        dynamic(&[], &[("Py_BytesMain", 1, 1), ("Py_Version", address, 8)])
    {
        parts.push(Part(name, kind, flags, if link == 0 { 0 } else { link + 1 }, content));
    }
    check_runtime(&parts, Some((Kind::CPython, Some("3.11.2"))));
}

#[test]
fn before_go_1_18_the_version_is_where_an_address_says() {
    let at = BASE + (64 + 2 * 56_u64).next_multiple_of(8);
    let mut info = b"\xff Go buildinf:\x08\0".to_vec();
    info.extend(words(&[at + 32, 0, at + 48, 8]));
    info.extend_from_slice(b"go1.17.5");
    check_runtime(
        &[Part(go::SECTION, PROGBITS, LOADED, 0, info.clone())],
        Some((Kind::Go, Some("go1.17.5"))),
    );
    // An address outside the file, a length that no version has.
    for (place, value) in [(16, u64::MAX - 3), (32, u64::MAX), (32, BASE - 1), (40, u64::MAX), (40, 4096)] {
        let mut info = info.clone();
        info[place..place + 8].copy_from_slice(&value.to_le_bytes());
        check_runtime(&[Part(go::SECTION, PROGBITS, LOADED, 0, info)], Some((Kind::Go, None)));
    }
}

/// The whole program with symbols that are looked for, so that every table is read.
fn exporting() -> Vec<u8> {
    let mut parts = dynamic(&["libc.so.6"], &[("first", 0x1000, 8), ("Py_BytesMain", 0x2000, 16)]);
    parts.push(Part(".rodata", PROGBITS, LOADED, 0, words(&[1, 2])));
    elf(&parts)
}

#[test]
fn a_file_cut_short_anywhere_is_read_as_far_as_it_goes() {
    for (bytes, kind) in [(whole(), Kind::Go), (exporting(), Kind::CPython)] {
        assert_eq!(of(&bytes).unwrap().unwrap().kind, kind);
        let mut readable = 0;
        for len in 0..bytes.len() {
            if let Ok(runtime) = of(&bytes[..len]) {
                readable += 1;
                assert_eq!(runtime, None, "the section headers are last: {len}");
            }
        }
        assert!(readable > 0 && readable < bytes.len());
    }
}

#[test]
fn no_number_in_a_file_is_believed() {
    let started = Instant::now();
    for bytes in [whole(), exporting()] {
        for at in 16..bytes.len() - 8 {
            for value in [0, u64::from(u32::MAX), 1 << 40, u64::MAX] {
                let mut lying = bytes.clone();
                lying[at..at + 8].copy_from_slice(&value.to_le_bytes());
                let _ = of(&lying);
                let source = Source::new(Cursor::new(&lying));
                if let Ok(image) = Image::parse(&source) {
                    let (sections, needed) = (image.sections(), image.needed());
                    assert!(sections.len() <= bytes.len() / 64 && needed.len() <= bytes.len());
                }
            }
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_huge_file_of_zeros_costs_no_memory() {
    // Headers that claim tables of a terabyte, in a sparse file that is that long.
    let mut bytes = elf(&[go_info("go1.27.3")]);
    bytes[64 + 56 + 32..64 + 56 + 40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    // No number of sections in the header means that the first section has it.
    bytes[60..62].copy_from_slice(&0_u16.to_le_bytes());
    let sections_at = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    bytes[sections_at + 32..sections_at + 40].copy_from_slice(&(1_u64 << 34).to_le_bytes());
    let file = tempfile::tempfile().unwrap();
    Write::write_all(&mut &file, &bytes).unwrap();
    file.set_len(1 << 41).unwrap();
    assert_eq!(read(&file, "x").unwrap(), None);
    let source = Source::new(&file);
    assert_eq!(Image::parse(&source).unwrap().sections().len(), 0);
}

#[test]
fn what_is_no_executable_is_an_error_with_a_reason() {
    let check = |bytes: &[u8]| of(bytes).unwrap_err().to_string();
    for bytes in [&b""[..], b"#!/bin/sh\nexec x\n", b"\x7fELF", &[0x7f; 4096]] {
        assert!(check(bytes).starts_with("not a 64-bit ELF file, or cut short: "), "{}", check(bytes));
    }
    let mut of_32_bits = whole();
    of_32_bits[4] = 1;
    assert!(check(&of_32_bits).starts_with("not a 64-bit ELF file"), "{}", check(&of_32_bits));
}

/// The first of some programs that this machine has and that is no script.
fn program(paths: &[&str]) -> Option<PathBuf> {
    let is_elf = |path: &PathBuf| {
        let mut start = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"\x7fELF"
    };
    paths.iter().filter_map(|path| Path::new(path).canonicalize().ok()).find(is_elf)
}

/// What the program itself says, first line.
fn says(path: &Path, argument: &str) -> String {
    let output = std::process::Command::new(path).arg(argument).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn this_test_is_a_rust_program() {
    let path = std::env::current_exe().unwrap();
    let runtime = read(File::open(&path).unwrap(), "x").unwrap().unwrap();
    assert_eq!(runtime.kind, Kind::Rust);
    assert!(runtime.version.unwrap().starts_with("1."));
    let source = Source::new(File::open(&path).unwrap());
    let image = Image::parse(&source).unwrap();
    let needed = image.needed();
    assert!(needed.iter().any(|library| library.starts_with("libc.so")), "{needed:?}");
    let text = image.sections().into_iter().find(|section| section.name == ".text").unwrap();
    assert!(text.len > 1 << 20 && text.in_file, "{text:?}");
}

#[test]
fn installed_runtimes_are_told_as_they_tell_themselves() {
    let cases: [(&[&str], &str, Kind); 6] = [
        (&["/usr/bin/python3"], "--version", Kind::CPython),
        (&["/usr/bin/node", "/usr/local/bin/node"], "--version", Kind::Node),
        (&["/usr/bin/java"], "--version", Kind::Jvm),
        (&["/usr/bin/mono"], "--version", Kind::Mono),
        (&["/usr/bin/ruby"], "--version", Kind::Ruby),
        (&["/usr/bin/go", "/usr/local/go/bin/go"], "version", Kind::Go),
    ];
    for (paths, argument, kind) in cases {
        let Some(path) = program(paths) else {
            println!("skipped: none of {paths:?} is installed");
            continue;
        };
        let started = Instant::now();
        let runtime = read(File::open(&path).unwrap(), "x").unwrap();
        let took = started.elapsed();
        let runtime = runtime.unwrap_or_else(|| panic!("{} is told by nothing", path.display()));
        assert_eq!(runtime.kind, kind, "{}", path.display());
        if let Some(version) = &runtime.version {
            // Java says `17.0.15`, and behind it its build.
            let version = version.split('+').next().unwrap_or(version);
            let said = says(&path, argument);
            assert!(said.contains(version), "{}: {version} against {said}", path.display());
        }
        println!("{}: {runtime:?}, {took:?}", path.display());
    }
}

#[test]
fn a_file_is_read_once_for_each_of_its_states() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, whole()).unwrap();
    let mut executables = Executables::default();
    let mut look = || executables.of_file(File::open(&path).unwrap(), "program");
    assert_eq!(look().map(|runtime| runtime.kind), Some(Kind::Go));
    assert_eq!(look().map(|runtime| runtime.kind), Some(Kind::Go));
    std::fs::write(&path, elf(&dynamic(&["libpython3.11.so.1.0"], &[]))).unwrap();
    assert_eq!(look().map(|runtime| runtime.kind), Some(Kind::CPython));
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    assert_eq!(look(), None);
    assert_eq!(executables.known.len(), 3, "each state was read once");
    assert_eq!(executables.of_file(File::open(folder.path()).unwrap(), "folder"), None);
    let own = executables.runtime(Tgid(std::process::id()), "tests");
    assert_eq!(own.map(|runtime| runtime.kind), Some(Kind::Rust));
    assert_eq!(executables.runtime(Tgid(0), "kernel"), None);
}
