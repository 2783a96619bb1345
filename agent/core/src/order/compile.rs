//! The configuration's rules → [`Rules`] ready to run on every operation, or what is wrong with them.
//!
//! *Owns* validation, and the look-up tables by place. *Must not know* how places are read.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::names::{Names, Normal, normal_or_error};
use super::path::{Placeholders, Template};
use super::rules::{AmqpProperty, Part, Places, UploadFact, When};
use super::settings;
use super::value::ValueType;
use crate::operation::Operation;
use crate::privacy::is_secret_header;
use crate::trace::hex_text;

/// Rules of both kinds together.
const MAX_RULES: usize = 256;
/// Places of arrays that a path may name.
const MAX_INDEX: u32 = 9999;

/// What is wrong with a rule, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}.{key}: {problem}")]
pub struct RuleError {
    /// `order.keys[0]`, `order.attributes[3]`, `spans`.
    pub rule: String,
    /// The key inside the rule: `in.paths[1]`.
    pub key: String,
    /// A sentence without a full stop.
    pub problem: String,
}

/// Compiled extraction rules.
#[derive(Debug)]
pub struct Rules {
    pub(super) rules: Vec<Rule>,
    pub(super) paths: Vec<(Template, RuleId)>,
    pub(super) query: Names,
    pub(super) headers: Names,
    pub(super) fields: Names,
    /// By the last name.
    pub(super) json_paths: FxHashMap<Normal, Vec<(Vec<Step>, RuleId)>>,
    pub(super) protobuf_paths: Vec<(super::protobuf::Steps, RuleId)>,
    pub(super) amqp_headers: Names,
    pub(super) amqp_properties: Vec<(AmqpProperty, RuleId)>,
    /// By column; `None` is any table.
    pub(super) columns: FxHashMap<Normal, Vec<(Option<Normal>, RuleId)>>,
    pub(super) uploads: Vec<(UploadFact, RuleId)>,
    /// Finds JSON bodies worth a scan, but for those with names outside ASCII.
    pub(super) stems: Option<AhoCorasick>,
    /// Names of fields have letters outside ASCII: what JSON may hold them is not told by `stems`.
    pub(super) wide_fields: bool,
    /// What a request calls is asked for before anything else of it.
    pub(super) asks_calls: bool,
    /// Letter case tells paths apart.
    exact_paths: bool,
    pub(super) spans: Spans,
    digest: [u8; 8],
}

/// What [`settings::Spans`] asks to be read from operations beside orders.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub routes: Vec<Template>,
    /// Header names in lower case with the attribute they become.
    pub request_headers: Vec<(String, String)>,
    pub response_headers: Vec<(String, String)>,
    /// Zero: no statement is slow.
    pub slow_statement: Duration,
    pub connection_setup: bool,
    /// Names of GraphQL operations name spans.
    pub graphql_operations: bool,
}

/// A step of a path in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name(Normal),
    Index(u32),
}

/// Index into [`Rules::rules`].
pub(super) type RuleId = u16;

#[derive(Debug)]
pub(super) struct Rule {
    pub target: Target,
    pub kind: ValueType,
    pub method: Option<String>,
    pub path: Option<Template>,
    pub part: Option<Part>,
    /// Statuses of the response, any of them; none: any status.
    pub statuses: Vec<RangeInclusive<u16>>,
    pub call: Option<String>,
    pub destination: Option<String>,
    pub needs_order: bool,
    /// Its place in the configuration: `order.keys[0]`.
    pub label: String,
}

#[derive(Debug)]
pub(super) enum Target {
    /// An identity key. `rank`: the order in which namespaces first appear.
    Key {
        namespace: Arc<str>,
        rank: u16,
    },
    /// A number that joins nothing, exported under this name.
    Alias(String),
    Attribute(String),
}

impl Rules {
    /// Compiles and checks all rules of a configuration, with the defaults of its section `spans`.
    pub fn compile(order: &settings::Order) -> Result<Self, RuleError> {
        let mut rules = Self {
            rules: Vec::new(),
            paths: Vec::new(),
            query: Names::default(),
            headers: Names::default(),
            fields: Names::default(),
            json_paths: FxHashMap::default(),
            protobuf_paths: Vec::new(),
            amqp_headers: Names::default(),
            amqp_properties: Vec::new(),
            columns: FxHashMap::default(),
            uploads: Vec::new(),
            stems: None,
            wide_fields: false,
            asks_calls: false,
            exact_paths: order.exact_paths,
            spans: Spans::default(),
            digest: digest(order),
        };
        let mut namespaces: Vec<Arc<str>> = Vec::new();
        for (at, key) in order.keys.iter().enumerate() {
            let fail = |(k, problem): (&str, String)| error(format!("order.keys[{at}]"), k, problem);
            let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if key.namespace.is_empty() || key.namespace.len() > 32 || !key.namespace.chars().all(well_formed)
            {
                let problem =
                    format!("`{}` is not a name of lower-case letters, digits and `_`", key.namespace);
                return Err(fail(("namespace", problem)));
            }
            let kind = ValueType::compile(key.kind, key.max_length, key.characters, key.pattern.as_deref());
            let kind = kind.map_err(&fail)?;
            if key.when.as_ref().is_some_and(|when| when.order) {
                return Err(fail(("when.order", "a key cannot depend on the order it names".to_owned())));
            }
            let rank = namespaces.iter().position(|n| **n == *key.namespace).unwrap_or_else(|| {
                namespaces.push(key.namespace.as_str().into());
                namespaces.len() - 1
            });
            let namespace = namespaces.get(rank).cloned().unwrap_or_else(|| key.namespace.as_str().into());
            let target = match key.identity {
                true => Target::Key { namespace, rank: rank as u16 },
                false => Target::Alias(super::alias_attribute(&namespace)),
            };
            let label = format!("order.keys[{at}]");
            rules.add(label, target, kind, &key.places, key.when.as_ref()).map_err(|(k, p)| fail((&k, p)))?;
        }
        for (at, attribute) in order.attributes.iter().enumerate() {
            let fail = |(k, problem): (&str, String)| error(format!("order.attributes[{at}]"), k, problem);
            attribute_name(&attribute.name).map_err(|problem| fail(("name", problem)))?;
            let pattern = attribute.pattern.as_deref();
            let kind =
                ValueType::compile(attribute.kind, attribute.max_length, attribute.characters, pattern);
            let kind = kind.map_err(&fail)?;
            let target = Target::Attribute(attribute.name.clone());
            let label = format!("order.attributes[{at}]");
            rules
                .add(label, target, kind, &attribute.places, attribute.when.as_ref())
                .map_err(|(k, p)| fail((&k, p)))?;
        }
        (rules.stems, rules.wide_fields) = stems(order);
        rules.with_spans(&settings::Spans::default())
    }

    /// Replaces what section `spans` asks for.
    pub fn with_spans(mut self, spans: &settings::Spans) -> Result<Self, RuleError> {
        let fail = |key: String, problem| error("spans".to_owned(), &key, problem);
        let routes = spans.routes.iter().enumerate().map(|(at, text)| {
            let route =
                Template::parse(text, Placeholders::Any).map_err(|why| fail(format!("routes[{at}]"), why))?;
            match route.is_route() {
                true => Ok(route.exact(self.exact_paths)),
                false => Err(fail(
                    format!("routes[{at}]"),
                    format!("`{text}` does not say the whole path: `**` names no route"),
                )),
            }
        });
        let routes = routes.collect::<Result<_, _>>()?;
        let headers = |key: &str, prefix: &str, names: &[String]| {
            let headers = names.iter().enumerate().map(|(at, name)| {
                if name.is_empty() || name.contains(|c: char| !c.is_ascii_graphic()) {
                    return Err(fail(format!("{key}[{at}]"), format!("`{name}` is not a header name")));
                }
                if is_secret_header(name) {
                    return Err(fail(
                        format!("{key}[{at}]"),
                        format!("`{name}` carries secrets and is never exported"),
                    ));
                }
                let name = name.to_ascii_lowercase();
                let attribute = format!("{prefix}{name}");
                Ok((name, attribute))
            });
            headers.collect::<Result<Vec<_>, _>>()
        };
        self.spans = Spans {
            routes,
            request_headers: headers("request_headers", "http.request.header.", &spans.request_headers)?,
            response_headers: headers("response_headers", "http.response.header.", &spans.response_headers)?,
            slow_statement: spans.slow_statement,
            connection_setup: spans.connection_setup,
            graphql_operations: spans.graphql_operations,
        };
        Ok(self)
    }

    /// Its span is not wanted: it only sets its connection up.
    pub fn leaves_out(&self, operation: &Operation) -> bool {
        !self.spans.connection_setup && operation.is_setup()
    }

    /// The first 8 bytes of the SHA-256 of `order` as JSON: equal on agents that extract alike.
    pub fn digest(&self) -> String {
        hex_text(&self.digest)
    }

    /// What the configuration calls a rule.
    pub(super) fn label(&self, rule: RuleId) -> String {
        self.rules.get(usize::from(rule)).map(|rule| rule.label.clone()).unwrap_or_default()
    }

    fn add(
        &mut self,
        label: String,
        target: Target,
        kind: ValueType,
        places: &Places,
        when: Option<&When>,
    ) -> Result<(), (String, String)> {
        let id = self.rules.len() as RuleId;
        if self.rules.len() >= MAX_RULES {
            return Err(("in".to_owned(), format!("more than {MAX_RULES} rules")));
        }
        if *places == Places::default() {
            return Err(("in".to_owned(), "names no place to look at".to_owned()));
        }
        let each = |key: &'static str, list: &[String], add: &mut dyn FnMut(&str) -> Result<(), String>| {
            list.iter()
                .enumerate()
                .try_for_each(|(at, name)| add(name).map_err(|why| (format!("in.{key}[{at}]"), why)))
        };
        each("paths", &places.paths, &mut |text| {
            self.paths.push((Template::parse(text, Placeholders::One)?.exact(self.exact_paths), id));
            Ok(())
        })?;
        each("query", &places.query, &mut |name| self.query.add(name, id))?;
        each("headers", &places.headers, &mut |name| {
            if is_secret_header(name) {
                return Err(format!("`{name}` carries secrets and is never read"));
            }
            self.headers.add(name, id)
        })?;
        each("fields", &places.fields, &mut |name| self.fields.add(name, id))?;
        each("json_paths", &places.json_paths, &mut |text| {
            let steps = json_path(text)?;
            let last = steps.iter().rev().find_map(|step| match step {
                Step::Name(name) => Some(name.clone()),
                Step::Index(_) => None,
            });
            let last = last.ok_or_else(|| format!("`{text}` names no member"))?;
            self.json_paths.entry(last).or_default().push((steps, id));
            Ok(())
        })?;
        each("protobuf_paths", &places.protobuf_paths, &mut |text| {
            self.protobuf_paths.push((super::protobuf::parse_path(text)?, id));
            Ok(())
        })?;
        each("amqp_headers", &places.amqp_headers, &mut |name| self.amqp_headers.add(name, id))?;
        each("columns", &places.columns, &mut |text| {
            let (table, column) = match text.rsplit_once('.') {
                None | Some(("*", _)) => (None, text.trim_start_matches("*.")),
                Some((table, _)) if table.contains('.') => {
                    return Err(format!("`{text}`: write `table.column`, tables match in every schema"));
                }
                Some((table, column)) => (Some(normal_or_error(table)?), column),
            };
            self.columns.entry(normal_or_error(column)?).or_default().push((table, id));
            Ok(())
        })?;
        self.amqp_properties.extend(places.amqp_properties.iter().map(|property| (*property, id)));
        self.uploads.extend(places.uploads.iter().map(|fact| (*fact, id)));
        let when = when.cloned().unwrap_or_default();
        let path = when.path.as_deref().map(|text| Template::parse(text, Placeholders::Zero)).transpose();
        let path = path.map_err(|why| ("when.path".to_owned(), why))?;
        let statuses = when
            .status
            .iter()
            .enumerate()
            .map(|(at, status)| status.range().map_err(|why| (format!("when.status[{at}]"), why)));
        self.asks_calls |= when.call.is_some();
        self.rules.push(Rule {
            target,
            kind,
            method: when.method,
            path: path.map(|path| path.exact(self.exact_paths)),
            part: when.part,
            statuses: statuses.collect::<Result<_, _>>()?,
            call: when.call,
            destination: when.destination,
            needs_order: when.order,
            label,
        });
        Ok(())
    }
}

fn error(rule: String, key: &str, problem: String) -> RuleError {
    RuleError { rule, key: key.to_owned(), problem }
}

fn digest(order: &settings::Order) -> [u8; 8] {
    let json = serde_json::to_vec(order).unwrap_or_default();
    let hash = Sha256::digest(&json);
    let mut out = [0; 8];
    out.iter_mut().zip(hash.iter()).for_each(|(slot, byte)| *slot = *byte);
    out
}

/// `$.order.id`, `$.params[0][0]` as their steps.
fn json_path(text: &str) -> Result<Vec<Step>, String> {
    let Some(rest) = text.strip_prefix("$.") else {
        return Err(format!("`{text}` does not begin with `$.`"));
    };
    let mut steps = Vec::new();
    for member in rest.split('.') {
        let (name, places) = member.find('[').map_or((member, ""), |at| member.split_at(at));
        if name.contains(']') {
            return Err(format!("`{text}`: the places of an array are written `[0]`"));
        }
        steps.push(Step::Name(normal_or_error(name)?));
        let mut places = places;
        while let Some((place, after)) = places.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let index = place.parse::<u32>().ok().filter(|index| *index <= MAX_INDEX);
            let index = index.filter(|_| place.bytes().all(|byte| byte.is_ascii_digit()));
            let wrong =
                || format!("`[{place}]` in `{text}` is no place of an array: nothing is taken of all of one");
            steps.push(Step::Index(index.ok_or_else(wrong)?));
            places = after;
        }
        if !places.is_empty() {
            return Err(format!("`{text}`: the places of an array are written `[0]`"));
        }
    }
    Ok(steps)
}

/// Conventional namespaces belong to the conventions; Spoor's own and the order's ID are set by Spoor.
fn attribute_name(name: &str) -> Result<(), String> {
    let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
    let edges = |c: char| c.is_ascii_lowercase();
    if name.is_empty()
        || name.len() > 128
        || !name.chars().all(well_formed)
        || !name.starts_with(edges)
        || name.ends_with('.')
    {
        return Err(format!("`{name}` is not an attribute name such as `order.status`"));
    }
    const TAKEN: [&str; 20] = [
        "aws",
        "client",
        "cloud",
        "container",
        "db",
        "error",
        "exception",
        "host",
        "http",
        "k8s",
        "messaging",
        "network",
        "otel",
        "process",
        "rpc",
        "server",
        "service",
        "spoor",
        "telemetry",
        "url",
    ];
    let first = name.split('.').next().unwrap_or("");
    if TAKEN.contains(&first) || matches!(name, "order.id" | "order.namespace") {
        return Err(format!("`{name}` is set by Spoor itself"));
    }
    Ok(())
}

/// The longest word of each name without its first letter, as it stands in snake, kebab, camel and upper case: a JSON body
/// with none of them cannot carry a wanted name, unless the name is written with escapes. And whether there
/// are names outside ASCII, for which any byte outside ASCII, or any escape, is worth a scan.
fn stems(order: &settings::Order) -> (Option<AhoCorasick>, bool) {
    let keys = order.keys.iter().map(|rule| &rule.places);
    let places = keys.chain(order.attributes.iter().map(|rule| &rule.places));
    let mut stems: Vec<String> = Vec::new();
    let mut is_wide = false;
    for places in places {
        let last_steps = places.json_paths.iter().filter_map(|path| path.rsplit('.').next());
        let last_steps = last_steps.map(|step| step.split('[').next().unwrap_or(step));
        for name in places.fields.iter().map(String::as_str).chain(last_steps) {
            if !name.is_ascii() {
                is_wide = true;
                continue;
            }
            for stem in stems_of(name) {
                if !stems.contains(&stem) {
                    stems.push(stem);
                }
            }
        }
    }
    // Letters of ASCII as escapes; and what names a call.
    stems.extend(["\\u00", "\"method\"", "\"operationName\"", "\"query\""].map(str::to_owned));
    (AhoCorasick::new(&stems).ok(), is_wide)
}

/// A short name such as `id` is in every other word; it is looked for in its quotes.
fn stems_of(name: &str) -> Vec<String> {
    let stem = longest_word(name);
    if stem.len() > 2 {
        return vec![stem.to_ascii_lowercase(), stem.to_ascii_uppercase()];
    }
    let (lower, upper) = (name.to_ascii_lowercase(), name.to_ascii_uppercase());
    let capital = upper.chars().take(1).chain(lower.chars().skip(1)).collect::<String>();
    [name.to_owned(), lower, upper, capital].map(|form| format!("\"{form}\"")).to_vec()
}

fn longest_word(name: &str) -> &str {
    let mut longest = "";
    let mut start = 0;
    let ends = name.char_indices().skip(1).filter(|(_, c)| matches!(c, '_' | '-') || c.is_ascii_uppercase());
    for end in ends.map(|(at, _)| at).chain([name.len()]) {
        let word = name.get(start..end).unwrap_or("").trim_start_matches(['_', '-']);
        let tail = word.char_indices().nth(1).and_then(|(at, _)| word.get(at..)).unwrap_or("");
        if tail.len() > longest.len() {
            longest = tail;
        }
        start = end;
    }
    if longest.is_empty() { name.trim_matches(['_', '-']) } else { longest }
}

#[cfg(test)]
mod tests {
    use super::super::rules::{AttributeRule, KeyRule, Status, ValueKind};
    use super::*;

    fn check(rule: KeyRule, expected: &str) {
        let order = settings::Order { keys: vec![rule], ..settings::Order::default() };
        let error = Rules::compile(&order).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }

    fn named(places: Places) -> KeyRule {
        KeyRule { places, ..KeyRule::default() }
    }

    #[test]
    fn defaults_compile() {
        let rules = Rules::compile(&settings::Order::default()).expect("valid defaults");
        assert_eq!(rules.digest().len(), 16);
    }

    #[test]
    fn errors_name_rule_key_and_problem() {
        let one = |text: &str| vec![text.to_owned()];
        check(KeyRule::default(), "order.keys[0].in: names no place to look at");
        check(
            named(Places { paths: one("/orders"), ..Places::default() }),
            "order.keys[0].in.paths[0]: `/orders` has 0 placeholders; exactly one says where the value is, `*` stands for others",
        );
        check(
            named(Places { headers: one("Authorization"), ..Places::default() }),
            "order.keys[0].in.headers[0]: `Authorization` carries secrets and is never read",
        );
        check(
            named(Places { json_paths: one("$.orders[*].id"), ..Places::default() }),
            "order.keys[0].in.json_paths[0]: `[*]` in `$.orders[*].id` is no place of an array: nothing is taken of all of one",
        );
        check(
            named(Places { json_paths: one("$.orders[0"), ..Places::default() }),
            "order.keys[0].in.json_paths[0]: `$.orders[0`: the places of an array are written `[0]`",
        );
        check(
            named(Places { columns: one("public.orders.id"), ..Places::default() }),
            "order.keys[0].in.columns[0]: `public.orders.id`: write `table.column`, tables match in every schema",
        );
        check(
            KeyRule { namespace: "Shop".to_owned(), ..KeyRule::default() },
            "order.keys[0].namespace: `Shop` is not a name of lower-case letters, digits and `_`",
        );
        check(
            KeyRule { kind: ValueKind::Pattern, ..KeyRule::default() },
            "order.keys[0].pattern: a `pattern` needs one, such as `ORD-#+`",
        );
        let fields = Places { fields: one("x"), ..Places::default() };
        let when = Some(When { path: Some("/orders/{id}".to_owned()), ..When::default() });
        check(
            KeyRule { when, ..named(fields.clone()) },
            "order.keys[0].when.path: `/orders/{id}` has a placeholder where none is read; write `*`",
        );
        let when = Some(When { status: vec![Status::new("2x")], ..When::default() });
        let fields = Places { fields: vec!["x".to_owned()], ..Places::default() };
        check(
            KeyRule { when, ..named(fields.clone()) },
            "order.keys[0].when.status[0]: `2x` is not a status such as `201` or `2xx`",
        );
        let attribute =
            AttributeRule { name: "http.route".to_owned(), places: fields, ..AttributeRule::default() };
        let order = settings::Order { attributes: vec![attribute], ..settings::Order::default() };
        let error = Rules::compile(&order).expect_err("a taken name");
        assert_eq!(error.to_string(), "order.attributes[0].name: `http.route` is set by Spoor itself");
    }

    #[test]
    fn spans_are_checked_too() {
        let refused = |spans: settings::Spans| {
            let rules = Rules::compile(&settings::Order::default()).expect("valid defaults");
            rules.with_spans(&spans).expect_err("refused").to_string()
        };
        let with = |routes: &str, header: &str| settings::Spans {
            routes: vec![routes.to_owned()],
            request_headers: vec![header.to_owned()],
            ..settings::Spans::default()
        };
        assert_eq!(
            refused(with("/**/x", "a")),
            "spans.routes[0]: `/**/x` does not say the whole path: `**` names no route"
        );
        assert_eq!(
            refused(with("/x", "Cookie")),
            "spans.request_headers[0]: `Cookie` carries secrets and is never exported"
        );
        assert_eq!(refused(with("/x", "a b")), "spans.request_headers[0]: `a b` is not a header name");
    }

    #[test]
    fn rules_survive_a_round_trip_and_unknown_keys_do_not() {
        let order = settings::Order::default();
        let json = serde_json::to_string(&order).expect("serialises");
        assert_eq!(serde_json::from_str::<settings::Order>(&json).expect("parses"), order);
        let unknown = r#"{"in": {"field": ["order_id"]}}"#;
        let error = serde_json::from_str::<KeyRule>(unknown).expect_err("unknown key").to_string();
        assert!(error.contains("unknown field `field`"), "{error}");
    }

    #[test]
    fn stems_are_the_longest_words() {
        assert_eq!(longest_word("order_id"), "rder");
        assert_eq!(longest_word("orderNumber"), "umber");
        assert_eq!(longest_word("id"), "d");
        assert_eq!(longest_word("x"), "x");
    }
}
