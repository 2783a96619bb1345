//! The settings' own documentation → a JSON Schema and a commented default file.

use serde_json::{Map, Value};

use super::Config;

const HEADER: &str = "\
# Configuration of Spoor. Every key is shown with its default; what is left out keeps it.
#
# Every key is also an environment variable: SPOOR_ and its path in capitals, joined by underscores
# (export.otlp.endpoint is SPOOR_EXPORT_OTLP_ENDPOINT; lists and maps as YAML or JSON text). The standard
# OTEL_EXPORTER_OTLP_* variables set the keys of export.otlp.
# Order of precedence: defaults, this file, OTEL_* variables, SPOOR_* variables, options of the command line.
# Sizes are in bytes, durations are written 250ms, 2s, 5m, 24h. `spoor config check FILE` checks a file.
";

/// Width at which comments are wrapped.
const WIDTH: usize = 110;

/// The JSON Schema of the configuration, for editors and checks in pipelines.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "Configuration of Spoor".into());
    }
    schema
}

/// The paths of all settings: sections are walked, lists and free maps are settings as a whole.
pub fn keys() -> Vec<Vec<String>> {
    let schema = schema();
    let mut keys = Vec::new();
    collect(&schema, &schema, &mut Vec::new(), &mut keys);
    keys
}

fn collect(root: &Value, schema: &Value, path: &mut Vec<String>, keys: &mut Vec<Vec<String>>) {
    match resolve(root, schema).get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (key, schema) in properties {
                path.push(key.clone());
                collect(root, schema, path, keys);
                path.pop();
            }
        }
        None => keys.push(path.clone()),
    }
}

/// Follows a reference to a definition.
pub(super) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// All settings with their defaults and documentation, as YAML.
pub fn default_yaml() -> String {
    let schema = schema();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut text = HEADER.to_owned();
    if let Some(defaults) = defaults.as_object() {
        section(&schema, &schema, defaults, 0, &mut text);
    }
    text
}

fn section(root: &Value, schema: &Value, values: &Map<String, Value>, indent: usize, text: &mut String) {
    let properties = resolve(root, schema).get("properties");
    let pad = " ".repeat(indent);
    for (key, value) in values {
        let schema = properties.and_then(|properties| properties.get(key)).unwrap_or(&Value::Null);
        if indent == 0 {
            text.push('\n');
        }
        let own = schema.get("description").or_else(|| resolve(root, schema).get("description"));
        comment(own.and_then(Value::as_str).unwrap_or_default(), indent, text);
        match value {
            Value::Object(inner) if resolve(root, schema).get("properties").is_some() => {
                text.push_str(&format!("{pad}{key}:\n"));
                section(root, schema, inner, indent + 2, text);
            }
            value => entry(key, value, indent, text),
        }
    }
}

/// `key: value` on one line where that fits, else below it.
pub(super) fn entry(key: &str, value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    let line = format!("{pad}{key}: {}\n", flow(value));
    let list_of_mappings = matches!(value, Value::Array(items) if items.iter().any(Value::is_object));
    match value {
        Value::Array(items) if list_of_mappings || line.len() > WIDTH => {
            text.push_str(&format!("{pad}{key}:\n"));
            for item in items {
                list_item(item, indent + 2, text);
            }
        }
        Value::Object(entries) if line.len() > WIDTH => {
            text.push_str(&format!("{pad}{key}:\n"));
            for (key, value) in entries.iter().filter(|(_, value)| !is_empty(value)) {
                entry(key, value, indent + 2, text);
            }
        }
        _ => text.push_str(&line),
    }
}

/// `- item`, the entries of a long mapping one below the other.
fn list_item(item: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    let line = format!("{pad}- {}\n", flow(item));
    let Value::Object(entries) = item else { return text.push_str(&line) };
    if line.len() <= WIDTH {
        return text.push_str(&line);
    }
    let mut block = String::new();
    for (key, value) in entries.iter().filter(|(_, value)| !is_empty(value)) {
        entry(key, value, indent + 2, &mut block);
    }
    // The dash takes the place of the first entry's indentation.
    text.push_str(&format!("{pad}- {}", block.trim_start()));
}

fn comment(description: &str, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    let width = WIDTH.saturating_sub(indent + 2);
    for paragraph in description.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                text.push_str(&format!("{pad}# {line}\n"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            text.push_str(&format!("{pad}# {line}\n"));
        }
    }
}

/// A value on one line. Keys of list items that are at their own default (null, empty) are left out.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let given = entries.iter().filter(|(_, value)| !is_empty(value));
            let given: Vec<_> = given.map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            if given.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", given.join(", ")) }
        }
        // `0.6_f32` as JSON is 0.6000000238418579.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map(|number| (number as f32).to_string()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Plain where YAML reads it back as the same text, else quoted as in JSON, which is YAML too.
fn scalar(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-');
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off"];
    let plain = starts_plain && text.chars().all(word) && !reserved.contains(&text.to_lowercase().as_str());
    if plain || text == "0" || is_duration(text) { text.to_owned() } else { Value::from(text).to_string() }
}

pub(super) fn is_duration(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && super::duration::parse(text).is_some()
}
