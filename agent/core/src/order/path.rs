//! Path templates: `/orders/{order_id}`, `/**/orders/{order_id}/**`.
//!
//! A template and the path of a request in, the captured segments out. *Must not know* rules, types, spans.
//!
//! `{name}` and `*` stand for one segment, `(a|b)` for one of those listed, `**` for any number of segments, none included.
//! Segments are compared as sent; captured ones are percent-decoded. A slash at the end of a path makes no difference.

use std::sync::Arc;

/// Segments of a path that are looked at; longer paths match nothing.
const MAX_SEGMENTS: usize = 32;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    OneOf(Vec<String>),
    Capture,
    One,
    Any,
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
        let mut segments = Vec::new();
        for segment in body.split('/') {
            segments.push(match segment {
                "*" => Segment::One,
                "**" => Segment::Any,
                _ if segment.starts_with('{') && segment.ends_with('}') && segment.len() > 2 => {
                    Segment::Capture
                }
                _ if segment.starts_with('(') && segment.ends_with(')') => {
                    let names: Vec<String> =
                        segment.trim_matches(['(', ')']).split('|').map(str::to_owned).collect();
                    if names.iter().any(|name| name.is_empty() || name.contains(['(', ')', '{', '}', '*'])) {
                        return Err(format!(
                            "`{segment}` in `{text}`: alternatives are written `(confirm|cancel)`"
                        ));
                    }
                    Segment::OneOf(names)
                }
                _ if segment.contains(['{', '}', '(', ')', '*', '?', '#']) => {
                    return Err(format!("`{segment}` in `{text}`: a placeholder is a whole segment"));
                }
                "" if body.is_empty() => continue,
                "" => return Err(format!("`{text}` has an empty segment")),
                _ => Segment::Literal(segment.to_owned()),
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
            _ => Ok(Self { text: text.into(), segments }),
        }
    }

    /// The template as configured.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// It may serve as `http.route`: it says the whole path.
    pub fn is_route(&self) -> bool {
        !self.segments.contains(&Segment::Any)
    }

    /// The route of a path that fits: the template, with what the path has in place of alternatives. There are only as many
    /// routes as the configuration lists.
    pub fn route(&self, path: &Path<'_>) -> Arc<str> {
        if !self.segments.iter().any(|segment| matches!(segment, Segment::OneOf(_))) {
            return self.text.clone();
        }
        let written = self.text.split('/').skip(1);
        let segments = self.segments.iter().zip(&path.segments).zip(written);
        let route = segments.fold(String::new(), |mut route, ((segment, actual), written)| {
            route.push('/');
            route.push_str(if matches!(segment, Segment::OneOf(_)) { actual } else { written });
            route
        });
        route.into()
    }

    /// Calls `captured` for every placeholder of every way the template fits `path`. Returns whether it fits at all.
    pub fn visit<'p>(&self, path: &Path<'p>, captured: &mut dyn FnMut(&'p str)) -> bool {
        !path.too_long && fits(&self.segments, &path.segments, None, captured)
    }

    /// Whether it fits.
    pub fn fits(&self, path: &Path<'_>) -> bool {
        self.visit(path, &mut |_| ())
    }
}

/// With at most two `**`, at most `MAX_SEGMENTS²` ways.
fn fits<'p>(
    template: &[Segment],
    path: &[&'p str],
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
            any |= fits(rest, path.get(skip..).unwrap_or_default(), held, captured);
        }
        return any;
    }
    let Some((segment, others)) = path.split_first() else { return false };
    match first {
        Segment::Literal(literal) => literal == segment && fits(rest, others, held, captured),
        Segment::OneOf(names) => {
            names.iter().any(|name| name == segment) && fits(rest, others, held, captured)
        }
        Segment::Capture => fits(rest, others, Some(segment), captured),
        Segment::One | Segment::Any => fits(rest, others, held, captured),
    }
}

/// A request's path, split once for all templates.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    segments: Vec<&'a str>,
    too_long: bool,
}

impl<'a> Path<'a> {
    pub fn new(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Self { segments: Vec::new(), too_long: false };
        }
        let segments: Vec<&str> = path.split('/').take(MAX_SEGMENTS + 1).collect();
        let too_long = segments.len() > MAX_SEGMENTS;
        Self { segments, too_long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, path: &str, expected: Option<&[&str]>) {
        let template = Template::parse(template, Placeholders::One).expect("a valid template");
        let mut captured = Vec::new();
        let fits = template.visit(&Path::new(path), &mut |value| captured.push(value));
        assert_eq!(fits.then_some(captured.as_slice()), expected, "{template:?} {path}");
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
    fn routes_show_which_alternative_it_was() {
        let template =
            Template::parse("/(api|b2b)/orders/{id}/(confirm|cancel)", Placeholders::One).expect("valid");
        check("/(api|b2b)/orders/{id}/(confirm|cancel)", "/b2b/orders/17/confirm", Some(&["17"]));
        check("/(api|b2b)/orders/{id}/(confirm|cancel)", "/b2b/orders/17/delete", None);
        assert_eq!(&*template.route(&Path::new("/b2b/orders/17/cancel/")), "/b2b/orders/{id}/cancel");
        let plain = Template::parse("/orders/{id}/*", Placeholders::One).expect("valid");
        assert_eq!(&*plain.route(&Path::new("/orders/17/x")), "/orders/{id}/*");
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
