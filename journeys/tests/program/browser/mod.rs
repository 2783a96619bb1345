//! A real browser over a running `spoor-serve` with the demo's orders in it: what a person sees and can do.
//!
//! `drive.mjs` drives Debian's chromium; what it needs of Node.js is installed by `cargo xtask setup`, never committed.
//! With `SPOOR_PICTURES` set to a folder it leaves pictures of the pages there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{self, Server, of_folder, output, under_key};
use crate::tools::{self, program, skip};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/browser")
}

/// The packages that `cargo xtask setup` installed for this lock file.
fn node_modules() -> Option<PathBuf> {
    let own = fs::read(here().join("package-lock.json")).ok()?;
    let folders = fs::read_dir(tools::cache()?).ok()?.flatten().map(|entry| entry.path());
    let mut fitting = folders.filter(|folder| {
        folder.join("node_modules/.package-lock.json").is_file()
            && fs::read(folder.join("package-lock.json")).is_ok_and(|lock| lock == own)
    });
    fitting.next().map(|folder| folder.join("node_modules"))
}

#[test]
fn pages_in_a_browser() {
    let (Some(node), Some(chromium), Some(modules)) = (program("node"), program("chromium"), node_modules())
    else {
        return skip(
            "pages_in_a_browser",
            "node, chromium and their packages are not here: `cargo xtask setup` installs them",
        );
    };
    let folder = server::folder();
    server::import_demo(folder.path());
    let mut run = under_key(folder.path(), "run --zone UTC --lang en");
    run.arg("--model").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/journeys/model.yaml"));
    let server = Server::start(run);
    let base = format!("http://{}", server.pages);
    let link = output(of_folder(folder.path(), "user invite anna --role admin").args(["--url", &base]));
    let mut drive = Command::new(node);
    drive.arg(here().join("drive.mjs")).arg(&modules).arg(&chromium);
    drive.args([&base, link.trim(), &format!("http://{}", server.otlp)]);
    print!("{}", output(&mut drive));
}
