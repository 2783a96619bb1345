//! Where messages end, and which response belongs to which request.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn keep_alive_and_pipelining_pair_in_order() {
    check(
        &[
            client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(OK),
            client("GET /b HTTP/1.1\r\n\r\n"),
            server(OK),
        ],
        &["GET /a → 200, 0 up, 2 down", "GET /b → 200, 0 up, 2 down"],
    );
    check(
        &[
            client(
                "GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyzGET /c HTTP/1.1\r\n\r\n",
            ),
            server(format!("{OK}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n{OK}")),
        ],
        &["GET /a → 200, 0 up, 2 down", "POST /b → 404, 3 up, 0 down", "GET /c → 200, 0 up, 2 down"],
    );
}

#[test]
fn chunked_bodies_in_every_spelling() {
    let check = |response: &str, expected: &str| {
        check(
            &[
                client("GET /a HTTP/1.1\r\n\r\n"),
                server(response),
                client("GET /b HTTP/1.1\r\n\r\n"),
                server(OK),
            ],
            &[expected, "GET /b → 200, 0 up, 2 down"],
        );
    };
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&format!("{head}3\r\nabc\r\n0\r\n\r\n"), "GET /a → 200, 0 up, 3 down");
    check(&format!("{head}3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), "GET /a → 200, 0 up, 13 down");
    check(&format!("{head}3;name=value;q=\"x\"\r\nabc\r\n0;x\r\n\r\n"), "GET /a → 200, 0 up, 3 down");
    check(&format!("{head}3  \r\nabc\r\n0  \r\n\r\n"), "GET /a → 200, 0 up, 3 down");
    check(&format!("{head}0000003\nabc\n000\n\n"), "GET /a → 200, 0 up, 3 down");
    check(&format!("{head}3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n"), "GET /a → 200, 0 up, 3 down");
    check(&format!("{head}0\r\n\r\n"), "GET /a → 200, 0 up, 0 down");
    let folded = "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n gzip,\r\n\tchunked\r\n\r\n";
    check(&format!("{folded}3\r\nabc\r\n0\r\n\r\n"), "GET /a → 200, 0 up, 3 down");
}

#[test]
fn responses_without_a_body_whatever_their_fields_say() {
    let check = |request: &str, response: &str, expected: &str| {
        check(
            &[client(request), server(response), client("GET /b HTTP/1.1\r\n\r\n"), server(OK)],
            &[expected, "GET /b → 200, 0 up, 2 down"],
        );
    };
    check(
        "HEAD /a HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
        "HEAD /a → 200, 0 up, 0 down",
    );
    check(
        "HEAD /a HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HEAD /a → 200, 0 up, 0 down",
    );
    check("GET /a HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "GET /a → 204, 0 up, 0 down");
    check(
        "GET /a HTTP/1.1\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
        "GET /a → 304, 0 up, 0 down",
    );
    check(
        "GET /a HTTP/1.1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "GET /a → 200, 0 up, 1 down",
    );
}

#[test]
fn expectations_with_and_without_the_body_that_was_announced() {
    let request = "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    check(
        &[client(request), server("HTTP/1.1 100 Continue\r\n\r\n"), client("body"), server(OK)],
        &["POST /a → 200, 4 up, 2 down"],
    );
    // Refused, and the client goes on with its next request instead of the body.
    check(
        &[
            client(request),
            server("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
            client("GET /b HTTP/1.1\r\n\r\n"),
            server(OK),
        ],
        &["POST /a → 417, 0 up, 0 down", "GET /b → 200, 0 up, 2 down"],
    );
}

#[test]
fn response_before_the_end_of_the_request() {
    check(
        &[
            client("POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc"),
            server("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
            client("def"),
            client("GET /b HTTP/1.1\r\n\r\n"),
            server(OK),
        ],
        &["POST /a → 413, 6 up, 2 down", "GET /b → 200, 0 up, 2 down"],
    );
    // The client gives up, the connection closes.
    check(
        &[
            client("POST /a HTTP/1.1\r\nContent-Length: 600\r\n\r\nabc"),
            server("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
            Step::End(End::Reset),
        ],
        &["POST /a → 413, 3 up, 2 down"],
    );
}

#[test]
fn bodies_that_last_until_the_close() {
    check(
        &[client("GET /a HTTP/1.0\r\n\r\n"), server("HTTP/1.0 200 OK\r\n\r\nabc"), server("defg")],
        &["GET /a → 200, 0 up, 7 down"],
    );
    check(
        &[client("GET /a HTTP/1.1\r\n\r\n"), server("HTTP/1.1 200 OK\r\n\r\nabc"), Step::End(End::Reset)],
        &["GET /a → 200, 0 up, 3 down, Cut"],
    );
    // A server that does not say how long the body is, and keeps the connection.
    check(
        &[
            client("DELETE /a HTTP/1.1\r\n\r\n"),
            server("HTTP/1.1 200 OK\r\n\r\n"),
            client("GET /b HTTP/1.1\r\n\r\n"),
            server(OK),
            client("GET /c HTTP/1.1\r\n\r\n"),
            server(OK),
        ],
        &["DELETE /a → 200, 0 up, 0 down", "GET /b → 200, 0 up, 2 down", "GET /c → 200, 0 up, 2 down"],
    );
}

#[test]
fn another_protocol_takes_the_connection_over() {
    let mut connection = Connection::new(&Protocols::default());
    let upgrade = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    connection.step(&client(upgrade));
    connection.step(&server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02\x03"));
    connection.step(&client("GET /not HTTP/1.1\r\n\r\n"));
    connection.step(&Step::ServerGap(10));
    let events = connection.events();
    assert_eq!(summaries(&events), ["GET /chat → 101, 0 up, 0 down"]);
    assert_eq!(connection.session.passed_len(), 3 + 21 + 10);
    assert_eq!(connection.session.want(Sender::Client), crate::protocol::Want::Nothing);

    check(
        &[
            client("CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\n"),
            server("HTTP/1.1 200 Established\r\nContent-Length: 9\r\n\r\n"),
            client("\x16\x03\x01"),
        ],
        &["CONNECT shop:443 → 200, 0 up, 0 down"],
    );
    // A refused tunnel is an ordinary exchange.
    check(
        &[
            client("CONNECT shop:443 HTTP/1.1\r\n\r\n"),
            server("HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\nx"),
            client("GET /b HTTP/1.1\r\n\r\n"),
            server(OK),
        ],
        &["CONNECT shop:443 → 407, 0 up, 1 down", "GET /b → 200, 0 up, 2 down"],
    );
}

#[test]
fn conflicting_lengths_are_flagged_and_resolved_as_the_rfc_says() {
    let check = |fields: &str, body: &str, expected: &str| {
        check(&[client(format!("POST /a HTTP/1.1\r\n{fields}\r\n\r\n{body}")), server(OK)], &[expected]);
    };
    let (both, chunks) = ("Content-Length: 5\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n");
    check(both, chunks, "POST /a → 200, 3 up, 2 down, ambiguous");
    check(
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        chunks,
        "POST /a → 200, 3 up, 2 down, ambiguous",
    );
    check("Content-Length: 3, 3\r\nContent-Length: 3", "abc", "POST /a → 200, 3 up, 2 down");
    check("Content-Length: 3\r\nContent-Length: 4", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Content-Length: -3", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Content-Length: +3", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Content-Length: 99999999999999999999", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Content-Length: 0x3", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Content-Length:", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Transfer-Encoding: chunked, gzip", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Transfer-Encoding: xchunked", "abc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Transfer-Encoding : chunked", chunks, "POST /a → 200, 3 up, 2 down");
    check("Transfer-Encoding: CHUNKED", chunks, "POST /a → 200, 3 up, 2 down");
    check("Transfer-Encoding: chunked", "fffffffffffffffff\r\nabc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Transfer-Encoding: chunked", "-1\r\nabc", "POST /a → 200, 0 up, 2 down, ambiguous");
    check("Transfer-Encoding: chunked", "3\r\nabcX", "POST /a → 200, 3 up, 2 down, ambiguous");
}

#[test]
fn line_ends_blank_lines_and_folding_of_odd_peers() {
    check(
        &[client("\r\n\nGET /a HTTP/1.1\nHost: h\n\n"), server("\r\nHTTP/1.1 200\nContent-Length: 2\n\nok")],
        &["GET /a → 200, 0 up, 2 down"],
    );
    let events = run(&[
        client(
            "GET http://user:pw@shop:81/a HTTP/1.1\r\nHost: other\r\nX-Long: one\r\n\ttwo\r\n  three\r\nbroken line\r\n folded away\r\nX-Empty:\r\n\r\n",
        ),
        server(OK),
    ]);
    let exchange = exchange(operations(&events)[0]);
    assert_eq!(exchange.authority, "shop:81");
    assert_eq!(exchange.request_header("x-long"), Some(&b"one two three"[..]));
    assert_eq!(exchange.request_header("x-empty"), Some(&b""[..]));
    assert_eq!(exchange.request_headers.len(), 3);
}

#[test]
fn secrets_are_forgotten_and_their_names_kept() {
    let events = run(&[
        client(
            "GET / HTTP/1.1\r\nAuthorization: Bearer abc\r\n def\r\nCOOKIE: sid=1\r\nProxy-Authorization: x\r\nHost: h\r\n\r\n",
        ),
        server("HTTP/1.1 200 OK\r\nSet-Cookie: sid=1\r\nContent-Length: 0\r\n\r\n"),
    ]);
    let exchange = exchange(operations(&events)[0]);
    for name in ["authorization", "cookie", "proxy-authorization"] {
        assert_eq!(exchange.request_header(name), Some(&b""[..]), "{name}");
    }
    assert_eq!(exchange.response_header("set-cookie"), Some(&b""[..]));
    assert_eq!(exchange.authority, "h");
    let everything = format!("{events:?}");
    assert!(!everything.contains("sid=1") && !everything.contains("abc") && !everything.contains("def"));
}

#[test]
fn exchanges_cut_by_the_end_of_the_connection() {
    let check = |steps: &[Step], expected: &str| check(steps, &[expected]);
    let get = || client("GET /a HTTP/1.1\r\n\r\n");
    check(&[get(), Step::End(End::Closed)], "GET /a → nothing, 0 up, 0 down, Cut");
    check(&[get(), Step::End(End::Abandoned)], "GET /a → nothing, 0 up, 0 down, Abandoned");
    check(
        &[get(), server("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")],
        "GET /a → 200, 0 up, 3 down, Cut",
    );
    check(&[client("POST /a HTTP/1.1\r\nContent-Le")], "POST /a → nothing, 0 up, 0 down, Cut");
}
