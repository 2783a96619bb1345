//! Files in multipart bodies.

use super::*;
use crate::operation::http::Upload;

fn post(body: &str, steps_after_head: impl Fn(&str) -> Vec<Step>) -> Vec<Upload> {
    let head = format!(
        "POST /files HTTP/1.1\r\nContent-Type: multipart/form-data; charset=x; boundary=\"b;1\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut steps = vec![client(head)];
    steps.extend(steps_after_head(body));
    steps.push(server("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"));
    let events = run(&steps);
    exchange(operations(&events)[0]).uploads.clone()
}

fn upload(field: &str, file_name: &str, content_type: &str, len: Option<u64>) -> Upload {
    Upload { field: field.into(), file_name: file_name.into(), content_type: content_type.into(), len }
}

#[track_caller]
fn check(body: &str, expected: &[Upload]) {
    for size in [usize::MAX, 1, 2, 3, 7, 50] {
        let uploads = post(body, |body| body.as_bytes().chunks(size).map(client).collect());
        assert_eq!(uploads, expected, "in records of {size}: {body:?}");
    }
}

#[test]
fn files_of_a_form_with_their_sizes() {
    check(
        "--b;1\r\nContent-Disposition: form-data; name=\"order\"\r\n\r\n7\r\n--b;1\r\nContent-Disposition: form-data; \
         name=\"model\"; filename=\"part a.stl\"\r\nContent-Type: model/stl\r\n\r\nsolid\r\n-\r\n--b;\r\n--b;1\r\n\
         content-disposition:form-data;name=x;filename=y.obj\r\n\r\n\r\n--b;1--\r\nepilogue --b;1\r\n",
        &[upload("model", "part a.stl", "model/stl", Some(14)), upload("x", "y.obj", "", Some(0))],
    );
    // A preamble, blanks after the boundary.
    check(
        "preamble\r\n--b;1  \r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n123\r\n--b;1--",
        &[upload("f", "f", "", Some(3))],
    );
}

#[test]
fn file_names_in_every_spelling() {
    let name = |parameters: &str, expected: &str| {
        let body = format!(
            "--b;1\r\nContent-Disposition: form-data; name=\"f\"; {parameters}\r\n\r\n123\r\n--b;1--\r\n"
        );
        check(&body, &[upload("f", expected, "", Some(3))]);
    };
    name("filename=\"a\\\"b;c.stl\"", "a\"b;c.stl");
    name("filename=\"C:\\models\\part.stl\"", "part.stl");
    name("filename=\"../../etc/passwd\"", "passwd");
    name("filename*=UTF-8''Geh%C3%A4use.stl", "Gehäuse.stl");
    name("filename=\"Gehaeuse.stl\"; filename*=utf-8'de'Geh%C3%A4use.stl", "Gehäuse.stl");
    name("filename=\"x.stl\"; filename*=utf-8''bad%G1", "x.stl");
    name("filename=\"\"", "");
    name("FileName=a.stl", "a.stl");
}

/// What is kept of a request's body, in records of every size.
#[track_caller]
fn check_kept(content_type: &str, body: &str, limit: usize, expected: &[u8], whole: bool) {
    for size in [usize::MAX, 1, 2, 3, 7, 50] {
        let head = format!(
            "POST / HTTP/1.1\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut steps = vec![client(head)];
        steps.extend(body.as_bytes().chunks(size).map(client));
        steps.push(server("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"));
        let limits = Protocols { kept_body_bytes: limit, ..Protocols::default() };
        let mut connection = Connection::new(&limits);
        steps.iter().for_each(|step| connection.step(step));
        let mut events = Vec::new();
        while let Some(event) = connection.out.pop() {
            events.push(event);
        }
        let kept = &exchange(operations(&events)[0]).request_body;
        let shown = String::from_utf8_lossy(&kept.bytes);
        assert_eq!(shown, String::from_utf8_lossy(expected), "in records of {size}");
        assert_eq!((kept.len, kept.is_whole()), (body.len() as u64, whole), "in records of {size}");
    }
}

#[test]
fn fields_of_a_form_are_kept_wherever_they_stand_and_files_are_not() {
    let field = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = |len: usize| {
        let content = "0".repeat(len);
        format!("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n{content}\r\n")
    };
    let form = "multipart/form-data; boundary=b";
    let (one, two) = (field("order_id", "17"), field("note", "-\r\n--"));
    let body = format!("{}{one}{}{two}--b--\r\n", file(3000), file(5));
    check_kept(form, &body, 400, format!("{one}{two}--b").as_bytes(), true);
    // A field that is too long is left out, not cut.
    let body = format!("{}{one}--b--\r\n", field("data", &"1".repeat(500)));
    check_kept(form, &body, 400, format!("{one}--b").as_bytes(), true);
}

#[test]
fn of_a_json_document_only_long_strings_are_left_out() {
    let long = "A".repeat(5000);
    let body = format!(r#"{{"file": "{long}", "order_id": 17}}"#);
    let kept = format!(r#"{{"file": "{}", "order_id": 17}}"#, "A".repeat(1040));
    check_kept("application/json", &body, 2000, kept.as_bytes(), true);
    check_kept("text/html", &body, 2000, kept.as_bytes(), true);
    // What fits is kept as it is.
    check_kept("application/json", &body, 6000, body.as_bytes(), true);
    // Many short values are cut off, as ever.
    let many = format!("[{}1]", "1,".repeat(1500));
    check_kept("application/json", &many, 2000, &many.as_bytes()[..2000], false);
    check_kept("text/plain", &long, 2000, &long.as_bytes()[..2000], false);
}

#[test]
fn a_size_that_cannot_be_known_is_not_given() {
    let body = "--b;1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n0123456789\r\n--b;1\r\n\
         Content-Disposition: form-data; name=\"g\"; filename=\"g\"\r\n\r\nabc\r\n--b;1--\r\n";
    let hole_at = body.find("345").unwrap();
    let uploads =
        post(body, |body| vec![client(&body[..hole_at]), Step::ClientGap(3), client(&body[hole_at + 3..])]);
    assert_eq!(uploads, [upload("f", "f", "", None), upload("g", "g", "", Some(3))]);
    // A body that ends without its last delimiter.
    check(
        "--b;1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n0123",
        &[upload("f", "f", "", None)],
    );
}

#[test]
fn long_part_heads_and_many_files_are_bounded() {
    let part =
        |n: usize| format!("--b;1\r\nContent-Disposition: form-data; name=f; filename=\"{n}\"\r\n\r\n\r\n");
    let many: String = (0..100).map(part).collect();
    assert_eq!(post(&many, |body| vec![client(body)]).len(), 32);
    let long = format!("--b;1\r\nX: {}\r\n\r\n12\r\n{}--b;1--\r\n", "x".repeat(9000), part(1));
    assert_eq!(post(&long, |body| vec![client(body)]), [upload("f", "1", "", Some(0))]);
}

/// The beginning of a form of `len` bytes.
fn form(len: usize) -> Step {
    client(format!(
        "POST /files HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {len}\r\n\r\n"
    ))
}

#[test]
fn a_form_whose_fields_were_given_up_is_not_whole() {
    let first = "--b\r\nContent-Disposition: form-data; name=\"order_id\"\r\n\r\n17\r\n--b";
    let rest = "\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\r\n--b\r\n\
                Content-Disposition: form-data; name=\"f\"; filename=\"a.stl\"\r\n\r\n123\r\n--b--\r\n";
    let told = |relieve: bool| {
        let mut connection = Connection::new(&Protocols::default());
        connection.step(&form(first.len() + rest.len()));
        connection.step(&client(first));
        if relieve {
            connection.session.relieve();
        }
        connection.step(&client(rest));
        connection.step(&server("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"));
        let events: Vec<Event> = std::iter::from_fn(|| connection.out.pop()).collect();
        let exchange = exchange(operations(&events)[0]);
        assert_eq!(exchange.uploads, [upload("f", "a.stl", "", Some(3))]);
        (String::from_utf8_lossy(&exchange.request_body.bytes).into_owned(), exchange.request_body.is_whole())
    };
    let (kept, is_whole) = told(false);
    assert!(is_whole && kept.contains("17") && kept.contains("note"), "{kept}");
    assert_eq!(told(true), (String::new(), false));
}

#[test]
fn names_of_files_are_held_and_counted() {
    let name = "n".repeat(500);
    let parts: String = (0..32)
        .map(|_| {
            format!("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n1\r\n")
        })
        .collect();
    let mut connection = Connection::new(&Protocols::default());
    connection.step(&form(parts.len() + 100));
    let before = connection.session.held();
    connection.step(&client(&parts));
    let more = connection.session.held() - before;
    assert!((32 * 500..2 * 32 * 600).contains(&more), "{more}");
    // The account is at zero when the connection is over, or a debug assertion fails.
    connection.step(&Step::End(End::Closed));
}

#[test]
fn fields_that_turn_out_too_long_are_not_counted_again_and_again() {
    let field =
        format!("--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n{}\r\n", "x".repeat(20_000));
    let mut connection = Connection::new(&Protocols::default());
    connection.step(&form(field.len() * 20));
    let before = connection.session.held();
    for _ in 0..19 {
        for part in field.as_bytes().chunks(1000) {
            connection.step(&client(part));
        }
        assert!(connection.session.held() - before < 40_000, "{}", connection.session.held() - before);
    }
}
