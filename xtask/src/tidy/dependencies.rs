//! Manifests and sources → dependencies without a reason, and dependencies that no line uses.
//!
//! The compiler does not say that a dependency is never named: it is built, shipped and kept up to date for nothing.

use std::collections::HashMap;

use super::rust::{code, paths};
use super::{File, Finding};

/// A declared dependency of one crate.
#[derive(Debug)]
struct Declared<'a> {
    name: &'a str,
    /// From 1.
    line: usize,
    table: Table,
}

/// Which code may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Normal,
    Dev,
    Build,
}

impl Table {
    /// The table that a header such as `[target.'cfg(unix)'.dev-dependencies]` opens.
    fn of(header: &str) -> Option<Self> {
        let inner = header.strip_prefix('[')?.strip_suffix(']')?;
        match inner.rsplit('.').next()? {
            _ if inner.starts_with("workspace") => None,
            "dependencies" => Some(Self::Normal),
            "dev-dependencies" => Some(Self::Dev),
            "build-dependencies" => Some(Self::Build),
            _ => None,
        }
    }

    /// Whether a file counts, by its path inside the crate.
    fn covers(self, inner: &str) -> bool {
        match self {
            // The targets of the fuzz crate are beside `src`.
            Self::Normal => {
                !["tests/", "benches/", "examples/", "build.rs"].iter().any(|no| inner.starts_with(no))
            }
            Self::Dev => inner != "build.rs",
            Self::Build => inner == "build.rs",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Normal => "[dependencies]",
            Self::Dev => "[dev-dependencies]",
            Self::Build => "[build-dependencies]",
        }
    }
}

pub(super) fn check_tree(files: &[File], findings: &mut Vec<Finding>) {
    of_the_workspace(files, findings);
    of_crates(files, findings);
}

/// Every dependency of the workspace stands below a comment with its reason, and some member has it.
fn of_the_workspace(files: &[File], findings: &mut Vec<Finding>) {
    let Some(root) = files.iter().find(|file| file.path == "Cargo.toml") else { return };
    let members: Vec<&File> = files.iter().filter(|file| file.path.ends_with("/Cargo.toml")).collect();
    let (mut inside, mut reasoned) = (false, false);
    for (at, line) in root.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        }
        reasoned |= line.starts_with('#');
        let Some((name, value)) = line.split_once(" = ").filter(|_| inside) else { continue };
        if !reasoned && !value.contains("path =") {
            findings.push(
                root.finding(at + 1, format!("`{name}` has no comment above it that says why it was chosen")),
            );
        }
        if !members.iter().any(|member| declared(&member.text).iter().any(|found| found.name == name)) {
            findings.push(root.finding(at + 1, format!("`{name}` is used by no member of the workspace")));
        }
    }
}

/// Every dependency of a crate is named by a line of the code that its table is for.
fn of_crates(files: &[File], findings: &mut Vec<Finding>) {
    let manifests: Vec<(&str, &File)> = files
        .iter()
        .filter_map(|file| Some((file.path.strip_suffix("Cargo.toml")?, file)))
        .filter(|(folder, _)| folder.ends_with('/'))
        .collect();
    // A crate inside another one's folder has its files to itself.
    let owner = |path: &str| {
        let above = manifests.iter().filter(|(folder, _)| path.starts_with(folder));
        above.max_by_key(|(folder, _)| folder.len()).map(|(folder, _)| *folder)
    };
    let mut sources: HashMap<&str, Vec<(&str, Vec<String>)>> = HashMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(folder) = owner(&file.path) else { continue };
        let Some(inner) = file.path.strip_prefix(folder) else { continue };
        let named = paths(&code(&file.text)).into_iter().map(|(_, path)| path).collect();
        sources.entry(folder).or_default().push((inner, named));
    }
    for (folder, manifest) in &manifests {
        for Declared { name, line, table } in declared(&manifest.text) {
            let start = format!("{}::", name.replace('-', "_"));
            let is_named = sources.get(folder).into_iter().flatten().any(|(inner, named)| {
                table.covers(inner) && named.iter().any(|path| path.starts_with(&start))
            });
            if !is_named {
                let what = format!(
                    "`{name}` in {} is named by no line of its code: use it, move it to the table of what uses it, or take it out",
                    table.name()
                );
                findings.push(manifest.finding(line, what));
            }
        }
    }
}

/// The dependencies of a manifest: `x.workspace = true`, `x = …`, or a table `[dependencies.x]` of its own.
fn declared(manifest: &str) -> Vec<Declared<'_>> {
    let mut found = Vec::new();
    let mut table = None;
    for (at, line) in manifest.lines().enumerate() {
        let line_number = at + 1;
        if line.starts_with('[') {
            table = Table::of(line);
            let own = line.trim_matches(['[', ']']).rsplit_once('.').filter(|_| table.is_none());
            if let Some((above, name)) = own
                && let Some(of) = Table::of(&format!("[{above}]"))
            {
                found.push(Declared { name, line: line_number, table: of });
            }
            continue;
        }
        let Some(table) = table else { continue };
        let end = line.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(line.len());
        let name = line.get(..end).unwrap_or_default();
        if !name.is_empty() {
            found.push(Declared { name, line: line_number, table });
        }
    }
    found
}
