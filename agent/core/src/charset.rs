//! Bytes and what is said of their encoding → text.
//!
//! *Owns* which encodings there are, and under which names. *Must not know* where bytes come from.
//! *Spec*: WHATWG Encoding, section 4.2 "Names and labels"; RFC 9110, section 8.3.2 (`charset`); RFC 7303, section 3 (XML);
//! PostgreSQL documentation, section 23.3 "Character Set Support".
//!
//! Bodies whose bytes are UTF-8 are UTF-8, whatever is declared: clients that declare nothing of their own declare `latin1`, and
//! a text of another encoding that happens to be UTF-8 is a few bytes long. A database's declaration is kept to the letter.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// How text is encoded; by default in UTF-8, or in what nobody has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charset(Option<&'static Encoding>);

/// Bytes of an XML document that its declaration stands in.
const MAX_DECLARATION: usize = 256;

impl Charset {
    pub const UTF8: Self = Self(None);

    /// By its name as HTTP, forms and XML know it (`windows-1251`, `cp866`, `latin1`). `None`: there is no such encoding.
    pub fn named(label: &[u8]) -> Option<Self> {
        let label = label.trim_ascii();
        let known = Encoding::for_label(label).or_else(|| {
            // Names of IANA and of operating systems that the standard does not list.
            let plain: Vec<u8> = label
                .iter()
                .filter(|byte| byte.is_ascii_alphanumeric())
                .map(u8::to_ascii_lowercase)
                .collect();
            let name: &[u8] = match plain.as_slice() {
                [b'w', b'i', b'n', page @ ..] if page.iter().all(u8::is_ascii_digit) => {
                    &[b"windows-", page].concat()
                }
                [b'c', b'p', b'1', b'2', rest @ ..] => &[b"windows-12", rest].concat(),
                b"koi8r" => b"koi8-r",
                b"koi8u" => b"koi8-u",
                b"utf8mb4" => b"utf-8",
                _ => return None,
            };
            Encoding::for_label(name)
        })?;
        // Who says ASCII has no other letters, or does not know of them.
        let is_ascii = label.eq_ignore_ascii_case(b"us-ascii") || label.eq_ignore_ascii_case(b"ascii");
        Some(Self::of(known).without(is_ascii))
    }

    /// By its name as PostgreSQL knows it (`WIN1251`, `KOI8R`, `ALT`, `LATIN1`); UTF-8 when it is not known.
    pub fn of_postgres(name: &[u8]) -> Self {
        let plain: Vec<u8> =
            name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
        let label: &[u8] = match plain.as_slice() {
            b"WIN" | b"WIN1251" | b"WINDOWS1251" => b"windows-1251",
            b"WIN866" | b"ALT" | b"WINDOWS866" => b"ibm866",
            b"KOI8" | b"KOI8R" => b"koi8-r",
            b"KOI8U" => b"koi8-u",
            b"LATIN1" | b"ISO88591" => b"latin1",
            b"LATIN2" | b"ISO88592" => b"latin2",
            b"LATIN3" | b"ISO88593" => b"latin3",
            b"LATIN4" | b"ISO88594" => b"latin4",
            b"LATIN5" | b"ISO88599" => b"latin5",
            b"LATIN6" | b"ISO885910" => b"latin6",
            b"LATIN7" | b"ISO885913" => b"iso-8859-13",
            b"LATIN8" | b"ISO885914" => b"iso-8859-14",
            b"LATIN9" | b"ISO885915" => b"iso-8859-15",
            b"LATIN10" | b"ISO885916" => b"iso-8859-16",
            b"ISO88595" => b"iso-8859-5",
            b"ISO88596" => b"iso-8859-6",
            b"ISO88597" => b"iso-8859-7",
            b"ISO88598" => b"iso-8859-8",
            b"WIN874" => b"windows-874",
            b"WIN1250" => b"windows-1250",
            b"WIN1252" => b"windows-1252",
            b"WIN1253" => b"windows-1253",
            b"WIN1254" => b"windows-1254",
            b"WIN1255" => b"windows-1255",
            b"WIN1256" => b"windows-1256",
            b"WIN1257" => b"windows-1257",
            b"WIN1258" | b"ABC" | b"TCVN" | b"TCVN5712" | b"VSCII" => b"windows-1258",
            b"EUCJP" | b"EUCJIS2004" => b"euc-jp",
            b"SJIS" | b"MSKANJI" | b"SHIFTJIS" | b"SHIFTJIS2004" | b"WIN932" | b"WINDOWS932" => b"shift_jis",
            b"EUCKR" | b"UHC" | b"WIN949" | b"WINDOWS949" => b"euc-kr",
            b"EUCCN" | b"GBK" | b"WIN936" | b"WINDOWS936" => b"gbk",
            b"GB18030" => b"gb18030",
            b"BIG5" | b"WIN950" | b"WINDOWS950" => b"big5",
            // SQL_ASCII says nothing; the rest is not in use.
            _ => return Self::UTF8,
        };
        Encoding::for_label(label).map_or(Self::UTF8, Self::of)
    }

    /// The parameter `charset` of a content type.
    pub fn of_content_type(content_type: &[u8]) -> Option<Self> {
        let mut parameters =
            content_type.get(memchr::memchr(b';', content_type)? + 1..)?.split(|byte| *byte == b';');
        let value = parameters.find_map(|parameter| {
            let (name, value) = parameter.split_at(memchr::memchr(b'=', parameter)?);
            name.trim_ascii().eq_ignore_ascii_case(b"charset").then(|| value.get(1..).unwrap_or_default())
        })?;
        let value = value.trim_ascii();
        Self::named(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    }

    /// The encoding that an XML document declares of itself: `<?xml version="1.0" encoding="windows-1251"?>`.
    pub fn of_xml(body: &[u8]) -> Option<Self> {
        let declaration = body.trim_ascii_start().strip_prefix(b"<?xml")?;
        let declaration = declaration.get(..MAX_DECLARATION).unwrap_or(declaration);
        let declaration = declaration.get(..memchr::memmem::find(declaration, b"?>")?)?;
        let value =
            declaration.get(memchr::memmem::find(declaration, b"encoding")? + 8..)?.trim_ascii_start();
        let value = value.strip_prefix(b"=")?.trim_ascii_start();
        let (quote, value) = value.split_first()?;
        Self::named(value.get(..memchr::memchr(*quote, value).filter(|_| matches!(quote, b'"' | b'\''))?)?)
    }

    fn of(encoding: &'static Encoding) -> Self {
        Self((encoding != encoding_rs::UTF_8).then_some(encoding))
    }

    fn without(self, is_none: bool) -> Self {
        if is_none { Self::UTF8 } else { self }
    }

    /// Its name, to be told again to [`Charset::named`].
    pub fn name(self) -> &'static str {
        self.0.map_or("UTF-8", Encoding::name)
    }

    /// The text; U+FFFD stands for bytes that are none.
    pub fn text(self, bytes: &[u8]) -> Cow<'_, str> {
        match self.0 {
            Some(encoding) => encoding.decode_without_bom_handling(bytes).0,
            None => String::from_utf8_lossy(bytes),
        }
    }

    /// The text, if all of the bytes are.
    pub fn exact(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        match self.0 {
            Some(encoding) => encoding.decode_without_bom_handling_and_without_replacement(bytes),
            None => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        }
    }

    /// UTF-8 as it is, else by this encoding; `None` when they are neither.
    pub fn exact_or_utf8(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        Self::UTF8.exact(bytes).or_else(|| self.exact(bytes))
    }

    /// The beginning of a text as UTF-8, a byte order mark taken off. What is no text stays as it is.
    pub fn utf8(self, bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        let wide = match &*bytes {
            [0xff, 0xfe, ..] => Some(UTF_16LE),
            [0xfe, 0xff, ..] => Some(UTF_16BE),
            _ => self.0.filter(|encoding| !encoding.is_ascii_compatible()),
        };
        if let Some(wide) = wide {
            let text = wide.decode_with_bom_removal(&bytes).0.into_owned();
            return Cow::Owned(text.into_bytes());
        }
        match self.0 {
            // Up to a character that the end of the bytes cuts.
            Some(encoding) if std::str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_some()) => {
                let text = encoding.decode_without_bom_handling(&bytes).0.into_owned();
                Cow::Owned(text.into_bytes())
            }
            _ => bytes,
        }
    }

    /// Bytes that a text took before it was decoded.
    pub fn encoded_len(self, text: &str) -> usize {
        match self.0 {
            Some(encoding) if encoding.is_single_byte() => text.chars().count(),
            Some(encoding) => encoding.encode(text).0.len(),
            None => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "Заказ № 17";

    /// What a label makes of the text in an encoding.
    fn check(label: &str, bytes: &[u8]) {
        let charset = Charset::named(label.as_bytes()).unwrap_or_else(|| panic!("{label}"));
        assert_eq!(charset.text(bytes), "Заказ 17", "{label}");
        assert_eq!(charset.exact(bytes).as_deref(), Some("Заказ 17"), "{label}");
        assert_eq!(&*charset.utf8(Cow::Borrowed(bytes)), "Заказ 17".as_bytes(), "{label}");
        assert_eq!(charset.encoded_len("Заказ 17"), bytes.len(), "{label}");
        assert_eq!(Charset::named(charset.name().as_bytes()), Some(charset), "{label}");
    }

    #[test]
    fn cyrillic_has_many_encodings() {
        for label in ["windows-1251", "cp1251", "CP-1251", "Win-1251", "win1251", " x-cp1251 "] {
            check(label, b"\xc7\xe0\xea\xe0\xe7 17");
        }
        for label in ["koi8-r", "KOI8_R", "koi8r", "koi8"] {
            check(label, b"\xfa\xc1\xcb\xc1\xda 17");
        }
        for label in ["cp866", "IBM866", "866"] {
            check(label, b"\x87\xa0\xaa\xa0\xa7 17");
        }
        check("iso-8859-5", b"\xb7\xd0\xda\xd0\xd7 17");
        check("x-mac-cyrillic", b"\x87\xe0\xea\xe0\xe7 17");
        check("utf-8", "Заказ 17".as_bytes());
        assert_eq!(Charset::named(b"latin1").unwrap().text(b"Stra\xdfe"), "Straße");
        for nothing in [&b""[..], b"win", b"no-such", b"win9999", b"cp12", b"\xff\xfe"] {
            assert_eq!(Charset::named(nothing), None);
        }
    }

    #[test]
    fn postgres_has_names_of_its_own() {
        for (name, label) in [
            ("WIN1251", "windows-1251"),
            ("win1251", "windows-1251"),
            ("WIN", "windows-1251"),
            ("KOI8R", "KOI8-R"),
            ("KOI8", "KOI8-R"),
            ("WIN866", "IBM866"),
            ("ALT", "IBM866"),
            ("LATIN1", "windows-1252"),
            ("ISO_8859_5", "ISO-8859-5"),
            ("SJIS", "Shift_JIS"),
            ("UTF8", "UTF-8"),
            ("UNICODE", "UTF-8"),
            ("SQL_ASCII", "UTF-8"),
            ("", "UTF-8"),
        ] {
            assert_eq!(Charset::of_postgres(name.as_bytes()).name(), label, "{name}");
        }
    }

    #[test]
    fn declarations_are_found() {
        let of = |content_type: &str| Charset::of_content_type(content_type.as_bytes()).map(Charset::name);
        assert_eq!(of("text/xml; charset=windows-1251"), Some("windows-1251"));
        assert_eq!(of("text/xml;action=\"x\"; Charset=\"KOI8-R\""), Some("KOI8-R"));
        assert_eq!(of("application/json"), None);
        assert_eq!(of("charset=koi8-r"), None);
        assert_eq!(of("text/plain; charset=US-ASCII"), Some("UTF-8"));
        let xml = |text: &str| Charset::of_xml(text.as_bytes()).map(Charset::name);
        assert_eq!(xml("<?xml version=\"1.0\" encoding=\"windows-1251\"?><a/>"), Some("windows-1251"));
        assert_eq!(xml(" <?xml version='1.0' encoding = 'cp866' standalone='yes'?>"), Some("IBM866"));
        for other in [
            "<?xml version=\"1.0\"?>",
            "<a encoding=\"koi8-r\"/>",
            "<?xml encoding=\"koi8-r\"",
            "<?xml encoding=koi8-r?>",
        ] {
            assert_eq!(xml(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_utf8_stays_utf8_and_wide_text_is_told_by_its_mark() {
        let latin = Charset::named(b"iso-8859-1").unwrap();
        assert_eq!(latin.exact_or_utf8(TEXT.as_bytes()).as_deref(), Some(TEXT));
        assert_eq!(&*latin.utf8(Cow::Borrowed(TEXT.as_bytes())), TEXT.as_bytes());
        // A body that ends within a character is UTF-8 all the same.
        let cut = &TEXT.as_bytes()[..3];
        assert_eq!(&*latin.utf8(Cow::Borrowed(cut)), cut);
        let wide: Vec<u8> =
            std::iter::once(0xfeff).chain(TEXT.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert_eq!(&*Charset::UTF8.utf8(Cow::Borrowed(&wide)), TEXT.as_bytes());
        let wide: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(&*Charset::named(b"utf-16be").unwrap().utf8(Cow::Borrowed(&wide)), TEXT.as_bytes());
        assert_eq!(Charset::UTF8.exact(b"\xff"), None);
        assert_eq!(Charset::UTF8.text(b"a\xff"), "a\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), label in proptest::collection::vec(any::<u8>(), 0..20)) {
            let charset = Charset::named(&label).unwrap_or(Charset::of_postgres(&label));
            charset.text(&bytes);
            Charset::of_content_type(&bytes);
            Charset::of_xml(&bytes);
            // A byte becomes one character of at most three bytes.
            prop_assert!(charset.utf8(Cow::Borrowed(&bytes)).len() <= 3 * bytes.len());
        }
    }
}
