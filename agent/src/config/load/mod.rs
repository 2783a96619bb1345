//! A configuration file, the environment and options → a checked [`Config`] or a located error.
//!
//! *Owns* the order of precedence: defaults, then the file, then the environment, then options.

use std::path::Path;
use std::sync::Arc;

use super::node::{Node, Place, Value};
use super::{Config, ConfigError, check, decode, document, environment};
use crate::files::{self, FileError};

/// Larger files are no configuration: one with every setting and a thousand rules has 200 kB.
const MAX_BYTES: u64 = 4 << 20;

/// A setting given as an option of the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it: `--otlp-endpoint`.
    pub option: &'static str,
    /// The key it sets.
    pub path: &'static [&'static str],
    pub value: String,
}

/// A configuration and what is odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
}

/// Loads the configuration from all its sources. Fails on the first thing that cannot be used.
pub fn load(
    file: Option<&Path>,
    environment: &[(String, String)],
    flags: &[Flag],
) -> Result<Loaded, ConfigError> {
    let mut root = match file {
        Some(path) => read(path)?,
        None => Node::map(Place::Default),
    };
    // What the file says is checked by itself first, so that its errors are found even where the environment wins.
    decode::decode::<Config>(&root)?;
    let warnings = environment::apply(&mut root, &document::keys(), environment)?;
    for flag in flags {
        let node = Node { place: Place::Flag(flag.option), value: Value::Raw(flag.value.clone()) };
        root.set(flag.path, node);
    }
    finish(&root).map(|config| Loaded { config, warnings })
}

/// Loads a configuration from text; `name` is what errors call it.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    finish(&tree(name, text)?)
}

fn finish(root: &Node) -> Result<Config, ConfigError> {
    let mut config: Config = decode::decode(root)?;
    config.order.complete(root.has(&["order", "keys"]), root.has(&["order", "attributes"]));
    match check::problems(&config).into_iter().next() {
        None => Ok(config),
        Some(problem) => Err(problem.located(root)),
    }
}

fn read(path: &Path) -> Result<Node, ConfigError> {
    let name = path.display().to_string();
    let at_start = |message: String| {
        ConfigError::at(Place::File { name: name.as_str().into(), line: 1, column: 1 }, message)
    };
    let bytes = files::read(path, MAX_BYTES).map_err(|error| match error {
        error if error.is_missing() => {
            at_start("no such file; `spoor config default` prints a configuration to start from".to_owned())
        }
        FileError::Io { source, .. } => at_start(format!("cannot be read: {source}")),
        error => at_start(error.to_string()),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| at_start("not UTF-8 text".to_owned()))?;
    tree(&name, &text)
}

fn tree(name: &str, text: &str) -> Result<Node, ConfigError> {
    let name: Arc<str> = name.into();
    // An editor's byte order mark is no content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Node::parse(text, &|line, column| Place::File { name: name.clone(), line, column })
}

#[cfg(test)]
mod tests;
