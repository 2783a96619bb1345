//! Packages of the tree → Rust files that no `mod` line leads to.
//!
//! Such a file is not compiled: its tests do not run, what it implements is not there, and nobody says so. Every `.rs` file below
//! `src/`, `tests/`, `benches/` and `examples/` of a package is the root of a target or is declared by a file that is reached
//! itself. Roots are those that cargo finds by itself, and those that a manifest names (`path = "…"`).
//!
//! `mod` lines stand in the file, not in a macro that makes them: rustfmt follows only what is written.

use std::collections::{BTreeMap, BTreeSet};

use super::rust::{code, tokens};
use super::{File, Finding};

/// Folders of a package that hold nothing but its targets.
const FOLDERS: [&str; 4] = ["src/", "tests/", "benches/", "examples/"];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let sources: BTreeMap<&str, &File> =
        files.iter().filter(|file| file.is_rust()).map(|file| (file.path.as_str(), file)).collect();
    let packages: BTreeMap<&str, &File> = files.iter().filter_map(package).collect();
    let mut reached = BTreeSet::new();
    let roots: BTreeSet<String> =
        packages.iter().flat_map(|(folder, manifest)| roots(folder, manifest, &sources)).collect();
    let mut waiting: Vec<String> = roots.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        let Some(file) = sources.get(path.as_str()) else { continue };
        let is_root = roots.contains(&path);
        if reached.insert(path) {
            waiting.extend(declared(file, is_root));
        }
    }
    for (path, file) in &sources {
        // Of packages inside each other the inner one: its folder is the longer.
        let Some(package) =
            packages.keys().filter(|folder| path.starts_with(**folder)).max_by_key(|f| f.len())
        else {
            continue;
        };
        if FOLDERS.iter().any(|folder| path[package.len()..].starts_with(folder)) && !reached.contains(*path)
        {
            let what = "no `mod` line leads to this file: it is not compiled, and its tests do not run";
            findings.push(file.finding(1, what));
        }
    }
}

/// The folder of a package, with `/`, and its manifest.
fn package(file: &File) -> Option<(&str, &File)> {
    let folder = file.path.strip_suffix("Cargo.toml")?;
    let is_manifest = folder.is_empty() || folder.ends_with('/');
    (is_manifest && file.text.lines().any(|line| line.trim() == "[package]")).then_some((folder, file))
}

fn roots(folder: &str, manifest: &File, sources: &BTreeMap<&str, &File>) -> Vec<String> {
    let named = manifest.text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.split('"').next()?;
        (key.trim() == "path").then(|| format!("{folder}{value}"))
    });
    let found = sources.keys().filter(|path| is_root(folder, path)).map(|path| (*path).to_owned());
    found.chain(named).collect()
}

/// Cargo makes a target of it without being told.
fn is_root(folder: &str, path: &str) -> bool {
    let Some(inside) = path.strip_prefix(folder) else { return false };
    let is_target = |rest: &str| match rest.split_once('/') {
        None => true,
        Some((_, file)) => file == "main.rs",
    };
    ["src/lib.rs", "src/main.rs", "build.rs"].contains(&inside)
        || ["src/bin/", "tests/", "benches/", "examples/"]
            .iter()
            .any(|targets| inside.strip_prefix(targets).is_some_and(is_target))
}

/// Where the modules may stand that a file declares: of each, every place that the language allows.
fn declared(file: &File, is_root: bool) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let own = match name {
        "mod.rs" => folder.to_owned(),
        _ if is_root => folder.to_owned(),
        _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
    };
    let code = code(&file.text);
    let tokens = tokens(&code);
    let lines: Vec<&str> = file.text.lines().collect();
    let mut places = Vec::new();
    // Modules that are written out around the current token, and the depth of braces at which each ends.
    let (mut around, mut depth) = (Vec::new(), 0_usize);
    for (at, (line, token)) in tokens.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                around.pop_if(|(_, outer)| *outer == depth);
            }
            "mod" => match tokens.get(at + 1..at + 3) {
                Some([(_, name), (_, ";")]) => {
                    let inner: String = around.iter().map(|(name, _)| format!("{name}/")).collect();
                    let module = format!("{own}/{inner}{name}");
                    places.extend([format!("{module}.rs"), format!("{module}/mod.rs")]);
                    places.extend(paths_above(&lines, *line).into_iter().map(|path| resolved(folder, path)));
                }
                Some([(_, name), (_, "{")]) => around.push(((*name).to_owned(), depth)),
                _ => {}
            },
            _ => {}
        }
    }
    places
}

/// Every `path = "…"` in the attributes above a line (from 1), whatever it depends on.
fn paths_above<'a>(lines: &[&'a str], line: usize) -> Vec<&'a str> {
    let above = lines.get(..line - 1).unwrap_or_default().iter().rev().map(|line| line.trim());
    let attributes = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let path = |line: &'a str| line.split_once("path = \"")?.1.split('"').next();
    attributes.filter(|line| line.starts_with("#[")).filter_map(path).collect()
}

/// A path from a folder on, without `..`.
fn resolved(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}
