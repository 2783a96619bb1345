//! Tests that cannot run here: the reason → a line for `cargo xtask test`.

use std::fs::OpenOptions;
use std::io::Write;

/// Says why the running test is skipped and counts it. The test returns afterwards.
#[track_caller]
pub fn skip(reason: &str) {
    // libtest names a test's thread after it; with one thread for all it does not.
    let name = match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => std::panic::Location::caller().to_string(),
    };
    eprintln!("skipped {name}: {reason}");
    if let Some(path) = std::env::var_os("SPOOR_SKIPPED") {
        let line = format!("{name}\t{}\n", reason.replace(['\n', '\t'], " "));
        let file = OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            panic!("cannot count a skipped test: {error}");
        }
    }
}
