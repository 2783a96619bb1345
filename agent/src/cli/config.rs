//! `spoor config`.

use std::io::Write;

use super::Failure;
use super::arguments::ConfigCommand;
use crate::config::{document, load, reference};

pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    let text = match command {
        ConfigCommand::Check { file } => {
            // The file by itself: what the environment of this shell says is not what it will say at the service.
            let loaded = load(Some(file), &[], &[])?;
            crate::run::check(&loaded.config)?;
            format!("{}: ok\n", file.display())
        }
        ConfigCommand::Default => document::default_yaml(),
        ConfigCommand::Reference => reference::markdown(),
        ConfigCommand::Rules => spoor_core::causality::rules::markdown(),
        ConfigCommand::Schema => format!("{:#}\n", document::schema()),
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
