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
