//! Percent-encoded text → text.
//!
//! *Spec*: RFC 3986, section 2.1; HTML, "application/x-www-form-urlencoded".

use std::borrow::Cow;

/// Percent-decodes (RFC 3986, section 2.1); `+` is a blank in queries and forms. `None` when the result is not UTF-8.
pub fn decode(text: &str, plus_is_blank: bool) -> Option<Cow<'_, str>> {
    match bytes(text.as_bytes(), plus_is_blank) {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// The same of bytes, whatever they are.
pub fn bytes(bytes: &[u8], plus_is_blank: bool) -> Cow<'_, [u8]> {
    let coded = match plus_is_blank {
        true => memchr::memchr2(b'%', b'+', bytes),
        false => memchr::memchr(b'%', bytes),
    };
    if coded.is_none() {
        return Cow::Borrowed(bytes);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = (byte == b'%').then(|| hex(bytes.get(at + 1)).zip(hex(bytes.get(at + 2)))).flatten();
        match pair {
            Some((high, low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            None => {
                out.push(if byte == b'+' && plus_is_blank { b' ' } else { byte });
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_stand_for_bytes() {
        let decode = |text, plus| super::decode(text, plus).map(std::borrow::Cow::into_owned);
        assert_eq!(decode("a%2Fb", false).as_deref(), Some("a/b"));
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
        assert_eq!(decode("100%", true).as_deref(), Some("100%"));
        assert_eq!(decode("%zz%4", true).as_deref(), Some("%zz%4"));
        assert_eq!(decode("%ff", true), None);
    }
}
