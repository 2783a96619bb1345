//! Paths of the tree → modules in more than one fashion, and tests that stand elsewhere than where one looks for them.
//!
//! One rule, for modules and for their tests:
//!
//! - a module of one file is `x.rs`; one of several is the folder `x/` with `mod.rs`, never `x.rs` beside `x/`;
//! - short tests are the last item of the file they test, `mod tests { … }`, at most [`MAX_INLINE`] lines;
//! - longer ones are one more file of the module, which thereby becomes a folder: `x/mod.rs` and `x/tests.rs`, or
//!   `x/tests/mod.rs` with a file for each subject. They never stand under another name (`x_tests.rs`), nor together for
//!   several files: each file's tests are found from that file alone.
//!
//! So whoever looks for the tests of `x` looks into `x.rs` or into `x/`, and a `#[path]` is never needed for them.

use std::collections::BTreeSet;

use super::rust::code;
use super::{File, Finding};

/// Lines of tests in the file they test. The longest that anybody read without scrolling back and forth had 144.
const MAX_INLINE: usize = 150;

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let files: Vec<&File> = files.iter().filter(|file| file.is_rust()).collect();
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for file in files {
        one_fashion(file, &paths, findings);
        place_of_tests(file, &paths, findings);
        inline_tests(file, findings);
    }
}

/// No `x.rs` beside `x/` with code in it.
fn one_fashion(file: &File, paths: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let folder = format!("{}/", file.path.trim_end_matches(".rs"));
    if paths.range(folder.as_str()..).next().is_some_and(|path| path.starts_with(&folder)) {
        let what = format!("beside the folder `{folder}`: a module of several files is `{folder}mod.rs`");
        findings.push(file.finding(1, what));
    }
}

/// Tests in a file of their own are `tests.rs` or `tests/mod.rs` in the folder of the module.
fn place_of_tests(file: &File, paths: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    if let Some(module) = file.path.strip_suffix("_tests.rs") {
        let what = format!(
            "tests that are too long for their file are `{module}/tests.rs`, beside `{module}/mod.rs`"
        );
        findings.push(file.finding(1, what));
        return;
    }
    let suffixes = ["/tests.rs", "/tests/mod.rs"];
    let Some(folder) = suffixes.iter().find_map(|suffix| file.path.strip_suffix(suffix)) else { return };
    let roots = ["mod.rs", "lib.rs", "main.rs"];
    if !roots.iter().any(|root| paths.contains(format!("{folder}/{root}").as_str())) {
        let what =
            format!("there is no `{folder}/mod.rs`: tests stand in the folder of the module they test");
        findings.push(file.finding(1, what));
    }
}

/// Tests in the file they test are short.
fn inline_tests(file: &File, findings: &mut Vec<Finding>) {
    let code = code(&file.text);
    let mut lines = code.lines().enumerate().skip_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let Some((start, _)) = lines.next() else { return };
    let opens = lines.next().is_some_and(|(_, line)| line.starts_with("mod ") && line.ends_with('{'));
    let len = code.lines().count() - start;
    if opens && len > MAX_INLINE {
        findings.push(file.finding(
            start + 1,
            format!("{len} lines of tests: past {MAX_INLINE} they are a file of their own, `tests.rs` in the module's folder"),
        ));
    }
}
