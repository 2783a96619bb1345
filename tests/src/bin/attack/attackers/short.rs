//! Processes that end at once: one exchange, then they are gone before anybody looks.

use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};

use super::{Pair, listen};
use crate::role;

/// What the paths of these programs begin with.
pub(crate) const PATH: &str = "/short/";
/// Of them at the same time.
const AT_ONCE: usize = 4;

/// One request of this process to itself; then it ends.
pub(super) fn exchange(number: usize) -> Result<()> {
    let mut pair = Pair::new(&listen()?)?;
    pair.ask(format!("GET {PATH}{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
    pair.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    std::process::exit(0);
}

/// So many programs by the name of `short`, beside this one, one after the other.
pub(super) fn short(count: usize) -> Result<()> {
    let this = std::env::current_exe()?;
    let program = this.with_file_name("short");
    all(count, |number| {
        let mut command = Command::new(&program);
        command.args(["exchange", &number.to_string()]).env(role::ROLE, role::ATTACKER);
        command
    })
}

/// So many programs, each of which says that it is another service.
pub(super) fn services(count: usize) -> Result<()> {
    let this = std::env::current_exe()?;
    all(count, |number| {
        let mut command = Command::new(&this);
        command.args(["exchange", &number.to_string()]).env(role::ROLE, role::ATTACKER);
        command.env("OTEL_SERVICE_NAME", format!("junk-{number}"));
        command
    })
}

fn all(count: usize, command: impl Fn(usize) -> Command) -> Result<()> {
    let mut running: Vec<Child> = Vec::new();
    for number in 0..count {
        if running.len() >= AT_ONCE {
            end(running.remove(0))?;
        }
        running.push(command(number).spawn().context("cannot start a short program")?);
    }
    running.into_iter().try_for_each(end)
}

fn end(mut child: Child) -> Result<()> {
    ensure!(child.wait()?.success(), "a short program failed");
    Ok(())
}
