//! An XML body, possibly cut off → its values with their paths.
//!
//! ```text
//!   <order id="17"><status>paid</status></order>                          ─▶ order.id = 17, order.status = paid
//!   <s:Envelope><s:Body><Confirm><order_id>17</order_id></Confirm>…       ─▶ Confirm.order_id = 17
//! ```
//!
//! *Owns* a bounded, tolerant scan without a tree. *Must not know* which names matter.
//! *Spec*: XML 1.0 (fifth edition), Namespaces in XML 1.0; SOAP 1.1, section 4, and 1.2, part 1, section 5.
//!
//! Names are taken without their prefix. A document type is skipped, and no entity but the five that XML has is known: nothing
//! expands, and a text or an attribute with another entity in it is not told at all: without it the number would be another's.
//!
//! A document that is not well-formed is read up to the byte where that shows, as if it had been cut off there. Of a document that
//! is cut off only values in elements that are still open count: an element that was closed may be one of a list, and so may one
//! that follows another of its name. (Some systems' XML never is well-formed, and its head names the order all the same; but a
//! list whose second half cannot be read is no single order.)

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::document::{At, Visitor};

/// Deeper nesting ends the scan.
const MAX_DEPTH: usize = 64;
/// Longer texts are passed over: no key or attribute is that long.
const MAX_VALUE: usize = 1024;
/// Longest reference: `&#x10FFFF;`.
const MAX_REFERENCE: usize = 12;

/// What a document consists of, in order. Names have no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Open(&'a str),
    Attribute(&'a str, Cow<'a, str>),
    Text(Cow<'a, str>),
    /// A text that is too long, or has a reference that nothing is known of: all the text around it is not whole without it.
    Unreadable,
    Close,
}

impl<'a> Token<'a> {
    /// A text, from what stands there.
    fn text(text: Option<Cow<'a, str>>) -> Self {
        text.map_or(Token::Unreadable, Token::Text)
    }
}

/// Splits a document into tokens. Each byte is looked at a bounded number of times.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a str,
    /// Names of the open elements, with their prefixes.
    open: Vec<&'a str>,
    /// Inside the tag of the innermost one.
    in_tag: bool,
    /// The innermost one has no content: `<a/>`.
    closes: bool,
    has_root: bool,
    /// The root is closed, and nothing but blanks, comments and instructions follows it.
    is_over: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest, open: Vec::new(), in_tag: false, closes: false, has_root: false, is_over: false }
    }

    fn skip(&mut self, len: usize) -> Option<&'a str> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    /// Past `end`; what stood before it.
    fn through(&mut self, end: &str) -> Option<&'a str> {
        let at = memchr::memmem::find(self.rest.as_bytes(), end.as_bytes())?;
        let head = self.skip(at)?;
        self.skip(end.len())?;
        Some(head)
    }

    /// The rest of a tag: an attribute, or its end.
    fn tag(&mut self) -> Option<Option<Token<'a>>> {
        self.rest = self.rest.trim_ascii_start();
        if let Some(rest) = self.rest.strip_prefix('>') {
            (self.rest, self.in_tag) = (rest, false);
            return Some(None);
        }
        if let Some(rest) = self.rest.strip_prefix("/>") {
            (self.rest, self.in_tag, self.closes) = (rest, false, true);
            return Some(None);
        }
        let name = self.name()?;
        self.rest = self.rest.trim_ascii_start().strip_prefix('=')?.trim_ascii_start();
        let quote = self.rest.bytes().next().filter(|byte| matches!(byte, b'"' | b'\''))?;
        self.skip(1)?;
        let value = self.skip(memchr(quote, self.rest.as_bytes())?)?;
        self.skip(1)?;
        // Declarations of namespaces are no content.
        if name == "xmlns" || name.starts_with("xmlns:") || value.len() > MAX_VALUE {
            return Some(None);
        }
        Some(unescape(value).map(|value| Token::Attribute(local(name), value)))
    }

    fn name(&mut self) -> Option<&'a str> {
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=' | '<' | '"' | '\'');
        let len = self.rest.find(ends)?;
        self.skip(len).filter(|name| !name.is_empty())
    }

    /// Past a document type with what it declares (XML 1.0, section 2.8). Quotes hide brackets.
    fn document_type(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            let at = self.rest.find(['[', ']', '>', '"', '\'', '<'])?;
            match self.rest.as_bytes().get(at)? {
                quote @ (b'"' | b'\'') => {
                    let from = self.rest.as_bytes().get(at + 1..)?;
                    let len = memchr(*quote, from)?;
                    self.skip(at + len + 2)?;
                    continue;
                }
                b'<' if self.rest.get(at..)?.starts_with("<!--") => {
                    self.skip(at + 4)?;
                    self.through("-->")?;
                    continue;
                }
                b'[' => depth += 1,
                b']' => depth = depth.saturating_sub(1),
                b'>' if depth == 0 => {
                    self.skip(at + 1)?;
                    return Some(());
                }
                _ => {}
            }
            self.skip(at + 1)?;
        }
    }

    fn step(&mut self) -> Option<Option<Token<'a>>> {
        if self.closes {
            self.closes = false;
            self.open.pop();
            return Some(Some(Token::Close));
        }
        if self.in_tag {
            return self.tag();
        }
        if self.open.is_empty() {
            self.rest = self.rest.trim_ascii_start();
            self.is_over = self.has_root && self.rest.is_empty();
            let is_content = !self.rest.starts_with("<!--") && !self.rest.starts_with("<?");
            if self.has_root && is_content {
                return None;
            }
        }
        if !self.rest.starts_with('<') {
            // Outside of all elements there is no text.
            if self.open.is_empty() {
                return None;
            }
            let text = self.skip(memchr(b'<', self.rest.as_bytes())?)?;
            return Some(Some(Token::text(short(text).and_then(unescape))));
        }
        if self.rest.starts_with("<!--") {
            self.skip(4)?;
            self.through("-->")?;
        } else if self.rest.starts_with("<![CDATA[") && !self.open.is_empty() {
            self.skip(9)?;
            let text = self.through("]]>")?;
            return Some(Some(Token::text(short(text).map(Cow::Borrowed))));
        } else if self.rest.starts_with("<?") {
            self.through("?>")?;
        } else if self.rest.starts_with("<!DOCTYPE") && !self.has_root {
            self.skip(9)?;
            self.document_type()?;
        } else if let Some(rest) = self.rest.strip_prefix("</") {
            self.rest = rest;
            let name = self.name()?;
            self.rest = self.rest.trim_ascii_start().strip_prefix('>')?;
            // "The Name in an element's end-tag MUST match the element type in the start-tag" (section 3).
            return (self.open.pop() == Some(name)).then_some(Some(Token::Close));
        } else {
            self.skip(1)?;
            let name = self.name()?;
            let begins = |c: char| c.is_alphabetic() || matches!(c, '_' | ':');
            if self.open.len() == MAX_DEPTH || !name.starts_with(begins) {
                return None;
            }
            self.open.push(name);
            (self.in_tag, self.has_root) = (true, true);
            return Some(Some(Token::Open(local(name))));
        }
        Some(None)
    }
}

/// Ends where the document does, is cut off, or is not well-formed.
impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match self.step() {
                Some(Some(token)) => return Some(token),
                Some(None) => {}
                None => {
                    self.rest = "";
                    return None;
                }
            }
        }
    }
}

fn short(text: &str) -> Option<&str> {
    (text.len() <= MAX_VALUE).then_some(text)
}

/// An element's text so far with more of it: `None` once a part of it cannot be told, or when it is too long.
pub(super) fn joined<'a>(text: Option<Cow<'a, str>>, more: Token<'a>) -> Option<Cow<'a, str>> {
    let Token::Text(more) = more else { return None };
    let text = text.filter(|text| text.len() + more.len() <= MAX_VALUE)?;
    Some(if text.is_empty() { more } else { Cow::Owned(text.into_owned() + &more) })
}

/// A name without its prefix (Namespaces in XML, section 4).
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// References of characters, and the five entities that are always there (section 4.6). `None`: another one.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if memchr(b'&', text.as_bytes()).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let end = memchr2(b';', b'&', after.as_bytes()).filter(|end| *end <= MAX_REFERENCE)?;
        let (reference, following) = after.split_at_checked(end)?;
        rest = following.strip_prefix(';')?;
        out.push(match reference {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = reference.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// What a scan learns of a document beside its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// The first element of a SOAP body: what is asked for, or `Fault`.
    pub(super) soap: Option<String>,
}

struct Frame<'a> {
    /// In the order of their beginnings; the root is 0.
    serial: u32,
    has_children: bool,
    /// Its text so far, unless it is too long or holds what is not known.
    text: Option<Cow<'a, str>>,
}

/// Shows every attribute, and the text of every element without others in it. `whole`: nothing follows `text`.
pub(super) fn scan(text: &str, whole: bool, visitor: &mut dyn Visitor) -> Learned {
    // Of a document that is cut off, or might as well be: the elements that are open at its end.
    let open = open_at_end(text, whole);
    let counts = |element: Option<u32>| {
        open.as_ref().is_none_or(|open| element.is_some_and(|element| open.contains(&element)))
    };
    let mut learned = Learned::default();
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut path: Vec<At<'_>> = Vec::new();
    let mut serial = 0u32;
    let mut is_soap = false;
    for token in Tokens::new(text) {
        let base = if is_soap { 2 } else { 0 };
        match token {
            Token::Open(name) => {
                is_soap |= frames.is_empty() && name == "Envelope";
                if is_soap && path.len() == 2 && learned.soap.is_none() && is_named(&path, 1, b"Body") {
                    learned.soap = Some(name.to_owned());
                }
                if let Some(parent) = frames.last_mut() {
                    parent.has_children = true;
                }
                path.push(At::Name(Cow::Borrowed(name.as_bytes())));
                if path.len() > base {
                    visitor.container(path.get(base..).unwrap_or_default(), false);
                }
                frames.push(Frame { serial, has_children: false, text: Some(Cow::Borrowed("")) });
                serial = serial.saturating_add(1);
            }
            Token::Attribute(name, value) => {
                let own = frames.last().map(|frame| frame.serial);
                if path.len() > base && counts(own) && !value.is_empty() {
                    path.push(At::Name(Cow::Borrowed(name.as_bytes())));
                    visitor.scalar(path.get(base..).unwrap_or_default(), &value, false);
                    path.pop();
                }
            }
            more @ (Token::Text(_) | Token::Unreadable) => {
                let Some(frame) = frames.last_mut() else { continue };
                frame.text = joined(frame.text.take(), more);
            }
            Token::Close => {
                let Some(frame) = frames.pop() else { continue };
                let parent = frames.last().map(|frame| frame.serial);
                let value = frame.text.as_deref().map_or("", str::trim);
                if !frame.has_children && !value.is_empty() && path.len() > base && counts(parent) {
                    visitor.scalar(path.get(base..).unwrap_or_default(), value, false);
                }
                path.pop();
            }
        }
    }
    learned
}

fn is_named(path: &[At<'_>], at: usize, wanted: &[u8]) -> bool {
    matches!(path.get(at), Some(At::Name(name)) if **name == *wanted)
}

/// The elements that are open at the end, down to the first that follows one of its own name: that is one of a list. `None`: the
/// document is complete, as it is only where `whole`.
fn open_at_end(text: &str, whole: bool) -> Option<Vec<u32>> {
    // Serial number, name of the latest child, whether it is one of a list.
    let mut open: Vec<(u32, &str, bool)> = Vec::new();
    let mut serial = 0u32;
    let mut tokens = Tokens::new(text);
    for token in tokens.by_ref() {
        match token {
            Token::Open(name) => {
                let latest = open.last_mut().map(|(_, latest, _)| std::mem::replace(latest, name));
                open.push((serial, "", latest == Some(name)));
                serial = serial.saturating_add(1);
            }
            Token::Close => {
                open.pop();
            }
            _ => {}
        }
    }
    if whole && tokens.is_over {
        return None;
    }
    Some(open.iter().take_while(|(_, _, listed)| !listed).map(|(serial, ..)| *serial).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Visitor for Log {
        fn scalar(&mut self, path: &[At<'_>], value: &str, _in_array: bool) {
            let steps = path.iter().map(|at| match at {
                At::Name(name) => String::from_utf8_lossy(name).into_owned(),
                At::Index(index) => index.to_string(),
            });
            self.0.push(format!("{}={value}", steps.collect::<Vec<_>>().join(".")));
        }
        fn array(&mut self) {}
    }

    fn shown(text: &str, whole: bool) -> (Vec<String>, Option<String>) {
        let mut log = Log::default();
        let learned = scan(text, whole, &mut log);
        (log.0, learned.soap)
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(shown(text, true).0, expected, "{text}");
    }

    #[test]
    fn elements_and_attributes_are_values() {
        check(
            "<?xml version=\"1.0\"?>\n<o:order xmlns:o='urn:o' id=\"17\" o:kind='a&amp;b'><!-- <id>9</id> --><o:status> paid </o:status><e/><n></n></o:order>\n",
            &["order.id=17", "order.kind=a&b", "order.status=paid"],
        );
        check("<a><b>1</b><b>2</b><c>x<d>3</d>y</c></a>", &["a.b=1", "a.b=2", "a.c.d=3"]);
        check("<a><![CDATA[17]]></a>", &["a=17"]);
        check("<a>1<![CDATA[7]]><!-- --></a>", &["a=17"]);
        check("<a>&#x41;&#49;&lt;</a>", &["a=A1<"]);
        check(
            "<заказ номер=\"А-17\"><статус>Оплачен</статус></заказ>",
            &["заказ.номер=А-17", "заказ.статус=Оплачен"],
        );
        check("\u{feff}<a b = '1' />", &["a.b=1"]);
    }

    #[test]
    fn soap_begins_behind_its_envelope() {
        let call = "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/' s:encodingStyle='x'>\
                    <s:Header><a:id>1</a:id></s:Header><s:Body u='1'><m:Confirm k='2'><order_id>17</order_id></m:Confirm></s:Body></s:Envelope>";
        let (values, soap) = shown(call, true);
        assert_eq!(values, ["id=1", "Confirm.k=2", "Confirm.order_id=17"]);
        assert_eq!(soap.as_deref(), Some("Confirm"));
        assert_eq!(shown("<Envelope><Body/></Envelope>", true), (vec![], None));
        assert_eq!(shown("<a><Body><b>1</b></Body></a>", true).1, None);
    }

    #[test]
    fn nothing_expands_and_document_types_are_skipped() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"]>\"><!ENTITY y \"&x;&x;\"> <!-- ]> --> ]><a><b>&y;</b><c>&x;1</c><d>2</d></a>";
        check(bomb, &["a.d=2"]);
        check("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a>1</a>", &["a=1"]);
        check("<!DOCTYPE a [", &[]);
    }

    #[test]
    fn a_text_that_is_not_known_whole_is_none() {
        check("<a><id>17<!-- -->&x;</id><n>2</n></a>", &["a.n=2"]);
        check("<a><id>&x;<![CDATA[17]]></id></a>", &[]);
        check("<a><id><![CDATA[1]]>&x;7</id></a>", &[]);
        check("<a id='17&x;' n='2'/>", &["a.n=2"]);
        check(&format!("<a><id>17<!-- -->{}</id></a>", "x".repeat(2000)), &[]);
        check(&format!("<a><id>{}<?p?>17</id></a>", "x".repeat(2000)), &[]);
    }

    #[test]
    fn what_is_not_well_formed_is_read_as_if_cut_off_there() {
        check("<a><b>1</b><c>2</b><d>3</d></a>", &["a.b=1"]);
        check("<orders><order><id>17</id></order><order><id>18</order></orders>", &[]);
        check("<orders><order id='17'/><x></orders><order id='18'/></orders>", &[]);
        check("<order id='17'><note>a & b</note><x></order>", &["order.id=17"]);
        check("<a><b c=1>2</b></a>", &[]);
        check("<a>1</a><b>2</b>", &[]);
        check("<a>1</a> <!-- x --><?p?>\n", &["a=1"]);
        check("<a>1</a>x", &[]);
        check("text", &[]);
        check("<a>1", &[]);
        check("< a>1</a>", &[]);
        check("<html><br><p>17</p></html>", &["html.br.p=17"]);
        check(&"<a>".repeat(100_000), &[]);
        check(&format!("<a><b>{}</b><c>1</c></a>", "x".repeat(2000)), &["a.c=1"]);
    }

    #[test]
    fn of_a_cut_document_only_open_elements_count() {
        let check = |text: &str, expected: &[&str]| assert_eq!(shown(text, false).0, expected, "{text}");
        check("<order><id>17</id><file>AAAA", &["order.id=17"]);
        check("<orders><order><id>17</id></order><order", &[]);
        check("<orders><order><id>17</id></order><order><id>18</id>", &[]);
        check("<orders><order id='17'/>", &[]);
        check("<orders><order id='17'/><order id='18'>", &[]);
        check("<order id='17'><lines><line/><line>", &["order.id=17"]);
        check("<order><id>17", &[]);
        check("<order><id>17</id", &[]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[<>/a-c'\"=&;#x! \\[\\]?-]{0,80}", whole: bool) {
            scan(&text, whole, &mut Log::default());
        }

        #[test]
        fn no_prefix_tells_what_the_whole_does_not(cut in 0usize..200) {
            let whole = "<?xml version='1.0'?><!DOCTYPE a [<!ELEMENT b ANY>]><a x='171'><b>172</b><c><d>&#49;73</d><![CDATA[x]]></c><e>174</e></a>";
            let cut = whole.get(..cut.min(whole.len())).unwrap_or(whole);
            let all = shown(whole, true).0;
            for value in shown(cut, false).0 {
                prop_assert!(all.contains(&value), "{} gave {}", cut, value);
            }
        }
    }
}
