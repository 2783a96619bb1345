//! What gateway protocols carry, whatever their frames: a request's variables → an HTTP exchange; a script's answer → its status,
//! fields and body.
//!
//! *Owns* the meaning of CGI's variables and of an answer's header. Which frames they come in is known to `fastcgi`, `scgi` and
//! `uwsgi`. *Must not know* where bytes came from.
//! *Spec*: RFC 3875 (CGI/1.1), sections 4.1 (variables) and 6 (answer); nginx's `fastcgi_params`, `scgi_params` and `uwsgi_params`
//! for what web servers add to them.

pub(super) mod answer;
pub(super) mod once;
#[cfg(test)]
pub(super) mod testing;

use std::net::IpAddr;

use crate::operation::http::{Exchange, Gateway, Headers, bounded_authority, bounded_target};
use crate::privacy::is_secret_header;
use crate::protocol::http1::start_line::MAX_METHOD_LEN;

/// Variables that are no header and of which something is kept. All others (paths of the server's disk, passwords that somebody
/// configured) are not looked at.
#[derive(Debug, Default)]
struct Variables {
    method: String,
    request_uri: String,
    script_name: String,
    path_info: String,
    query: String,
    server_name: String,
    server_port: String,
    client: Option<IpAddr>,
    is_https: bool,
    headers: Headers,
}

/// The exchange that a request's variables tell of. `protocol` is the one that carried them.
pub(super) fn exchange<'a>(
    variables: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    protocol: &'static str,
) -> Exchange {
    let mut known = Variables::default();
    for (name, value) in variables {
        known.take(name, value);
    }
    known.exchange(protocol)
}

impl Variables {
    fn take(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"REQUEST_METHOD" if value.len() <= MAX_METHOD_LEN => self.method = text(),
            b"REQUEST_URI" => self.request_uri = text(),
            b"SCRIPT_NAME" => self.script_name = text(),
            b"PATH_INFO" => self.path_info = text(),
            b"QUERY_STRING" => self.query = text(),
            b"SERVER_NAME" => self.server_name = text(),
            b"SERVER_PORT" => self.server_port = text(),
            b"REMOTE_ADDR" => self.client = text().parse().ok(),
            b"HTTPS" => self.is_https |= !value.is_empty() && !value.eq_ignore_ascii_case(b"off"),
            b"REQUEST_SCHEME" => self.is_https |= value.eq_ignore_ascii_case(b"https"),
            b"CONTENT_TYPE" | b"CONTENT_LENGTH" if !value.is_empty() => self.header(name, value),
            _ => {
                if let Some(name) = name.strip_prefix(b"HTTP_") {
                    self.header(name, value);
                }
            }
        }
    }

    /// "The header field name is converted to upper case, has all occurrences of `-` replaced with `_`" (section 4.1.18).
    fn header(&mut self, name: &[u8], value: &[u8]) {
        let name: Vec<u8> =
            name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
        push(&mut self.headers, &name, value);
    }

    fn exchange(self, protocol: &'static str) -> Exchange {
        let target = match self.request_uri {
            uri if !uri.is_empty() => uri,
            _ => {
                let mark = if self.query.is_empty() { "" } else { "?" };
                [self.script_name.as_str(), &self.path_info, mark, &self.query].concat()
            }
        };
        let (target, target_cut) = bounded_target(target.as_bytes());
        let authority = match self.headers.get("host") {
            Some(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
            _ if self.server_name.is_empty() || self.server_port.is_empty() => self.server_name,
            _ => format!("{}:{}", self.server_name, self.server_port),
        };
        Exchange {
            method: self.method,
            target,
            target_cut,
            authority: bounded_authority(&authority),
            request_headers: self.headers,
            gateway: Some(Gateway { protocol, client: self.client, is_https: self.is_https }),
            ..Exchange::default()
        }
    }
}

/// Keeps a field; of one that authenticates only its name.
fn push(headers: &mut Headers, name: &[u8], value: &[u8]) {
    let is_secret = std::str::from_utf8(name).is_ok_and(|name| is_secret_header(&name.to_ascii_lowercase()));
    headers.push(name, if is_secret { b"" } else { value });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Exchange {
        exchange(variables.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), "fastcgi")
    }

    #[test]
    fn variables_are_a_request() {
        let found = of(&[
            ("QUERY_STRING", "full=1"),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_TYPE", "application/json"),
            ("CONTENT_LENGTH", "13"),
            ("SCRIPT_NAME", "/index.php"),
            ("REQUEST_URI", "/orders/17?full=1"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("HTTPS", "on"),
            ("SERVER_NAME", "inner"),
            ("SERVER_PORT", "8080"),
            ("HTTP_HOST", "shop.example"),
            ("HTTP_X_ORDER_ID", "17"),
            ("HTTP_AUTHORIZATION", "Bearer hunter2"),
            ("HTTP_COOKIE", "session=hunter2"),
            ("DB_PASSWORD", "hunter2"),
            ("SCRIPT_FILENAME", "/srv/www/index.php"),
        ]);
        assert_eq!((found.method.as_str(), found.target.as_str()), ("POST", "/orders/17?full=1"));
        assert_eq!((found.path(), found.query()), ("/orders/17", Some("full=1")));
        assert_eq!(found.authority, "shop.example");
        assert_eq!(found.request_header("x-order-id"), Some(&b"17"[..]));
        assert_eq!(found.request_header("content-type"), Some(&b"application/json"[..]));
        assert_eq!(found.request_header("authorization"), Some(&b""[..]));
        let gateway = found.gateway.as_ref().expect("it came through one");
        assert_eq!((gateway.client, gateway.is_https), ("192.0.2.7".parse().ok(), true));
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn a_request_without_its_target_has_that_of_its_script() {
        let found = of(&[("SCRIPT_NAME", "/cgi"), ("PATH_INFO", "/orders/17"), ("QUERY_STRING", "a=b")]);
        assert_eq!(found.target, "/cgi/orders/17?a=b");
        let found =
            of(&[("SCRIPT_NAME", "/cgi"), ("SERVER_NAME", "shop"), ("SERVER_PORT", "81"), ("HTTPS", "off")]);
        assert_eq!((found.target.as_str(), found.authority.as_str()), ("/cgi", "shop:81"));
        assert!(!found.gateway.expect("a gateway").is_https);
        assert_eq!(of(&[]).target, "");
    }
}
