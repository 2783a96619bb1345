//! `spoor config`.

use std::io::Write;

use super::Failure;
use super::arguments::ConfigCommand;
use crate::config::{Order, document, load, reference};
use spoor_core::order::rules::{default_attributes, default_keys};

pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    let text = match command {
        ConfigCommand::Check { file, config } => {
            let file = file.as_ref().or(config.config.as_ref()).ok_or_else(|| {
                Failure::Usage("name a file: `spoor config check FILE`, --config or SPOOR_CONFIG".to_owned())
            })?;
            // The file by itself: what the environment of this shell says is not what it will say at the service.
            let loaded = load(Some(file), &[], &[])?;
            crate::run::check(&loaded.config)?;
            format!("{}: ok\n{}", file.display(), rules(&loaded.config.order))
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

/// Which rules are in force, where some are the file's own.
fn rules(order: &Order) -> String {
    fn line<T: PartialEq>(key: &str, rules: &[T], known: &[T]) -> String {
        // A built-in rule that the file repeats is in force once.
        let builtin = known.iter().filter(|rule| rules.contains(rule)).count();
        let own = rules.iter().filter(|rule| !known.contains(rule)).count();
        match (own, known.len() - builtin) {
            (0, 0) => String::new(),
            (own, 0) => format!("{key}: {own} of yours, {builtin} built in\n"),
            (own, off) => format!("{key}: {own} of yours, {builtin} built in, {off} built-in ones are off\n"),
        }
    }
    line("order.keys", &order.keys, &default_keys())
        + &line("order.attributes", &order.attributes, &default_attributes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_counted_whatever_the_file_repeats() {
        let mut order = Order { keys: default_keys(), attributes: default_attributes(), ..Order::default() };
        assert_eq!(rules(&order), "");
        // One of them twice, and all of them twice.
        order.keys.push(order.keys[0].clone());
        assert_eq!(rules(&order), "");
        order.keys.extend(default_keys());
        assert_eq!(rules(&order), "");
        let known = default_keys().len();
        order.keys = vec![Default::default(), default_keys()[0].clone(), default_keys()[0].clone()];
        let expected = format!("order.keys: 1 of yours, 1 built in, {} built-in ones are off\n", known - 1);
        assert_eq!(rules(&order), expected);
    }
}
