//! What a request's body asks for → the name of the call: of JSON-RPC, XML-RPC, SOAP, GraphQL.
//!
//! *Owns* which documents are calls, and which names are safe to name a span after. *Must not know* spans.
//! *Spec*: JSON-RPC 2.0 and 1.0; XML-RPC; SOAP 1.1, section 6.1.1, and 1.2, part 2, section 6.5; GraphQL (October 2021), section
//! 2.3, and GraphQL over HTTP.

use super::Call;
use super::document::At;
use crate::privacy;

/// Longest name of a method or operation.
const MAX_METHOD: usize = 128;
/// Digits in a row that a name may have: more of them number something.
const MAX_DIGITS: usize = 4;

/// The only version that says so.
const VERSION: &str = "2.0";
/// Digits of an error's code: those that JSON-RPC and XML-RPC define have five. A longer one may number something.
const MAX_CODE_DIGITS: usize = 6;

/// Members of a JSON document that make it a call, or the answer to one.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    version: Option<String>,
    method: Option<String>,
    id: Option<String>,
    has_parameters: bool,
    /// Model and method among the parameters: Odoo's `call` says what it calls there.
    called: [Option<String>; 2],
    query: Option<String>,
    operation: Option<String>,
    error: Option<String>,
}

impl Members {
    /// A member of the root, or of the object `error` in it.
    pub(super) fn see(&mut self, path: &[At<'_>], value: Option<&str>) {
        let (name, inner) = match path {
            [At::Name(name)] => (&**name, None),
            [At::Name(name), At::Name(inner)] => (&**name, Some(&**inner)),
            [At::Name(name), At::Index(_)] => (&**name, None),
            _ => return,
        };
        match (name, inner, value) {
            (b"jsonrpc", None, Some(value)) => self.version = Some(value.to_owned()),
            (b"method", None, Some(value)) => self.method = Some(value.to_owned()),
            (b"id", None, Some(value)) => self.id = Some(value.to_owned()),
            (b"params", Some(b"model"), Some(value)) => self.called[0] = Some(value.to_owned()),
            (b"params", Some(b"method"), Some(value)) => self.called[1] = Some(value.to_owned()),
            (b"params", ..) => self.has_parameters = true,
            (b"query", None, Some(value)) => self.query = Some(value.to_owned()),
            (b"operationName", None, Some(value)) => self.operation = Some(value.to_owned()),
            (b"error", Some(b"code"), Some(value)) => self.error = Some(value.to_owned()),
            _ => {}
        }
    }

    /// The error of an answer: a code of JSON-RPC.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref().filter(|code| is_error_code(code))
    }

    /// The call that a request is.
    pub(super) fn call(self) -> Option<Call> {
        if let Some(method) = &self.method
            // JSON-RPC 1.0 names no version, and always has parameters.
            && (self.version.is_some() || self.has_parameters)
        {
            let called = match &self.called {
                [Some(model), Some(called)] if method == "call" => Some(format!("{model}/{called}")),
                _ => None,
            };
            let is_number = |id: &String| id.len() <= 19 && id.bytes().all(|byte| byte.is_ascii_digit());
            return Some(Call::JsonRpc {
                method: method_name(called.as_ref().unwrap_or(method))?,
                version: self.version.filter(|version| version == VERSION),
                id: self.id.filter(is_number),
                error: None,
            });
        }
        let query = self.query.as_deref().and_then(|query| operation(query, self.operation.as_deref()));
        if self.query.is_some() && query.is_none() {
            return None;
        }
        let name = query.as_ref().and_then(|(_, name)| name.clone()).or(self.operation);
        let kind = query.map(|(kind, _)| kind);
        if kind.is_none() && name.is_none() {
            return None;
        }
        Some(Call::GraphQl { kind, name: name.and_then(|name| graphql_name(&name)), shown: false })
    }
}

/// A GraphQL document that stands alone (`application/graphql`, or the parameter `query`).
pub(super) fn graphql(document: &str, wanted: Option<&str>) -> Option<Call> {
    let (kind, name) = operation(document, wanted)?;
    let name = name.or_else(|| wanted.map(str::to_owned));
    Some(Call::GraphQl { kind: Some(kind), name: name.and_then(|name| graphql_name(&name)), shown: false })
}

/// The SOAP action as headers have it, or what the body asks for.
pub(super) fn soap(action: Option<&str>, element: Option<&str>) -> Option<Call> {
    // `http://example.org/orders/Confirm`, `urn:orders#Confirm`, `"Confirm"`
    let action = action.map(|action| action.trim().trim_matches('"'));
    let action = action.and_then(|action| action.rsplit(['/', '#', ':']).next()).and_then(method_name);
    Some(Call::Soap { method: action.or_else(|| element.and_then(method_name))?, failed: false })
}

/// A code of an error as programs number them: it leaves as it is.
pub(super) fn is_error_code(code: &str) -> bool {
    let digits = code.strip_prefix('-').unwrap_or(code);
    (1..=MAX_CODE_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name that a program gives, not a value that it passes.
pub(super) fn method_name(name: &str) -> Option<String> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '/' | '$');
    let digits = name.split(|c: char| !c.is_ascii_digit()).map(str::len);
    let fits = (1..=MAX_METHOD).contains(&name.len())
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(is_part)
        && digits.max().is_none_or(|run| run <= MAX_DIGITS)
        && !is_random(name)
        && !privacy::is_telling(name);
    fits.then(|| name.to_owned())
}

/// A part of it is a long hexadecimal number: `a1b2c3d4e5f6`.
fn is_random(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| {
        let has_digits = part.bytes().filter(u8::is_ascii_digit).count() >= 2;
        part.len() >= 12 && has_digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// "Name ::= NameStart NameContinue*" of letters, digits and `_` (section 2.1.9).
fn graphql_name(name: &str) -> Option<String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    method_name(name).filter(|_| plain)
}

/// Type and name of a document's operation, from its beginning: fragments may stand before it.
fn operation(document: &str, wanted: Option<&str>) -> Option<(&'static str, Option<String>)> {
    let mut rest = document;
    let mut first = None;
    let mut depth = 0usize;
    let mut is_beginning = true;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '\u{feff}'));
        let Some(c) = rest.chars().next() else { return first };
        match c {
            '#' => rest = rest.split_once(['\n', '\r']).map_or("", |(_, after)| after),
            '"' => rest = string_end(rest),
            '{' if is_beginning => return Some(("query", None)),
            '{' | '(' | '[' => {
                is_beginning = false;
                depth += 1;
                rest = rest.get(1..).unwrap_or("");
            }
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                rest = rest.get(1..).unwrap_or("");
            }
            _ => {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(c.len_utf8());
                let (word, after) = rest.split_at_checked(len)?;
                rest = after;
                let starts = std::mem::replace(&mut is_beginning, false);
                if depth > 0 {
                    continue;
                }
                let kind = match word {
                    "query" => "query",
                    "mutation" => "mutation",
                    "subscription" => "subscription",
                    // What is no GraphQL begins with something else: a search for `shoes` is no query.
                    _ if starts && word != "fragment" => return None,
                    _ => continue,
                };
                let after = rest.trim_start();
                let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
                let name = after.get(..end).filter(|name| !name.is_empty()).map(str::to_owned);
                // `query` in a search box is followed by something else.
                let follows = after.get(end..).unwrap_or("").trim_start();
                if !follows.starts_with(['{', '(', '@']) && !follows.is_empty() {
                    return first;
                }
                rest = after.get(end..).unwrap_or("");
                if wanted.is_none() || wanted == name.as_deref() {
                    return Some((kind, name));
                }
                first = first.or(Some((kind, name)));
            }
        }
    }
}

/// Behind a string, of one line or of several (section 2.9.4).
fn string_end(text: &str) -> &str {
    if let Some(block) = text.strip_prefix("\"\"\"") {
        return block.split_once("\"\"\"").map_or("", |(_, after)| after);
    }
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.and_then(|(at, _)| text.get(at + 1..)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_in_documents() {
        let check = |document: &str, wanted: Option<&str>, expected: Option<(&'static str, Option<&str>)>| {
            let expected = expected.map(|(kind, name)| (kind, name.map(str::to_owned)));
            assert_eq!(operation(document, wanted), expected, "{document}");
        };
        check("{ orders { id } }", None, Some(("query", None)));
        check("query { orders { id } }", None, Some(("query", None)));
        check("# one\n{ a }", None, Some(("query", None)));
        check(
            "# one\nmutation Confirm($id: ID!) { confirm(id: $id) { id } }",
            None,
            Some(("mutation", Some("Confirm"))),
        );
        check("query A{a} mutation B{b}", Some("B"), Some(("mutation", Some("B"))));
        check("query A{a} mutation B{b}", Some("C"), Some(("query", Some("A"))));
        check(
            "fragment F on Order { id } subscription S @live { o { ...F } }",
            None,
            Some(("subscription", Some("S"))),
        );
        check("query A($x: String = \"}) mutation B\") { a }", Some("A"), Some(("query", Some("A"))));
        check("mutation Confirm($id: ID", None, Some(("mutation", Some("Confirm"))));
        for other in ["shoes", "query shoes for men", "order 17", "", "select 1", "\"", "#", "fragment"] {
            check(other, None, None);
        }
    }

    #[test]
    fn names_of_methods_are_names() {
        for name in [
            "confirm",
            "model.sale.sale.confirm",
            "sale.order/action_confirm",
            "системa.Метод",
            "v2.get",
            "_x",
        ] {
            assert_eq!(method_name(name).as_deref(), Some(name));
        }
        for value in [
            "",
            "17",
            "order-12345",
            "a b",
            "jane@example.org",
            "get(17)",
            "f81d4fae7dec11d0a76500a0c91e6bf6",
            &"x".repeat(129),
        ] {
            assert_eq!(method_name(value), None, "{value}");
        }
    }

    #[test]
    fn codes_of_errors_number_nothing_else() {
        for (code, is_code) in [
            ("-32601", true),
            ("4", true),
            ("999999", true),
            ("-999999", true),
            ("9161230003", false),
            ("89161230003", false),
            ("1234567", false),
            ("+5", false),
            ("-", false),
            ("", false),
            ("4.0", false),
            ("E4", false),
        ] {
            assert_eq!(is_error_code(code), is_code, "{code}");
        }
    }

    #[test]
    fn soap_actions_are_the_last_part_of_what_they_say() {
        let method = |action, element| match soap(action, element) {
            Some(Call::Soap { method, .. }) => Some(method),
            _ => None,
        };
        assert_eq!(method(Some("\"http://shop.example/orders/Confirm\""), None).as_deref(), Some("Confirm"));
        assert_eq!(method(Some("urn:shop#Confirm"), Some("X")).as_deref(), Some("Confirm"));
        assert_eq!(method(Some("\"\""), Some("Confirm")).as_deref(), Some("Confirm"));
        assert_eq!(method(Some("http://shop.example/17"), None), None);
        assert_eq!(method(None, None), None);
    }
}
