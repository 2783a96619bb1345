//! Heads against an independent parser.

use proptest::prelude::*;

use super::*;

/// Method, target, fields.
type Head = (String, String, Vec<(String, Vec<u8>)>);

/// What httparse reads of a request head, if it reads all of it.
fn reference(head: &[u8]) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        _ => return None,
    }
    let fields = request.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
    Some((request.method?.to_owned(), request.path?.to_owned(), fields.collect()))
}

fn ours(head: &[u8]) -> Option<Head> {
    let events = run(&[client(head)]);
    let operation = operations(&events).first().map(|operation| exchange(operation).clone())?;
    let fields = operation.request_headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec()));
    Some((operation.method.clone(), operation.target.clone(), fields.collect()))
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}"
}

proptest! {
    #[test]
    fn agrees_with_httparse_on_heads_it_accepts(
        method in token(),
        target in "/[a-zA-Z0-9/?=&%.+~:@_-]{0,60}",
        fields in prop::collection::vec((token(), "[ -~\t]{0,40}"), 0..12),
        lf in any::<bool>(),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let end = if lf { "\n" } else { "\r\n" };
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}{end}")).collect();
        let mut head = format!("{method} {target} HTTP/1.1{end}{lines}{end}").into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(head.len());
            head[at] = byte;
        }
        if let Some(mut expected) = reference(&head) {
            // Values we do not keep, and blanks httparse leaves at their ends.
            for (name, value) in &mut expected.2 {
                let secret = ["authorization", "cookie", "set-cookie", "proxy-authorization"];
                *value = if secret.contains(&name.as_str()) { Vec::new() } else { value.trim_ascii().to_vec() };
            }
            prop_assert_eq!(ours(&head), Some(expected), "{}", String::from_utf8_lossy(&head));
        }
    }

    #[test]
    fn status_lines_agree_with_httparse(line in "HTTP/1\\.[019] ?[0-9]{1,4} ?[ -~]{0,12}") {
        let head = format!("{line}\r\n\r\n");
        let mut fields = [httparse::EMPTY_HEADER; 4];
        let mut response = httparse::Response::new(&mut fields);
        if let Ok(httparse::Status::Complete(_)) = response.parse(head.as_bytes())
            && response.code.is_some_and(|code| code >= 100)
        {
            let found = super::super::start_line::status_line(line.as_bytes());
            prop_assert_eq!(found.map(|found| found.status), response.code);
        }
    }
}
