//! The settings' own documentation → the page of all settings, as Markdown.
//!
//! *Owns* the form of the page: a heading for each section and each setting, so that every setting has an address.
//! *Must not know* where the page is kept: `cargo xtask docs` writes it to `docs/configuration.md`.

use serde_json::{Map, Value};

use super::document::{entry, is_duration, resolve, schema};
use super::{Config, environment};

/// Longer defaults stand below the setting as YAML.
const MAX_DEFAULT: usize = 60;

/// All settings: what each means, its type, its default and its environment variables.
pub fn markdown() -> String {
    let schema = schema();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut page = Page { root: &schema, path: Vec::new(), text: String::new() };
    if let Some(defaults) = defaults.as_object() {
        page.section(&schema, defaults);
    }
    page.text
}

struct Page<'a> {
    root: &'a Value,
    /// Keys from the root to where the page is being written.
    path: Vec<String>,
    text: String,
}

impl<'a> Page<'a> {
    fn section(&mut self, schema: &'a Value, values: &Map<String, Value>) {
        let properties = resolve(self.root, schema).get("properties");
        for (key, value) in values {
            let schema = properties.and_then(|properties| properties.get(key)).unwrap_or(&Value::Null);
            self.path.push(key.clone());
            match value {
                Value::Object(inner) if resolve(self.root, schema).get("properties").is_some() => {
                    self.heading("##", schema);
                    self.section(schema, inner);
                }
                value => self.setting(schema, value),
            }
            self.path.pop();
        }
    }

    fn heading(&mut self, level: &str, schema: &'a Value) {
        let path = self.path.join(".");
        self.text += &format!("\n{level} `{path}`\n\n");
        self.text += &sentences(description(self.root, schema));
    }

    fn setting(&mut self, schema: &'a Value, default: &Value) {
        self.heading("###", schema);
        let is_duration = default.as_str().is_some_and(is_duration);
        let one_of = if choices(self.root, schema).is_empty() { "" } else { "one of " };
        let kind = if is_duration { "duration".to_owned() } else { kind(self.root, schema) };
        let mut variables = vec![environment::variable(&self.path)];
        variables.extend(environment::standard_variables(&self.path).map(str::to_owned));
        let variables: Vec<String> = variables.iter().map(|name| format!("`{name}`")).collect();
        self.text += &format!("\n- Type: {one_of}{kind}\n");
        let mut yaml = String::new();
        entry(self.path.last().map(String::as_str).unwrap_or_default(), default, 0, &mut yaml);
        let shown = yaml.trim_end().split_once(": ").map(|(_, value)| value).unwrap_or_default();
        let is_short = yaml.lines().count() == 1 && shown.len() <= MAX_DEFAULT;
        if is_short {
            let size = self.path.last().filter(|key| key.ends_with("_bytes")).and(default.as_u64());
            let size = size.and_then(binary_size).map(|size| format!(" ({size})")).unwrap_or_default();
            self.text += &format!("- Default: `{shown}`{size}\n");
        }
        self.text += &format!("- Variable: {}\n", variables.join(", or "));
        self.choices(schema);
        self.items(schema);
        if !is_short {
            self.text += &format!("\nDefault:\n\n```yaml\n{yaml}```\n");
        }
    }

    /// What each choice means, where the choices say so: of the setting, or of a list's entries.
    fn choices(&mut self, schema: &Value) {
        let one = resolve(self.root, schema).get("items").unwrap_or(schema);
        let choices = choices(self.root, one);
        if choices.iter().any(|(_, meaning)| !meaning.is_empty()) {
            self.text += "\n| choice | meaning |\n|---|---|\n";
            for (choice, meaning) in choices {
                self.text += &format!("| `{choice}` | {} |\n", cell(meaning));
            }
        }
    }

    /// The keys of a list's entries.
    fn items(&mut self, schema: &'a Value) {
        let Some(items) = resolve(self.root, schema).get("items") else { return };
        let mut rows = String::new();
        rows_of(self.root, items, "", &mut rows);
        if !rows.is_empty() {
            self.text += &format!("\nKeys of an entry:\n\n| key | type | meaning |\n|---|---|---|\n{rows}");
        }
    }
}

/// A row for each key of a mapping, keys of mappings in it by their path.
fn rows_of(root: &Value, schema: &Value, prefix: &str, rows: &mut String) {
    let properties = resolve(root, schema).get("properties").and_then(Value::as_object);
    for (key, schema) in properties.into_iter().flatten() {
        let key = format!("{prefix}{key}");
        let inner = not_null(root, schema);
        *rows += &format!("| `{key}` | {} | {} |\n", cell(&kind(root, schema)), cell(&meaning(root, schema)));
        rows_of(root, inner, &format!("{key}."), rows);
    }
}

/// The description, and what each choice means where the choices say so.
fn meaning(root: &Value, schema: &Value) -> String {
    let choices = choices(root, schema).into_iter().filter(|(_, meaning)| !meaning.is_empty());
    let choices: Vec<String> = choices.map(|(choice, meaning)| format!("`{choice}`: {meaning}")).collect();
    [description(root, schema).to_owned(), choices.join(" ")].join(" ")
}

/// The setting's own words, else those of its type.
fn description<'a>(root: &'a Value, schema: &'a Value) -> &'a str {
    let own = schema.get("description").or_else(|| not_null(root, schema).get("description"));
    own.and_then(Value::as_str).unwrap_or_default()
}

/// The schema behind references and behind `or null`.
fn not_null<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let either = schema.get("anyOf").and_then(Value::as_array);
    let other = either.and_then(|either| either.iter().find(|schema| !is_null(schema)));
    resolve(root, other.unwrap_or(schema))
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn kind(root: &Value, schema: &Value) -> String {
    let inner = not_null(root, schema);
    let names = choices(root, schema);
    let types: Vec<&str> = match inner.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let nullable = types.contains(&"null") || schema.get("anyOf").is_some();
    let or_null = if nullable { ", or `null`" } else { "" };
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
        return format!("{}{or_null}", names.join(", "));
    }
    let text = match types.iter().find(|name| **name != "null") {
        Some(&"boolean") => "`true` or `false`".to_owned(),
        Some(&"integer") => "integer".to_owned(),
        Some(&"number") => "number".to_owned(),
        Some(&"string") => "text".to_owned(),
        Some(&"array") => match inner.get("items").map(|items| resolve(root, items)) {
            Some(items) if items.get("properties").is_some() => "list of entries".to_owned(),
            Some(items) => format!("list of {}", kind(root, items)),
            None => "list".to_owned(),
        },
        Some(&"object") if inner.get("properties").is_none() => "mapping of names to texts".to_owned(),
        Some(&"object") => "mapping".to_owned(),
        _ => "any".to_owned(),
    };
    text + or_null
}

/// The names that a choice may have, each with its meaning.
fn choices<'a>(root: &'a Value, schema: &'a Value) -> Vec<(&'a str, &'a str)> {
    let schema = not_null(root, schema);
    let one_of = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let alone = std::iter::once(schema).filter(|schema| schema.get("enum").is_some());
    one_of
        .chain(alone)
        .flat_map(|choice| {
            let meaning = choice.get("description").and_then(Value::as_str).filter(|_| choice != schema);
            let names = choice.get("enum").and_then(Value::as_array).into_iter().flatten();
            let names = names.chain(choice.get("const")).filter_map(Value::as_str);
            names.map(move |name| (name, meaning.unwrap_or_default()))
        })
        .collect()
}

/// One sentence per line.
fn sentences(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut lines = String::new();
    for (at, word) in words.iter().enumerate() {
        lines += word;
        let ends = word.ends_with(['.', '?', '!']);
        let starts = words.get(at + 1).and_then(|next| next.chars().next());
        let next_is_new = starts.is_none_or(|c| c.is_uppercase() || matches!(c, '`' | '('));
        lines.push(if ends && next_is_new || at + 1 == words.len() { '\n' } else { ' ' });
    }
    lines
}

/// Text that fits a table's cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Whole KiB, MiB or GiB.
fn binary_size(bytes: u64) -> Option<String> {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fits.map(|(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::super::document::keys;
    use super::*;

    #[test]
    fn every_setting_has_a_heading_a_meaning_a_type_and_its_variable() {
        let page = markdown();
        for path in keys() {
            let heading = format!("\n### `{}`\n\n", path.join("."));
            let (_, part) = page.split_once(&heading).unwrap_or_else(|| panic!("no heading: {heading}"));
            let part = part.split_once("\n##").map_or(part, |(part, _)| part);
            assert!(!part.starts_with('\n'), "{} is not documented", path.join("."));
            assert!(part.contains("\n- Type: ") && !part.contains("Type: any"), "{part}");
            assert!(part.contains(&format!("`{}`", environment::variable(&path))), "{part}");
            assert!(part.contains("Default: `") || part.contains("\nDefault:\n\n```yaml\n"), "{part}");
        }
    }

    #[test]
    fn sizes_choices_durations_and_standard_variables_are_told() {
        let page = markdown();
        for line in [
            "- Default: `16777216` (16 MiB)\n",
            "- Type: duration\n- Default: `2s`\n- Variable: `SPOOR_JOINING_LINGER`\n",
            "- Type: one of `auto`, `a`, `b`, `c`, `d`\n",
            "- Variable: `SPOOR_EXPORT_OTLP_ENDPOINT`, or `OTEL_EXPORTER_OTLP_ENDPOINT`\n",
            "- Type: one of `grpc`, `http/protobuf`, `http/json`, or `null`\n",
            "| `in.paths` | list of text | ",
        ] {
            assert!(page.contains(line), "{line}");
        }
    }

    #[test]
    fn a_sentence_is_a_line() {
        let text = "Sizes in bytes, e.g. one.\n At 3. 4 is more. `x` too.";
        assert_eq!(sentences(text), "Sizes in bytes, e.g. one.\nAt 3. 4 is more.\n`x` too.\n");
    }
}
