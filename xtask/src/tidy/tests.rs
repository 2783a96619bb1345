//! One broken convention per case, and the nearest thing that is allowed.

use super::boundaries::PROTOCOL_WORDS;
use super::rust::{code, paths, words};
use super::{File, check};

/// What tidy says about a tree of one file, without the path.
fn findings(path: &str, text: &str) -> Vec<String> {
    let file = File { path: path.to_owned(), text: text.to_owned() };
    check(&[file]).into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
}

#[track_caller]
fn clean(path: &str, text: &str) {
    assert_eq!(findings(path, text), Vec::<String>::new(), "{path}");
}

#[track_caller]
fn one(path: &str, text: &str, start: &str) {
    let found = findings(path, text);
    assert!(
        found.len() == 1 && found[0].starts_with(start),
        "{path}: expected one finding `{start}…`, got {found:#?}"
    );
}

#[test]
fn comments_and_literals_are_not_code() {
    let source = "let a = \"std::fs\"; // tokio\nlet c = '\"'; /* aya\n /* nested */ */ let l: &'a str = r#\"a\"b\"#;\n";
    let code = code(source);
    assert_eq!((code.len(), code.lines().count()), (source.len(), source.lines().count()));
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words.join(" "), "let a = ; let c = ; let l: &'a str = ;");
}

#[test]
fn escaped_quotes_do_not_end_literals() {
    assert_eq!(code(r#"x("\"", '\'', b'a')y"#), "x(    ,     , b   )y");
}

#[test]
fn use_trees_are_spelled_out() {
    let found: Vec<String> =
        paths("use std::{fs, io::{self, Read}, time::Instant as I};\nlet x = std::env::var();")
            .into_iter()
            .map(|p| p.1)
            .collect();
    let expected =
        ["std::fs", "std::io::self", "std::io::Read", "std::time::Instant", "let", "x", "std::env::var"];
    assert_eq!(found, expected);
}

#[test]
fn identifiers_fall_into_words() {
    assert_eq!(words("parse_httpHeader"), ["parse", "http", "header"]);
    assert_eq!(words("Http2Frame"), ["http2", "frame"]);
}

#[test]
fn core_names_no_effects() {
    for (code, start) in [
        ("use std::{\n    fs,\n};", "3: the pure core names `std::fs`"),
        ("fn f() { let _ = std::time::Instant::now(); }", "2: the pure core names `std::time::Instant::now`"),
        ("use std::time;\nfn f(t: time::SystemTime) {}", "3: the pure core names `time::SystemTime`"),
        ("use std::net::TcpStream;", "2: the pure core names `std::net::TcpStream`"),
    ] {
        one("agent/core/src/protocol/x.rs", &format!("//! A header.\n{code}\n"), start);
        clean("agent/src/run.rs", &format!("//! A header.\n{code}\n"));
    }
}

#[test]
fn core_may_name_addresses_durations_and_effects_in_tests() {
    clean(
        "agent/core/src/stream/x.rs",
        "//! No tokio here.\nuse std::net::{IpAddr, SocketAddr};\nuse std::time::Duration;\n",
    );
    clean("agent/core/src/stream/x.rs", "//! A header.\n#[cfg(test)]\nmod tests { use std::fs; }\n");
    clean("agent/core/src/stream/tests/x.rs", "//! A header.\nuse std::fs;\n");
}

#[test]
fn stages_know_only_earlier_ones() {
    one(
        "agent/core/src/stream/x.rs",
        "//! A header.\nuse crate::span::Span;\n",
        "2: `stream` names `crate::span::Span`, which stands above it",
    );
    clean("agent/core/src/span/x.rs", "//! A header.\nuse crate::order::OrderKey;\n");
    one("agent/core/src/attic/x.rs", "//! A header.\nfn f() {}\n", "1: `attic` has no floor");
}

#[test]
fn exporters_and_the_kernel_stay_in_their_folders() {
    one(
        "agent/src/run.rs",
        "//! A header.\nuse opentelemetry_sdk::Resource;\n",
        "2: `opentelemetry_sdk::Resource`",
    );
    one("agent/src/source/pcap.rs", "//! A header.\nuse aya::Ebpf;\n", "2: `aya::Ebpf`");
    one(
        "agent/src/telemetry/mod.rs",
        "//! A header.\nuse opentelemetry::KeyValue;\n",
        "2: `opentelemetry::KeyValue`: only export/ name",
    );
    clean("agent/src/export/otlp.rs", "//! A header.\nuse opentelemetry_proto::tonic::Span;\n");
    clean("agent/src/capture/load.rs", "//! A header.\nuse aya::Ebpf;\n");
}

#[test]
fn kernel_side_knows_no_protocol() {
    one("ebpf/src/copy.rs", "//! Not http.\nfn parse_http() {}\n", "2: `parse_http` speaks of `http`");
    clean("ebpf/src/copy.rs", "//! A header, not HTTP.\nfn copy() {}\n");
}

#[test]
fn files_open_with_a_header() {
    one("agent/src/x.rs", "fn f() {}\n", "1: starts without `//!`");
    one("tests/services/x.py", "import os\n", "1: starts without a docstring");
    clean("tests/services/x.py", "\"\"\"What it does.\"\"\"\n");
}

#[test]
fn long_files_give_a_reason() {
    let long = format!("//! A header.\n{}", "fn f() {}\n".repeat(501));
    one("agent/src/x.rs", &long, "501: 502 lines");
    clean("agent/src/x.rs", &long.replacen("A header.", "A header.\n//! Long because it is a table.", 1));
    clean("agent/src/x.rs", &long.replacen("fn f()", "#[cfg(test)]\nfn f()", 1));
}

#[test]
fn leftovers_and_machine_paths_are_found() {
    one("agent/src/x.rs", &format!("//! A header.\n// {}: later\n", concat!("TO", "DO")), "2: `");
    one("deploy/x.yaml", &format!("path: {}x\n", concat!("/wor", "k/")), "1: `");
    clean("deploy/x.yaml", "path: /var/lib/x/work/y\n");
}

#[test]
fn lock_files_name_no_registry() {
    one("tests/services/crm/package-lock.json", "{\n  \"resolved\": \"x\"\n}\n", "2: names a registry");
}

#[test]
fn pages_have_one_sentence_per_line() {
    one("docs/x.md", "# X\nOne. Two.\n", "2: two sentences");
    one("README.md", "One. Two.\n", "1: two sentences");
    clean("README.md", "One, e.g. Two.\n1. One.\n```\nOne. Two.\n```\n| One. Two. |\nv1.2 of x. \n");
}

#[test]
fn links_lead_somewhere() {
    let page = "# The page\n## `a.b` twice!\n## a.b twice\n```\n# no heading\n```\n";
    for (link, what) in [
        ("docs/x.md", None),
        ("docs/", None),
        ("docs", None),
        ("docs/x.md#the-page", None),
        ("docs/x.md#ab-twice", None),
        ("docs/x.md#ab-twice-1", None),
        ("https://example.org/docs", None),
        ("#readme", None),
        ("docs/y.md", Some("there is no `docs/y.md`")),
        ("docs/x.md#no-heading", Some("no heading of `docs/x.md`")),
        ("#page", Some("no heading of `README.md`")),
        ("../x.md", Some("out of the workspace")),
    ] {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let readme = format!("# Readme\n`[not](one)` and [one `of` them]({link}), twice.\n");
        let found = check(&[file("README.md", &readme), file("docs/x.md", page)]);
        assert_eq!(found.len(), usize::from(what.is_some()), "{link}: {found:?}");
        assert!(found.iter().all(|found| found.line == 2 && found.what.contains(what.unwrap())), "{found:?}");
    }
}

#[test]
fn links_go_from_the_page_they_are_on() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let found = check(&[
        file("docs/x.md", "[up](../deploy/README.md) [down](parts/y.md) [side](z.md)\n"),
        file("docs/parts/y.md", "[up](../x.md) [side](y.md)\n"),
        file("deploy/README.md", "[there](../docs/x.md)\n"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("there is no `docs/z.md`"), "{found:?}");
}

#[test]
fn pages_that_are_named_are_there() {
    one("deploy/x.yaml", "# see docs/gone.md, section 2\n", "1: there is no `docs/gone.md`");
    clean("deploy/x.yaml", "# see https://example.org/docs/gone.md and x-docs/gone.md\n");
    clean("agent/src/x.rs", "//! A → b.\n//! *Spec*: another-project, docs/gone.md\n");
    one("docs/x.md", "It is in `agent/src/gone.rs`.\n", "1: there is no `agent/src/gone.rs`");
    clean("docs/x.md", "It is in `docs/x.md`, `docs/`, `agent/<name>.rs` or `src/x.rs`.\n");
}

#[test]
fn the_readme_fits_its_screen() {
    one("README.md", &"x\n".repeat(5001), "1: 10002 bytes");
    clean("README.md", &"x\n".repeat(5000));
}

#[test]
fn fixtures_are_documented() {
    one("tests/fixtures/http/x.txt", "GET /\n", "1: tests/fixtures/http/README.md does not say");
    let cases = [
        ("tests/fixtures/http/README.md", "tests/fixtures/http/x.txt", true),
        ("tests/fixtures/http/README.md", "tests/fixtures/http/other.txt", false),
        ("tests/fixtures/fuzz/http/README.md", "tests/fixtures/fuzz/http/x", true),
        ("tests/fixtures/fuzz/README.md", "tests/fixtures/fuzz/x/1", true),
        ("tests/fixtures/fuzz/README.md", "tests/fixtures/fuzz/other/x", false),
        ("tests/fixtures/README.md", "tests/fixtures/http/x", false),
    ];
    for (readme, path, documented) in cases {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let found = check(&[file(readme, "| `x` | what it shows |\n"), file(path, "")]);
        assert_eq!(found.is_empty(), documented, "{readme}, {path}: {found:?}");
    }
}

#[test]
fn dependencies_have_a_reason_and_a_user() {
    let found = findings("Cargo.toml", "[workspace.dependencies]\nx = \"1\"\n# Because.\ny = \"1\"\n");
    let starts = ["2: `x` has no comment", "2: `x` is used by no member", "4: `y` is used by no member"];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
}

#[test]
fn a_dependency_is_named_by_the_code_it_is_declared_for() {
    let manifest = "[package]\nname = \"a\"\n[dependencies]\nused.workspace = true\nidle-one = \"1\"\nonly-tests.workspace = true\n\
        [dependencies.apart]\nversion = \"1\"\n[dev-dependencies]\nchecked = { version = \"1\" }\n[build-dependencies]\nmade = \"1\"\n";
    let tree = [
        ("a/Cargo.toml", manifest),
        (
            "a/src/lib.rs",
            "//! X.\nuse used::Y; // idle_one::Z\nfn f() { let idle_one = 1; apart::g(\"made::h\") }\n",
        ),
        ("a/tests/x.rs", "//! X.\nfn f() { only_tests::g(); checked::g(); }\n"),
        ("a/build.rs", "//! X.\nfn main() { made::go(); }\n"),
        ("a/inner/Cargo.toml", "[dependencies]\nused = \"1\"\n"),
        ("a/inner/src/lib.rs", "//! X.\nuse idle_one::A;\n"),
    ];
    let files: Vec<File> =
        tree.iter().map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() }).collect();
    let mut found: Vec<String> = check(&files).into_iter().map(|finding| finding.to_string()).collect();
    found.sort();
    let starts = [
        "a/Cargo.toml:5: `idle-one` in [dependencies] is named by no line",
        "a/Cargo.toml:6: `only-tests` in [dependencies] is named by no line",
        "a/inner/Cargo.toml:2: `used` in [dependencies] is named by no line",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
}

#[test]
fn the_kernel_side_may_speak_of_no_protocol_of_the_list() {
    let path = crate::shell::root().join("agent/core/src/protocol/mod.rs");
    let text = std::fs::read_to_string(path).expect("the list of protocols");
    let (_, list) = text.split_once("protocols! {").expect("the list of protocols");
    let (list, _) = list.split_once('}').expect("its end");
    let folders: Vec<&str> = list.split(',').filter_map(|one| Some(one.split_once('=')?.1.trim())).collect();
    assert!(folders.len() >= 4, "{folders:?}");
    for folder in folders {
        assert!(PROTOCOL_WORDS.contains(&folder), "`{folder}` is missing from PROTOCOL_WORDS");
    }
}

/// What tidy says about a tree of such files, all with a header.
fn layout(paths: &[&str]) -> Vec<String> {
    let file = |path: &&str| File {
        path: (*path).to_owned(),
        text: "//! A header.\n#![forbid(unsafe_code)]\n".to_owned(),
    };
    check(&paths.iter().map(file).collect::<Vec<File>>()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_module_of_several_files_is_a_folder_with_mod_rs() {
    let found = layout(&["common/src/a.rs", "common/src/a/b.rs", "common/src/ab.rs"]);
    let what = "common/src/a.rs:1: beside the folder `common/src/a/`: a module of several files is `common/src/a/mod.rs`";
    assert_eq!(found, [what]);
    assert_eq!(layout(&["common/src/a/mod.rs", "common/src/a/b.rs"]), Vec::<String>::new());
    assert_eq!(layout(&["common/src/a.rs", "common/src/a/notes.md"]), Vec::<String>::new());
}

#[test]
fn tests_stand_in_the_folder_of_what_they_test() {
    for path in ["common/src/a_tests.rs", "common/src/a/tests.rs", "common/src/a/tests/mod.rs"] {
        assert_eq!(layout(&["common/src/lib.rs", path]).len(), 1, "{path}");
    }
    for path in ["common/src/a/tests.rs", "common/src/a/tests/mod.rs"] {
        assert_eq!(layout(&["common/src/a/mod.rs", path]), Vec::<String>::new(), "{path}");
    }
    assert_eq!(layout(&["common/src/lib.rs", "common/src/tests.rs"]), Vec::<String>::new());
}

#[test]
fn long_tests_are_a_file_of_their_own() {
    let tests = |len: usize| {
        format!(
            "//! A header.\nfn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    fn g() {}\n".repeat(len)
        )
    };
    clean("common/src/x.rs", &tests(147));
    one("common/src/x.rs", &tests(148), "3: 151 lines of tests");
    clean("common/src/x.rs", &tests(148).replacen("#[cfg(test)]\n", "", 1));
}

/// Files to which no `mod` line leads, in the package `a` with these files.
fn unreached(tree: &[(&str, &str)]) -> Vec<String> {
    let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
    let found = check(&tree.iter().map(file).collect::<Vec<File>>()).into_iter();
    found.filter(|found| found.what.starts_with("no `mod` line leads")).map(|found| found.path).collect()
}

#[test]
fn every_file_is_reached_by_mod_lines_from_a_target() {
    let tree = [
        ("Cargo.toml", "[workspace]\n"),
        ("tests/outside.rs", ""),
        (
            "a/Cargo.toml",
            "[package]\nname = \"a\"\n[[bin]]\npath = \"src/odd.rs\"\n[dependencies]\nb = { path = \"src/no.rs\" }\n",
        ),
        ("a/build.rs", ""),
        (
            "a/src/lib.rs",
            "pub mod one;\n// mod in_comment;\nconst A: &str = \"mod in_text;\";\nmod inline {\n    mod far;\n}\nmod near;\n",
        ),
        ("a/src/one/mod.rs", "#[cfg(test)]\nmod tests;\npub(crate) mod two;\nfn f() {}\n"),
        (
            "a/src/one/two.rs",
            "mod three;\n/// Its arguments.\n#[path = \"../../../b/src/bin/x/args.rs\"]\nmod args;\n",
        ),
        ("a/src/one/two/three.rs", ""),
        ("a/src/one/tests.rs", ""),
        ("a/src/inline/far.rs", ""),
        (
            "a/src/near.rs",
            "#[cfg_attr(old, path = \"near/one_way.rs\")]\n#[cfg_attr(not(old), path = \"near/other.rs\")]\nmod way;\n",
        ),
        ("a/src/near/one_way.rs", ""),
        ("a/src/near/other.rs", ""),
        ("a/src/far.rs", ""),
        ("a/src/odd.rs", "mod of_odd;\n"),
        ("a/src/of_odd.rs", ""),
        ("a/src/no.rs", ""),
        ("a/src/in_comment.rs", ""),
        ("a/src/in_text.rs", ""),
        ("a/src/one/orphan/mod.rs", "mod child;\n"),
        ("a/src/one/orphan/child.rs", ""),
        ("a/src/bin/tool.rs", ""),
        ("a/tests/whole.rs", ""),
        ("a/tests/many/main.rs", "mod reached;\n"),
        ("a/tests/many/reached.rs", ""),
        ("a/tests/many/forgotten.rs", ""),
        ("a/notes/make.rs", ""),
        ("b/Cargo.toml", "[package]\nname = \"b\"\n"),
        ("b/src/bin/x/main.rs", ""),
        ("b/src/bin/x/args.rs", ""),
        ("b/src/lonely.rs", ""),
    ];
    let expected = [
        "a/src/far.rs",
        "a/src/in_comment.rs",
        "a/src/in_text.rs",
        "a/src/no.rs",
        "a/src/one/orphan/child.rs",
        "a/src/one/orphan/mod.rs",
        "a/tests/many/forgotten.rs",
        "b/src/lonely.rs",
    ];
    assert_eq!(unreached(&tree), expected);
}
