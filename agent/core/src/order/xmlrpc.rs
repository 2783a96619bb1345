//! An XML-RPC message → its parameters, as JSON-RPC would have them, and the method.
//!
//! ```text
//!   <methodCall><methodName>model.sale.confirm</methodName><params><param><value><array><data><value><int>17</int> …
//!     ─▶ params[0][0] = 17
//! ```
//!
//! *Owns* what XML-RPC's elements mean. *Must not know* XML, rules.
//! *Spec*: XML-RPC (1999, with its errata): `methodCall`, `methodResponse`, `struct`, `array`, `fault`.

use std::borrow::Cow;

use super::document::{At, Visitor};
use super::xml::{Token, Tokens, joined};

/// What a message is beside its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) method: Option<String>,
    /// `faultCode` of an answer.
    pub(super) fault: Option<String>,
}

struct Frame<'a> {
    name: &'a str,
    /// Steps of the path that end with it.
    steps: usize,
    /// The place of the next value in it.
    next: u32,
    has_children: bool,
    text: Option<Cow<'a, str>>,
}

/// Whether the document is one.
pub(super) fn is_message(text: &str) -> bool {
    matches!(Tokens::new(text).next(), Some(Token::Open("methodCall" | "methodResponse")))
}

/// Shows the parameters of a call or answer.
pub(super) fn scan(text: &str, visitor: &mut dyn Visitor) -> Learned {
    let mut learned = Learned::default();
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut path: Vec<At<'_>> = Vec::new();
    let mut arrays = 0usize;
    for token in Tokens::new(text) {
        match token {
            Token::Open(name) => {
                let before = path.len();
                if let Some(parent) = frames.last_mut() {
                    parent.has_children = true;
                    match (parent.name, name) {
                        (_, "params" | "fault") => path.push(At::Name(Cow::Borrowed(name.as_bytes()))),
                        ("params", "param") | ("data", "value") => {
                            path.push(At::Index(parent.next));
                            parent.next = parent.next.saturating_add(1);
                        }
                        _ => {}
                    }
                }
                arrays += usize::from(matches!(name, "params" | "array"));
                let steps = path.len() - before;
                frames.push(Frame {
                    name,
                    steps,
                    next: 0,
                    has_children: false,
                    text: Some(Cow::Borrowed("")),
                });
            }
            Token::Attribute(..) => {}
            more @ (Token::Text(_) | Token::Unreadable) => {
                if let Some(frame) = frames.last_mut() {
                    frame.text = joined(frame.text.take(), more);
                }
            }
            Token::Close => {
                let Some(frame) = frames.pop() else { continue };
                let text = frame.text.unwrap_or_default();
                let parent = frames.last().map_or("", |frame| frame.name);
                match (parent, frame.name) {
                    ("methodCall", "methodName") => learned.method = Some(text.trim().to_owned()),
                    ("member", "name") => {
                        // A member has one name; of several the last. The path grows no deeper than elements do.
                        if let Some(member) = frames.last_mut() {
                            path.truncate(path.len().saturating_sub(member.steps));
                            member.steps = 1;
                        }
                        path.push(At::Name(Cow::Owned(text.trim().as_bytes().to_vec())));
                    }
                    // What it has is of one type, text if it says none.
                    ("value", "int" | "i4" | "i8" | "string" | "double" | "boolean" | "dateTime.iso8601") => {
                        value(&path, &text, arrays > 0, &mut learned, visitor);
                    }
                    (_, "value") if !frame.has_children => {
                        value(&path, &text, arrays > 0, &mut learned, visitor);
                    }
                    (_, "params" | "array") => {
                        arrays = arrays.saturating_sub(1);
                        if arrays == 0 {
                            visitor.array();
                        }
                    }
                    _ => {}
                }
                path.truncate(path.len().saturating_sub(frame.steps));
            }
        }
    }
    learned
}

fn value(path: &[At<'_>], text: &str, in_array: bool, learned: &mut Learned, visitor: &mut dyn Visitor) {
    let text = text.trim();
    if let [At::Name(fault), At::Name(code)] = path
        && **fault == *b"fault"
        && **code == *b"faultCode"
    {
        learned.fault = Some(text.to_owned());
    }
    if !text.is_empty() && !path.is_empty() {
        visitor.scalar(path, text, in_array);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Visitor for Log {
        fn scalar(&mut self, path: &[At<'_>], value: &str, in_array: bool) {
            let steps = path.iter().map(|at| match at {
                At::Name(name) => format!(".{}", String::from_utf8_lossy(name)),
                At::Index(index) => format!("[{index}]"),
            });
            self.0.push(format!(
                "{}={value}{}",
                steps.collect::<String>(),
                if in_array { "" } else { " alone" }
            ));
        }
        fn array(&mut self) {
            self.0.push("]".to_owned());
        }
    }

    const CALL: &str = "<?xml version='1.0'?><methodCall><methodName>model.sale.sale.confirm</methodName><params>\
        <param><value><array><data><value><int>17</int></value><value><i4>18</i4></value></data></array></value></param>\
        <param><value><struct><member><name>order_id</name><value>19</value></member>\
        <member><name>note</name><value><string>a &amp; b</string></value></member></struct></value></param>\
        <param><value><nil/></value></param></params></methodCall>";

    #[test]
    fn parameters_have_the_paths_of_json_rpc() {
        let mut log = Log::default();
        let learned = scan(CALL, &mut log);
        assert_eq!(learned.method.as_deref(), Some("model.sale.sale.confirm"));
        assert_eq!(
            log.0,
            [".params[0][0]=17", ".params[0][1]=18", ".params[1].order_id=19", ".params[1].note=a & b", "]"]
        );
        assert!(is_message(CALL) && !is_message("<order/>") && !is_message("methodCall"));
    }

    #[test]
    fn answers_have_values_or_a_fault() {
        let mut log = Log::default();
        scan(
            "<methodResponse><params><param><value><int>17</int></value></param></params></methodResponse>",
            &mut log,
        );
        assert_eq!(log.0, [".params[0]=17", "]"]);
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>4</int></value></member>\
                     <member><name>faultString</name><value>no</value></member></struct></value></fault></methodResponse>";
        assert_eq!(scan(fault, &mut Log::default()).fault.as_deref(), Some("4"));
    }

    #[test]
    fn a_member_with_many_names_has_the_last() {
        struct Depth(usize, usize);
        impl Visitor for Depth {
            fn scalar(&mut self, path: &[At<'_>], _value: &str, _in_array: bool) {
                *self = Depth(self.0.max(path.len()), self.1 + 1);
            }
            fn array(&mut self) {}
        }
        let pairs = "<name>id</name><value>1</value>".repeat(10_000);
        let mut depth = Depth(0, 0);
        scan(
            &format!(
                "<methodCall><params><param><value><struct><member>{pairs}</member></struct></value></param></params></methodCall>"
            ),
            &mut depth,
        );
        assert_eq!((depth.0, depth.1), (3, 10_000));
    }

    #[test]
    fn a_value_that_is_not_known_whole_is_none() {
        let mut log = Log::default();
        scan(
            "<methodCall><params><param><value><int>17<!-- -->&x;</int></value></param><param><value>1&y;</value></param></params></methodCall>",
            &mut log,
        );
        assert_eq!(log.0, ["]"]);
    }

    proptest! {
        #[test]
        fn no_prefix_tells_more_than_the_whole(cut in 0usize..CALL.len()) {
            let (mut whole, mut part) = (Log::default(), Log::default());
            scan(CALL, &mut whole);
            scan(CALL.get(..cut).unwrap_or(CALL), &mut part);
            prop_assert!(whole.0.starts_with(&part.0));
        }

        #[test]
        fn no_order_of_elements_panics(names in proptest::collection::vec(
            proptest::sample::select(&["<methodCall>", "<params>", "<param>", "<value>", "<array>", "<data>", "<member>", "<name>", "x",
                "</name>", "</member>", "</data>", "</array>", "</value>", "</param>", "</params>", "</methodCall>", "<int/>", "<fault>"]), 0..40)) {
            scan(&names.concat(), &mut Log::default());
        }
    }
}
