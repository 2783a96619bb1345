//! `cargo xtask docs`: what the agent says of itself → the parts of `docs/` that code writes.
//!
//! A part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` on its page; what is around it is written by people.
//! *Owns* which parts there are. *Must not know* what they say: the agent's own commands print them.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Write the generated parts of `docs/` anew: all settings, and the table of joining rules.
///
/// Needs no BPF toolchain and no privileges.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail when a part is not what the code says now.
    #[arg(long)]
    pub(crate) check: bool,
}

struct Part {
    page: &'static str,
    name: &'static str,
    /// The agent's command that prints it.
    command: &'static [&'static str],
}

const PARTS: [Part; 2] = [
    Part { page: "docs/configuration.md", name: "settings", command: &["config", "reference"] },
    Part { page: "docs/joining.md", name: "rules", command: &["config", "rules"] },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stale = Vec::new();
    for part in &PARTS {
        let path = shell::root().join(part.page);
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", part.page))?;
        let new = with_part(&old, part.name, &said(part.command)?).with_context(|| part.page.to_owned())?;
        if old == new {
            continue;
        }
        if args.check {
            stale.push(part.page);
        } else {
            fs::write(&path, new).with_context(|| format!("cannot write {}", part.page))?;
            println!("docs: {} written", part.page);
        }
    }
    if !stale.is_empty() {
        bail!("{}: not what the code says now; run `cargo xtask docs` and commit it", stale.join(", "));
    }
    Ok(())
}

/// What a command of the agent prints. The agent is built as plain cargo builds it: printing takes no eBPF object.
fn said(command: &[&str]) -> Result<String> {
    let words = ["run", "--quiet", "--package", "spoor", "--"].iter().chain(command);
    let mut cargo = shell::cargo(words);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`spoor {}` failed ({})", command.join(" "), output.status);
    }
    String::from_utf8(output.stdout).context("the agent printed no text")
}

/// The page with the part's text replaced.
fn with_part(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->\n"));
    let around = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let Some((before, after)) = around else {
        bail!("the lines `{}` and `{}` are missing", begin.trim_end(), end.trim_end());
    };
    Ok(format!("{before}{begin}{}\n{end}{after}", text.trim_end().trim_start_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::with_part;

    const PAGE: &str = "# A\n<!-- x:begin -->\nold\nolder\n<!-- x:end -->\nrest\n";

    #[test]
    fn a_part_is_replaced_and_what_is_around_it_stays() {
        let page = with_part(PAGE, "x", "\nnew\n\n").unwrap();
        assert_eq!(page, "# A\n<!-- x:begin -->\nnew\n<!-- x:end -->\nrest\n");
        assert_eq!(with_part(&page, "x", "new").unwrap(), page, "the same again");
    }

    #[test]
    fn a_page_without_the_markers_is_refused() {
        for page in ["# A\n", "# A\n<!-- x:begin -->\n", &PAGE.replace("x:", "y:")] {
            let error = with_part(page, "x", "new").unwrap_err().to_string();
            assert!(error.contains("`<!-- x:begin -->`"), "{error}");
        }
    }
}
