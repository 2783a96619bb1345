//! What proxies say of the request that they forward → the client, host and scheme that it had at first.
//!
//! A client can write these fields itself, and a proxy that leaves them alone passes them on: what they say is what an
//! application would believe, no more. Of an address only an address is taken, of a host only what looks like one.
//!
//! *Owns* which fields are believed, in which order. *Must not know* where it is shown.
//! *Spec*: RFC 7239 (`Forwarded`); OpenTelemetry semantic conventions v1.44.0, "HTTP spans": `client.address`, `url.scheme`,
//! "Setting `server.address` and `server.port` attributes". `X-Forwarded-*` and `X-Real-IP` have no standard; these are the
//! forms that nginx, HAProxy, Apache, Envoy, Traefik and the balancers of AWS and Azure write.

use std::net::{IpAddr, SocketAddr};

use super::text;
use crate::operation::http::{Exchange, Headers};
use crate::record::Endpoint;
use crate::span::build::set_server;
use crate::span::semconv;
use crate::trace::Attributes;

/// Longest name of a host (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 255;

/// A request as its client sent it, as far as proxies tell. Nothing of it for a client's own span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::span) struct Original<'a> {
    pub(in crate::span) client: Option<IpAddr>,
    host: Option<&'a str>,
    port: Option<u16>,
    scheme: Option<&'static str>,
}

impl<'a> Original<'a> {
    /// From the first element of each field: the proxy nearest to the client wrote it (RFC 7239, section 4). A web server that hands
    /// the request on by another protocol tells its own client.
    pub(in crate::span) fn of(exchange: &'a Exchange, is_server: bool) -> Self {
        let headers = &exchange.request_headers;
        if !is_server {
            return Self::default();
        }
        let mut original = text(headers, "forwarded").map(standard).unwrap_or_default();
        let listed = |name: &str| text(headers, name).map(first);
        original.client = original
            .client
            .or_else(|| listed("x-forwarded-for").and_then(address))
            .or_else(|| listed("x-real-ip").and_then(address))
            .or_else(|| exchange.gateway.as_ref()?.client);
        original.host = original.host.or_else(|| listed("x-forwarded-host").and_then(host));
        if original.host.is_some() {
            original.port = listed("x-forwarded-port").and_then(|port| port.parse().ok());
        }
        original.scheme = original.scheme.or_else(|| forwarded_scheme(headers));
        original
    }

    /// `https` or `http`: of the client's own request where that is told, else of this one.
    pub(in crate::span) fn scheme(&self, exchange: &Exchange, is_tls: bool) -> &'static str {
        let secure = is_tls
            || exchange.http2.is_https
            || exchange.gateway.as_ref().is_some_and(|gateway| gateway.is_https)
            || exchange.target.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
        self.scheme.unwrap_or(if secure { "https" } else { "http" })
    }

    /// `server.address` and `server.port` from the host that the client named; from the socket when it named none.
    pub(in crate::span) fn address(
        &self,
        exchange: &Exchange,
        scheme: &str,
        socket: &Endpoint,
        attributes: &mut Attributes,
    ) {
        let authority = self.host.unwrap_or(&exchange.authority);
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside brackets is part of an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()),
            _ => (authority, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            set_server(attributes, socket, None);
            return;
        }
        let default = if scheme == "https" { 443 } else { 80 };
        attributes.set(semconv::SERVER_ADDRESS, host);
        attributes.set(semconv::SERVER_PORT, i64::from(port.or(self.port).unwrap_or(default)));
    }
}

/// `for=192.0.2.60;proto=https;host=shop.example, for="[2001:db8::17]:4711"` (RFC 7239, section 4).
fn standard(field: &str) -> Original<'_> {
    let mut original = Original::default();
    for pair in split_quoted(first_quoted(field), ';') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        match name.trim() {
            name if name.eq_ignore_ascii_case("for") => original.client = address(value),
            name if name.eq_ignore_ascii_case("host") => original.host = host(value),
            name if name.eq_ignore_ascii_case("proto") => original.scheme = scheme(value),
            _ => {}
        }
    }
    original
}

fn forwarded_scheme(headers: &Headers) -> Option<&'static str> {
    text(headers, "x-forwarded-proto").and_then(|proto| scheme(first(proto)))
}

/// A WebSocket's scheme is that of the request that asks for it.
fn scheme(name: &str) -> Option<&'static str> {
    match name {
        _ if name.eq_ignore_ascii_case("https") || name.eq_ignore_ascii_case("wss") => Some("https"),
        _ if name.eq_ignore_ascii_case("http") || name.eq_ignore_ascii_case("ws") => Some("http"),
        _ => None,
    }
}

/// An address with or without a port. `unknown` and names that hide it (RFC 7239, section 6.3) are none.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    let ip = bare.parse().or_else(|_| node.parse().map(|address: SocketAddr| address.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

/// A host with or without a port: nothing else that somebody may have written there.
fn host(text: &str) -> Option<&str> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    (!text.is_empty() && text.len() <= MAX_HOST && text.chars().all(fits)).then_some(text)
}

fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

/// The same where quoted strings may hold the separator.
fn first_quoted(list: &str) -> &str {
    split_quoted(list, ',').next().unwrap_or_default()
}

/// Parts of a text between separators that stand outside quotes. An address in quotes holds no quote, so that escapes need no
/// care.
fn split_quoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client, host, port, scheme.
    fn check(headers: &[(&str, &str)], expected: [&str; 4]) {
        let exchange = Exchange { request_headers: headers.iter().copied().collect(), ..Exchange::default() };
        let original = Original::of(&exchange, true);
        let found = [
            original.client.map(|client| client.to_string()).unwrap_or_default(),
            original.host.unwrap_or_default().to_owned(),
            original.port.map(|port| port.to_string()).unwrap_or_default(),
            original.scheme.unwrap_or_default().to_owned(),
        ];
        assert_eq!(found, expected, "{headers:?}");
        assert_eq!(Original::of(&exchange, false), Original::default(), "a client's own span");
    }

    #[test]
    fn the_standard_field() {
        let forwarded = |value, expected| check(&[("Forwarded", value)], expected);
        forwarded(
            "for=192.0.2.60;proto=https;host=shop.example",
            ["192.0.2.60", "shop.example", "", "https"],
        );
        forwarded("For=\"[2001:db8:cafe::17]:4711\"", ["2001:db8:cafe::17", "", "", ""]);
        forwarded("for=\"[2001:db8::17]\" , for=192.0.2.43", ["2001:db8::17", "", "", ""]);
        forwarded("for=192.0.2.43, for=198.51.100.17;host=inner", ["192.0.2.43", "", "", ""]);
        forwarded("for=\"192.0.2.43:47011\";host=\"shop:8080\"", ["192.0.2.43", "shop:8080", "", ""]);
        forwarded("by=203.0.113.43 ; PROTO=HTTP", ["", "", "", "http"]);
        forwarded("for=unknown", ["", "", "", ""]);
        forwarded("for=_hidden, for=_SEVKISEK", ["", "", "", ""]);
        forwarded("for=\"a,b;c\";proto=https", ["", "", "", "https"]);
        forwarded("for=;host=;proto=", ["", "", "", ""]);
        forwarded("for=\"192.0.2.1", ["", "", "", ""]);
        forwarded(";;,,==", ["", "", "", ""]);
    }

    #[test]
    fn fields_without_a_standard() {
        let proxied = [
            ("X-Forwarded-For", "192.0.2.60, 10.0.0.9"),
            ("X-Forwarded-Host", "shop.example"),
            ("X-Forwarded-Port", "8443"),
            ("X-Forwarded-Proto", "https,http"),
        ];
        check(&proxied, ["192.0.2.60", "shop.example", "8443", "https"]);
        check(&[("X-Forwarded-For", "203.0.113.7:51234")], ["203.0.113.7", "", "", ""]);
        check(&[("X-Forwarded-For", "2001:db8::7")], ["2001:db8::7", "", "", ""]);
        check(&[("X-Forwarded-For", "::ffff:192.0.2.7")], ["192.0.2.7", "", "", ""]);
        check(&[("X-Real-IP", "192.0.2.8")], ["192.0.2.8", "", "", ""]);
        check(&[("X-Forwarded-Proto", "wss")], ["", "", "", "https"]);
        // A port alone says nothing of which host has it.
        check(&[("X-Forwarded-Port", "443")], ["", "", "", ""]);
    }

    #[test]
    fn the_standard_field_outweighs_the_others_where_it_tells() {
        let both = [
            ("Forwarded", "for=192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.2"),
            ("X-Forwarded-Proto", "https"),
        ];
        check(&both, ["192.0.2.1", "", "", "https"]);
        check(&[("Forwarded", "for=unknown"), ("X-Forwarded-For", "192.0.2.2")], ["192.0.2.2", "", "", ""]);
    }

    #[test]
    fn what_is_no_address_or_host_is_not_believed() {
        for junk in
            ["anna@example.com", "<script>", "a b", "shop/../etc", "4711 Main Street", "\u{0}", "unknown"]
        {
            check(&[("X-Forwarded-For", junk), ("X-Real-IP", junk)], ["", "", "", ""]);
        }
        for junk in ["anna@example.com", "a b", "shop/../etc", "user:pw@shop", "?x", &"a".repeat(256)] {
            check(
                &[("X-Forwarded-Host", junk), ("Forwarded", &format!("host=\"{junk}\""))],
                ["", "", "", ""],
            );
        }
        check(&[("X-Forwarded-Proto", "javascript")], ["", "", "", ""]);
    }
}
