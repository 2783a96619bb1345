//! A name with `*` → whether another name fits.

/// A name in which `*` stands for anything, also for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Every name fits.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            // The first place is as good as any: what follows may then begin nowhere later.
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "orders", true),
            ("orders", "orders", true),
            ("orders", "orders.dead", false),
            ("*.dead", "orders.dead", true),
            ("*.dead", ".dead", true),
            ("*.dead", "orders.dead.again", false),
            ("order.*.created", "order.#.created", true),
            ("order.*.created", "order.created", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("aa*aa", "aaa", false),
            ("", "", true),
            ("", "x", false),
            ("заказ*", "заказы", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(name), expected, "{pattern} {name}");
        }
    }
}
