//! The client against an API server that is none.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Answers each connection once, in order, and tells what was asked; the last answer is repeated.
fn api(answers: Vec<(u16, String)>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(len) if len > 0 => request.extend_from_slice(&buffer[..len]),
                    _ => return,
                }
            }
            let (status, body) = answers.get(count).or(answers.last()).unwrap();
            let head =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(body.as_bytes());
            if tell.send(String::from_utf8_lossy(&request).into_owned()).is_err() {
                return;
            }
        }
    });
    (url, told)
}

fn settings(api: &str, directory: &std::path::Path) -> Kubernetes {
    let token = directory.join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    Kubernetes {
        enabled: Some(true),
        api: api.to_owned(),
        node: "node-1".to_owned(),
        token_file: token.to_str().unwrap().to_owned(),
        ca_file: String::new(),
        refresh: Duration::from_millis(10),
        ..Kubernetes::default()
    }
}

fn list(name: &str) -> String {
    format!(
        r#"{{"items": [{{"metadata": {{"namespace": "factory", "name": "{name}"}},
            "status": {{"containerStatuses": [{{"name": "main", "containerID": "cri-o://c1"}}]}}}}]}}"#
    )
}

fn wait(pods: &Pods, generation: u64) {
    let end = Instant::now() + Duration::from_secs(20);
    while pods.generation() < generation {
        assert!(Instant::now() < end, "the table stays at {}", pods.generation());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn pods_of_this_node_only_are_asked_for_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (url, told) =
        api(vec![(200, list("a-0")), (500, String::new()), (200, "<html>".to_owned()), (200, list("b-0"))]);
    let pods = start(&settings(&url, directory.path())).unwrap().unwrap();
    wait(&pods, 1);
    let request = told.recv().unwrap();
    assert!(request.starts_with("GET /api/v1/pods?fieldSelector=spec%2EnodeName%3Dnode%2D1&"), "{request}");
    assert!(request.contains("authorization: Bearer t0ken\r\n"), "{request}");
    assert_eq!(pods.find("c1").unwrap().pod.as_ref().unwrap().name, "a-0");
    // Errors in between keep what is known.
    wait(&pods, 2);
    assert_eq!(pods.find("c1").unwrap().pod.as_ref().unwrap().name, "b-0");
}

#[test]
fn outside_kubernetes_nothing_is_asked() {
    assert!(start(&Kubernetes { node: String::new(), ..Kubernetes::default() }).unwrap().is_none());
    let off = Kubernetes {
        enabled: Some(false),
        api: "http://x".into(),
        node: "n".into(),
        ..Kubernetes::default()
    };
    assert!(start(&off).unwrap().is_none());
    let nowhere = Kubernetes { enabled: Some(true), api: "http://x".into(), ..Kubernetes::default() };
    assert!(start(&nowhere).unwrap_err().to_string().contains("kubernetes.node"));
}
