//! The developer's commands: `cargo xtask <command>`.
//!
//! *Owns* set-up, build, checks, tests and the way into the demo. *Must not know* agent internals.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod check;
mod docs;
mod fuzz;
mod image;
mod instructions;
mod package;
mod programs;
mod setup;
mod shell;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, build, checks, tests and demo of the Spoor workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Args),
    Build(build::Args),
    /// The cheap part of CI: formatting, tidy, clippy, documentation, generated pages, licences.
    ///
    /// Needs no BPF toolchain and no privileges. Warnings are errors.
    Check,
    /// Check the workspace's own conventions: boundaries between modules, headers, lengths, links, fixtures.
    ///
    /// Every finding is one line: `file:line: what, why`.
    Tidy,
    Docs(docs::Args),
    Test(test::Args),
    Demo(programs::demo::Args),
    Accuracy(programs::accuracy::Args),
    Attack(programs::attack::Args),
    Stacks(programs::stacks::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Vm(vm::Args),
    Package(package::Args),
    Image(image::Args),
    /// Rewrite the expected output inside snapshot tests from what the code does now; look at the diff before committing.
    Bless {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args).map(|path| println!("{}", path.display())),
        Command::Check => check::run(),
        Command::Tidy => tidy::run(),
        Command::Docs(args) => docs::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Demo(_) => programs::hand_over("demo"),
        Command::Accuracy(_) => programs::hand_over("accuracy"),
        Command::Attack(_) => programs::hand_over("attack"),
        Command::Stacks(_) => programs::hand_over("stacks"),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Bless { filter } => test::bless(filter.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
