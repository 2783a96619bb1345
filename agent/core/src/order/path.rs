//! Path templates: `/orders/{order_id}`, `/**/orders/{order_id}/**`.
//!
//! A template and the path of a request in, the captured segments out. *Must not know* rules, types, spans.
//! *Spec*: RFC 3986, sections 2.1 (escapes), 3.3 (segments and their parameters); OData 4.01, part 2, section 4.3.1 (keys).
//!
//! `{name}` and `*` stand for one segment, `(a|b)` for one of those listed, `**` for any number of segments, none included.
//! A path is compared as what it means, not as it is written:
//!
//! | written | read |
//! |---|---|
//! | `/%D0%B7aказ/1` | percent-decoded |
//! | `/Orders/1`, `/ЗАКАЗЫ/1` | without letter case, unless the configuration says otherwise |
//! | `/orders/1;jsessionid=x` | without parameters |
//! | `//orders//1/` | without empty segments |
//! | `/orders/1.json` | without the ending of a format, at the end |
//! | `/Orders(1)`, `/Orders(OrderID='1')` | two segments |
//!
//! The year of a date (`/orders/2025/12`, `/orders/2025/q1`) is never captured, nor the month before a year (`/orders/12/2025`).

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::names::{folded, is_folded};
use crate::percent;

/// Segments of a path that are looked at; longer paths match nothing.
const MAX_SEGMENTS: usize = 32;

/// Endings of paths that name a format (Rails, Django REST framework, JAX-RS), not a thing.
const FORMATS: [&str; 16] = [
    "json", "xml", "html", "htm", "csv", "pdf", "txt", "yaml", "yml", "xls", "xlsx", "rss", "atom", "js",
    "jsonld", "hal",
];

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    segments: Vec<Segment>,
    /// Letter case tells segments apart.
    exact: bool,
    needs: Needs,
}

/// What a path must have for a template to fit, told by a few numbers: nearly every template fits nearly no path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Needs {
    /// The [marks](mark) of all literals.
    all: u64,
    /// For each list of alternatives their marks, one of which must be there.
    any: Vec<u64>,
    /// Segments at least, and at most.
    count: RangeInclusive<usize>,
}

impl Needs {
    fn of(segments: &[Segment]) -> Self {
        let mut needs = Self { all: 0, any: Vec::new(), count: 0..=0 };
        let least = segments.iter().filter(|segment| **segment != Segment::Any).count();
        let most = if least == segments.len() { least } else { MAX_SEGMENTS };
        needs.count = least..=most;
        for segment in segments {
            match segment {
                Segment::Literal(word) => needs.all |= word.mark,
                Segment::OneOf(words) => needs.any.push(words.iter().fold(0, |any, word| any | word.mark)),
                Segment::Capture | Segment::One | Segment::Any => {}
            }
        }
        needs
    }

    fn are_met(&self, path: &Path<'_>) -> bool {
        self.count.contains(&path.segments.len())
            && self.all & !path.marks == 0
            && self.any.iter().all(|any| any & path.marks != 0)
    }
}

/// One of 64 bits for a text, the same in all its letter cases: texts with other bits are not the same.
fn mark(text: &str) -> u64 {
    let of = |hash: u32, byte: u8| (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
    let hash = match text.is_ascii() {
        true => text.bytes().fold(0, of),
        false => folded(text).bytes().fold(0, of),
    };
    1 << ((hash >> 16) % 64)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Word),
    OneOf(Vec<Word>),
    Capture,
    One,
    Any,
}

/// A segment as configured, and without letter case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    folded: String,
    mark: u64,
}

impl Word {
    /// As it reads: a template may be written with its escapes.
    fn new(text: &str) -> Self {
        let text = percent::decode(text, false).map_or_else(|| text.to_owned(), Cow::into_owned);
        let folded = folded(&text);
        Self { mark: mark(&folded), folded, text }
    }

    fn is(&self, segment: &Part<'_>, exact: bool) -> bool {
        let same = |text: &str| if exact { text == self.text } else { is_folded(text, &self.folded) };
        segment.marks & self.mark != 0 && (same(&segment.text) || segment.stem().is_some_and(same))
    }
}

/// How many placeholders a template must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholders {
    /// Exactly one: the value.
    One,
    /// Any number: they are only names.
    Any,
    /// None.
    Zero,
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str, placeholders: Placeholders) -> Result<Self, String> {
        let Some(body) = text.strip_prefix('/') else {
            return Err(format!("`{text}` does not begin with `/`"));
        };
        // A slash at the end makes no difference in a path, and many frameworks write it in their routes.
        let body = body.strip_suffix('/').unwrap_or(body);
        let mut segments = Vec::new();
        for segment in body.split('/') {
            segments.push(match segment {
                "*" => Segment::One,
                "**" => Segment::Any,
                _ if segment.starts_with('{') && segment.ends_with('}') && segment.len() > 2 => {
                    Segment::Capture
                }
                _ if segment.starts_with('(') && segment.ends_with(')') => {
                    let names: Vec<&str> = segment.trim_matches(['(', ')']).split('|').collect();
                    if names.iter().any(|name| name.is_empty() || name.contains(['(', ')', '{', '}', '*'])) {
                        return Err(format!(
                            "`{segment}` in `{text}`: alternatives are written `(confirm|cancel)`"
                        ));
                    }
                    Segment::OneOf(names.into_iter().map(Word::new).collect())
                }
                _ if segment.contains(['{', '}', '(', ')', '*', '?', '#']) => {
                    return Err(format!("`{segment}` in `{text}`: a placeholder is a whole segment"));
                }
                "" if body.is_empty() => continue,
                "" => return Err(format!("`{text}` has an empty segment")),
                _ => Segment::Literal(Word::new(segment)),
            });
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("`{text}` has more than {MAX_SEGMENTS} segments"));
        }
        if segments.iter().filter(|s| **s == Segment::Any).count() > 2 {
            return Err(format!("`{text}` has more than two `**`"));
        }
        let captures = segments.iter().filter(|s| **s == Segment::Capture).count();
        match placeholders {
            Placeholders::One if captures != 1 => Err(format!(
                "`{text}` has {captures} placeholders; exactly one says where the value is, `*` stands for others"
            )),
            Placeholders::Zero if captures != 0 => {
                Err(format!("`{text}` has a placeholder where none is read; write `*`"))
            }
            _ => Ok(Self { text: text.into(), needs: Needs::of(&segments), segments, exact: false }),
        }
    }

    /// The same, with letter case that tells segments apart.
    pub fn exact(self, exact: bool) -> Self {
        Self { exact, ..self }
    }

    /// The template as configured.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// It may serve as `http.route`: it says the whole path.
    pub fn is_route(&self) -> bool {
        !self.segments.contains(&Segment::Any)
    }

    /// The route of a path that fits: the template, with that of its alternatives which the path has. There are only as many
    /// routes as the configuration lists.
    pub fn route(&self, path: &Path<'_>) -> Arc<str> {
        if !self.segments.iter().any(|segment| matches!(segment, Segment::OneOf(_))) {
            return self.text.clone();
        }
        let written = self.text.split('/').skip(1);
        let segments = self.segments.iter().zip(&path.segments).zip(written);
        let route = segments.fold(String::new(), |mut route, ((segment, actual), written)| {
            route.push('/');
            route.push_str(match segment {
                Segment::OneOf(names) => {
                    names.iter().find(|name| name.is(actual, self.exact)).map_or(written, |name| &name.text)
                }
                _ => written,
            });
            route
        });
        route.into()
    }

    /// Calls `captured` for every placeholder of every way the template fits `path`. Returns whether it fits at all.
    pub fn visit<'p>(&self, path: &'p Path<'_>, captured: &mut dyn FnMut(&'p str)) -> bool {
        !path.too_long
            && self.needs.are_met(path)
            && fits(&self.segments, self.exact, &path.segments, None, captured)
    }

    /// Whether it fits.
    pub fn fits(&self, path: &Path<'_>) -> bool {
        self.visit(path, &mut |_| ())
    }
}

/// With at most two `**`, at most `MAX_SEGMENTS²` ways.
fn fits<'p>(
    template: &[Segment],
    exact: bool,
    path: &'p [Part<'_>],
    held: Option<&'p str>,
    captured: &mut dyn FnMut(&'p str),
) -> bool {
    let Some((first, rest)) = template.split_first() else {
        if path.is_empty() {
            if let Some(value) = held {
                captured(value);
            }
            return true;
        }
        return false;
    };
    if *first == Segment::Any {
        let mut any = false;
        for skip in 0..=path.len() {
            any |= fits(rest, exact, path.get(skip..).unwrap_or_default(), held, captured);
        }
        return any;
    }
    let Some((segment, others)) = path.split_first() else { return false };
    match first {
        Segment::Literal(word) => word.is(segment, exact) && fits(rest, exact, others, held, captured),
        Segment::OneOf(words) => {
            words.iter().any(|word| word.is(segment, exact)) && fits(rest, exact, others, held, captured)
        }
        Segment::Capture => {
            let is_date =
                others.first().is_some_and(|next| is_date(&segment.text, next.stem().unwrap_or(&next.text)));
            let value = segment.stem().unwrap_or(&segment.text);
            fits(rest, exact, others, Some(value).filter(|_| !is_date), captured)
        }
        Segment::One | Segment::Any => fits(rest, exact, others, held, captured),
    }
}

/// A year and the month, quarter or week behind it; or a month of two digits before a year.
fn is_date(first: &str, second: &str) -> bool {
    let number = |text: &str, digits: RangeInclusive<usize>| {
        let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let is_year = |text| number(text, 4..=4).is_some_and(|year| (1970..2100).contains(&year));
    let is_month = |text, digits| number(text, digits).is_some_and(|month| (1..=12).contains(&month));
    let part = |text: &str| {
        let rest = text.strip_prefix(['q', 'Q', 'w', 'W'])?;
        number(rest, 1..=2).filter(|part| (1..=53).contains(part))
    };
    (is_year(first) && (is_month(second, 1..=2) || part(second).is_some()))
        || (is_month(first, 2..=2) && is_year(second))
}

/// A request's path, split and decoded once for all templates.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    segments: Vec<Part<'a>>,
    /// Those of all segments.
    marks: u64,
    too_long: bool,
}

/// A segment as it reads.
#[derive(Clone, Debug)]
struct Part<'a> {
    text: Cow<'a, str>,
    /// Bytes before the ending of a format.
    stem_len: Option<usize>,
    /// The [marks](mark) of its text and stem.
    marks: u64,
}

impl<'a> Part<'a> {
    /// Text that is no UTF-8 when decoded stays as sent.
    fn new(sent: &'a str) -> Self {
        let text = percent::decode(sent, false).unwrap_or(Cow::Borrowed(sent));
        Self { marks: mark(&text), text, stem_len: None }
    }

    fn stem(&self) -> Option<&str> {
        self.text.get(..self.stem_len?)
    }
}

impl<'a> Path<'a> {
    pub fn new(path: &'a str) -> Self {
        let mut segments: Vec<Part<'a>> = Vec::with_capacity(8);
        let mut too_long = false;
        for sent in path.split('/') {
            let end = memchr::memchr(b';', sent.as_bytes());
            let sent = end.and_then(|end| sent.get(..end)).unwrap_or(sent);
            if sent.is_empty() {
                continue;
            }
            let (name, key) = keyed(sent).map_or((sent, None), |(name, key)| (name, Some(key)));
            for part in std::iter::once(name).chain(key) {
                if segments.len() == MAX_SEGMENTS {
                    too_long = true;
                } else {
                    segments.push(Part::new(part));
                }
            }
            if too_long {
                break;
            }
        }
        if let Some(last) = segments.last_mut() {
            let point = memchr::memrchr(b'.', last.text.as_bytes());
            let parts = point.and_then(|at| last.text.get(..at).zip(last.text.get(at + 1..)));
            last.stem_len = parts.and_then(|(stem, ending)| {
                let known = FORMATS.iter().any(|format| format.eq_ignore_ascii_case(ending));
                (known && !stem.is_empty()).then_some(stem.len())
            });
            last.marks |= last.stem().map_or(0, mark);
        }
        let marks = segments.iter().fold(0, |all, part| all | part.marks);
        Self { segments, marks, too_long }
    }
}

/// `Orders(1613)`, `Orders(OrderID=1613)`, `Orders('A-17')` as OData writes them: the name and its only key.
fn keyed(segment: &str) -> Option<(&str, &str)> {
    let (name, key) = segment.strip_suffix(')')?.split_once('(').filter(|(name, _)| !name.is_empty())?;
    if key.contains(',') {
        return None;
    }
    let key = key.split_once('=').map_or(key, |(_, value)| value);
    let key = key.split_once('\'').and_then(|(_, rest)| rest.strip_suffix('\'')).unwrap_or(key);
    (!key.is_empty() && !key.contains(['(', '\''])).then_some((name, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, path: &str, expected: Option<&[&str]>) {
        let template = Template::parse(template, Placeholders::One).expect("a valid template");
        let path = Path::new(path);
        let mut captured = Vec::new();
        let fits = template.visit(&path, &mut |value| captured.push(value));
        assert_eq!(fits.then_some(captured.as_slice()), expected, "{template:?} {path:?}");
    }

    #[test]
    fn templates_fit_whole_paths() {
        check("/orders/{order_id}", "/orders/17", Some(&["17"]));
        check("/orders/{order_id}", "/orders/17/", Some(&["17"]));
        check("/orders/{order_id}", "/orders/17/items", None);
        check("/orders/{order_id}", "/orders", None);
        check("/orders/{order_id}", "/v1/orders/17", None);
        check("/orders/{order_id}/*", "/orders/17/items", Some(&["17"]));
        check("/*/orders/{order_id}", "/v1/orders/17", Some(&["17"]));
        check("/**/orders/{order_id}/**", "/orders/17", Some(&["17"]));
        check("/**/orders/{order_id}/**", "/api/v1/orders/17/items/3", Some(&["17"]));
        check("/**/orders/{order_id}/**", "/items/3", None);
        check("/**/orders/{order_id}/**", "/orders/17/orders/18", Some(&["17", "18"]));
        check("/**/orders/{order_id}/**", "/orders/orders/18", Some(&["orders", "18"]));
        check("/{order_id}", "/", None);
    }

    #[test]
    fn paths_are_read_as_what_they_mean() {
        for path in [
            "/api/Orders/17",
            "/API/ORDERS/17",
            "/api/orders/17;jsessionid=0A1B",
            "/api;v=1/orders;a=b;c/17;x",
            "//api//orders///17//",
            "/api/orders/17.json",
            "/api/orders/17.XML/",
            "/%61pi/%6frders/%31%37",
            "/api/Orders(17)",
            "/api/Orders(OrderID=17)",
            "/api/Orders('17')",
            "/api/Orders(guid'17')",
        ] {
            check("/api/orders/{id}", path, Some(&["17"]));
            check("/api/orders/{id}/", path, Some(&["17"]));
            check("/**/orders/{id}/**", path, Some(&["17"]));
        }
        check("/заказы/{id}", "/%D0%97%D0%90%D0%9A%D0%90%D0%97%D0%AB/%D0%90-17", Some(&["А-17"]));
        check("/%D0%B7%D0%B0%D0%BA%D0%B0%D0%B7%D1%8B/{id}", "/заказы/17", Some(&["17"]));
        check("/orders/{id}", "/orders/17%3B18", Some(&["17;18"]));
        check("/orders/{id}", "/orders/17.stl", Some(&["17.stl"]));
        check("/orders/{id}", "/orders/.json", Some(&[".json"]));
        check("/orders/{id}", "/orders/a%2Fb", Some(&["a/b"]));
        check("/orders/{id}", "/orders/%FF", Some(&["%FF"]));
        check("/orders/{id}", "/Orders(OrderID=17,Line=3)", None);
        check("/orders/{id}", "/Orders()", None);
        check("/orders/{id}", "/(17)", None);
        check("/orders/{id}/confirm", "/orders/17/Confirm.json", Some(&["17"]));
        let exact = Template::parse("/orders/{id}", Placeholders::One).expect("valid").exact(true);
        assert!(exact.fits(&Path::new("/orders/17.json")) && !exact.fits(&Path::new("/Orders/17")));
    }

    #[test]
    fn dates_are_not_captured() {
        for path in [
            "/stat/orders/2025/12",
            "/archive/orders/2025/12/31/export",
            "/orders/2025/1",
            "/orders/2025/q4",
            "/orders/2025/W51",
            "/orders/2025/12.csv",
            "/orders/12/2025",
        ] {
            check("/**/orders/{order_id}/**", path, Some(&[]));
        }
        for (path, value) in [
            ("/orders/2025", "2025"),
            ("/orders/2025/items", "2025"),
            ("/orders/2025/13", "2025"),
            ("/orders/2025/0", "2025"),
            ("/orders/2025/123", "2025"),
            ("/orders/20251/12", "20251"),
            ("/orders/1613/12", "1613"),
            ("/orders/7/2025", "7"),
            ("/orders/2025.json", "2025"),
        ] {
            check("/**/orders/{order_id}/**", path, Some(&[value]));
        }
    }

    #[test]
    fn routes_show_which_alternative_it_was() {
        let template =
            Template::parse("/(api|b2b)/orders/{id}/(confirm|cancel)", Placeholders::One).expect("valid");
        check("/(api|b2b)/orders/{id}/(confirm|cancel)", "/b2b/orders/17/confirm", Some(&["17"]));
        check("/(api|b2b)/orders/{id}/(confirm|cancel)", "/b2b/orders/17/delete", None);
        assert_eq!(&*template.route(&Path::new("/b2b/orders/17/cancel/")), "/b2b/orders/{id}/cancel");
        let plain = Template::parse("/orders/{id}/*", Placeholders::One).expect("valid");
        assert_eq!(&*plain.route(&Path::new("/orders/17/x")), "/orders/{id}/*");
        assert_eq!(&*template.route(&Path::new("/B2B//Orders/17/CANCEL.json")), "/b2b/orders/{id}/cancel");
        let slash = Template::parse("/tryton/", Placeholders::Any).expect("a slash at the end is no segment");
        assert!(slash.fits(&Path::new("/tryton")) && slash.fits(&Path::new("/tryton/")));
        assert_eq!(&*slash.route(&Path::new("/tryton")), "/tryton/");
    }

    #[test]
    fn very_long_paths_fit_nothing() {
        check("/**/{order_id}", &"/a".repeat(32), Some(&["a"]));
        check("/**/{order_id}", &"/a".repeat(33), None);
    }

    #[test]
    fn bad_templates_are_refused() {
        for bad in [
            "orders/{id}",
            "/orders",
            "/{a}/{b}",
            "/orders/x{id}",
            "/orders//{id}",
            "/**/**/**/{id}",
            "/o*/{id}",
        ] {
            assert!(Template::parse(bad, Placeholders::One).is_err(), "{bad}");
        }
        assert!(Template::parse("/orders/{id}", Placeholders::Zero).is_err());
        assert!(Template::parse("/", Placeholders::Any).is_ok());
    }
}
