//! YAML text or one environment variable → a tree of values that know where they stand.
//!
//! *Owns* the part of YAML 1.2 a configuration needs: mappings, sequences, scalars of the core schema, anchors and
//! aliases within a bound. Keys given twice are an error.

use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::ConfigError;

/// Nodes of one document, counting repetitions through aliases: far above any configuration.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File {
        name: Arc<str>,
        line: usize,
        column: usize,
    },
    Variable(Arc<str>),
    Flag(&'static str),
    /// A built-in default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Flag(name) => write!(f, "option {name}"),
            Place::Default => f.write_str("default"),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// A scalar; `plain` ones may be numbers and booleans, quoted ones are text.
    Scalar {
        text: String,
        plain: bool,
    },
    /// Text from outside YAML: becomes what the setting wants, lists and maps are read as YAML.
    Raw(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping, with its own place, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    pub fn map(place: Place) -> Self {
        Node { place, value: Value::Map(Vec::new()) }
    }

    /// Parses a YAML document; `place` tells the place of a line and column of it. Empty text is an empty mapping.
    pub fn parse(text: &str, place: &dyn Fn(usize, usize) -> Place) -> Result<Self, ConfigError> {
        let mut loader = Loader { parser: Parser::new_from_str(text), place, anchors: Vec::new(), nodes: 0 };
        loader.document()
    }

    /// Sets the value at a path of keys, replacing what an earlier source gave.
    pub fn set(&mut self, path: &[&str], node: Node) {
        let Some((key, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return };
        let at = entries.iter().position(|entry| entry.key == *key);
        let at = at.unwrap_or_else(|| {
            let place = node.place.clone();
            entries.push(Entry { key: (*key).to_owned(), place: place.clone(), node: Node::map(place) });
            entries.len() - 1
        });
        if let Some(entry) = entries.get_mut(at) {
            if rest.is_empty() {
                entry.place = node.place.clone();
            }
            entry.node.set(rest, node);
        }
    }

    /// Something was given at this path of keys.
    pub fn has(&self, path: &[&str]) -> bool {
        let Some((key, rest)) = path.split_first() else { return true };
        let Value::Map(entries) = &self.value else { return false };
        entries.iter().any(|entry| entry.key == *key && entry.node.has(rest))
    }

    /// The node at a path such as `order.keys[2].name`, or its nearest ancestor that was given.
    pub fn nearest(&self, path: &[Step]) -> &Node {
        let mut node = self;
        for step in path {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Map(entries)) => {
                    entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.node)
                }
                (Step::Index(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// `order.keys[2].name`
pub fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

struct Loader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    place: &'a dyn Fn(usize, usize) -> Place,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), ConfigError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.place_of(span))),
            Some(Err(error)) => {
                let place = (self.place)(error.marker().line(), error.marker().col() + 1);
                Err(ConfigError::at(place, format!("not valid YAML: {}", error.info())))
            }
            None => Err(ConfigError::at((self.place)(1, 1), "unexpected end of the document".to_owned())),
        }
    }

    fn place_of(&self, span: Span) -> Place {
        (self.place)(span.start.line(), span.start.col() + 1)
    }

    fn document(&mut self) -> Result<Node, ConfigError> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root.unwrap_or_else(|| Node::map((self.place)(1, 1)))),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(ConfigError::at(place, "a second document: one file holds one".to_owned()));
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next()?;
                    let node = self.node(event, place, 0)?;
                    // A file with comments only.
                    let empty = node.value == Value::Null;
                    root = Some(if empty { Node::map(node.place) } else { node });
                }
                _ => return Err(ConfigError::at(place, "unexpected content".to_owned())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, ConfigError> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(ConfigError::at(place, "nested too deeply, or too large".to_owned()));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = tag.is_some_and(|tag| tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !text_tag;
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Scalar { text: text.to_owned(), plain },
                };
                (Node { place, value }, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, place) => items.push(self.node(event, place, depth + 1)?),
                    }
                }
                (Node { place, value: Value::List(items) }, anchor)
            }
            Event::MappingStart(anchor, _) => {
                let entries = self.entries(depth)?;
                (Node { place, value: Value::Map(entries) }, anchor)
            }
            Event::Alias(anchor) => {
                let found = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
                let Some((_, node)) = found else {
                    return Err(ConfigError::at(
                        place,
                        "an alias of an anchor that is not complete".to_owned(),
                    ));
                };
                self.nodes += count(node);
                if self.nodes > MAX_NODES {
                    return Err(ConfigError::at(place, "aliases repeat too much".to_owned()));
                }
                (node.clone(), 0)
            }
            _ => return Err(ConfigError::at(place, "unexpected content".to_owned())),
        };
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, ConfigError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = match event {
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(ConfigError::at(place, "a key must be a word".to_owned())),
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!("`{key}` is given twice, first at {}", first.place);
                return Err(ConfigError::at(place, message));
            }
            let (event, value_place) = self.next()?;
            let node = self.node(event, value_place, depth + 1)?;
            entries.push(Entry { key, place, node });
        }
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.node)).sum(),
        _ => 0,
    }
}
