//! Pages for people → links and paths that lead nowhere, and a README that has outgrown its screen.
//!
//! *Owns* which pages are checked. *Must not know* what they say.
//! *Spec*: anchors are those that GitHub gives to headings.

use std::collections::HashSet;

use super::{File, Finding};

/// The README ends where the second page begins.
const MAX_README_LEN: usize = 10_000;

/// A page whose links are checked: those that people are sent to.
pub(super) fn is_page(path: &str) -> bool {
    let pages = ["README.md", "deploy/README.md", "agent/CHANGELOG.md"];
    pages.contains(&path) || path.starts_with("docs/") && path.ends_with(".md")
}

pub(super) fn check_tree(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        if file.path == "README.md" && file.text.len() > MAX_README_LEN {
            let what =
                format!("{} bytes, of {MAX_README_LEN} at most: the rest goes to docs/", file.text.len());
            findings.push(file.finding(1, what));
        }
        if is_page(&file.path) {
            links(file, files, findings);
            paths(file, files, findings);
        } else {
            mentions(file, files, findings);
        }
    }
}

fn links(file: &File, files: &[File], findings: &mut Vec<Finding>) {
    for (line, text) in prose(&file.text) {
        for target in targets(&without_code(text)) {
            if let Some(what) = dead(file, target, files) {
                findings.push(file.finding(line, what));
            }
        }
    }
}

/// Why the link leads nowhere.
fn dead(file: &File, target: &str, files: &[File]) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let Some(path) = (if path.is_empty() { Some(file.path.clone()) } else { resolve(&file.path, path) })
    else {
        return Some(format!("the link `{target}` leads out of the workspace"));
    };
    let folder = format!("{path}/");
    let Some(page) = files.iter().find(|other| other.path == path) else {
        let exists = anchor.is_none() && files.iter().any(|other| other.path.starts_with(&folder));
        return (!exists).then(|| format!("the link `{target}` leads nowhere: there is no `{path}`"));
    };
    let anchor = anchor?;
    let exists = anchors(&page.text).contains(anchor);
    (!exists).then(|| format!("the link `{target}` leads nowhere: no heading of `{path}` has this anchor"))
}

/// `to` as seen from the folder of `from`, relative to the workspace. `None`: it lies outside.
fn resolve(from: &str, to: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in to.trim_end_matches('/').split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a page's headings.
fn anchors(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
        let plain: String = link_texts(heading.trim()).chars().filter(kept).collect();
        let anchor = plain.to_lowercase().replace(' ', "-");
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !found.contains(anchor));
        found.extend(free);
    }
    found
}

/// `[text](target)` as its text.
fn link_texts(heading: &str) -> String {
    let mut out = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    out + rest
}

/// Lines outside code blocks, numbered from 1.
pub(super) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((at + 1, line))
    })
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Where the links of a line lead.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Files and folders of the workspace that a page names in code type are there: `agent/build.rs`, `tests/tests/`.
fn paths(file: &File, files: &[File], findings: &mut Vec<Finding>) {
    const ROOTS: &[&str] =
        &["agent/", "common/", "deploy/", "docs/", "ebpf/", "journeys/", "tests/", "xtask/"];
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    for (line, text) in prose(&file.text) {
        for code in text.split('`').skip(1).step_by(2) {
            let named = ROOTS.iter().any(|root| code.starts_with(root)) && code.chars().all(is_path);
            let folder = format!("{}/", code.trim_end_matches('/'));
            let exists = |other: &File| other.path == code || other.path.starts_with(&folder);
            if named && !files.iter().any(exists) {
                findings.push(file.finding(line, format!("there is no `{code}`")));
            }
        }
    }
}

/// Code, deploy files and manual pages send people to pages by name.
fn mentions(file: &File, files: &[File], findings: &mut Vec<Finding>) {
    const FOLDER: &str = concat!("do", "cs/");
    if file.path.starts_with("tests/fixtures/") || file.path == "xtask/src/tidy/tests.rs" {
        return;
    }
    // What stands behind *Spec* is another project's.
    let own = file.text.lines().enumerate().filter(|(_, line)| !line.contains("*Spec*"));
    for (at, line) in own {
        for (start, _) in line.match_indices(FOLDER) {
            let before = line[..start].chars().next_back();
            let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
            let rest = &line[start..];
            let path = &rest[..rest.find(|c: char| !inside(c)).unwrap_or(rest.len())];
            let is_ours = !before.is_some_and(inside) && path.ends_with(".md");
            if is_ours && !files.iter().any(|other| other.path == path) {
                findings.push(file.finding(at + 1, format!("there is no `{path}`")));
            }
        }
    }
}
