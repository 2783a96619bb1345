//! The exporter while the world around it changes: settings, certificates, a disk that is full.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use spoor::config::{Otlp, OtlpProtocol};
use spoor::export::Host;
use spoor_core::span::Span;
use spoor_tests::exporting::{settings, span, start, wait};
use spoor_tests::sink::{Options, Sink};
use spoor_tests::skip::skip;

/// A span with a longer name than others.
fn long_span(number: u32, name_len: usize) -> Span {
    Span { name: format!("span {number}{}", "x".repeat(name_len)), ..span(number, "shop") }
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn what_waits_for_one_receiver_is_delivered_to_another_after_a_reload() {
    let sink = Sink::start();
    let exporter = start(&settings("http://127.0.0.1:1"));
    (0..10).for_each(|number| exporter.offer(&span(number, "shop")));
    wait(&exporter, "tried", |totals| totals.retries > 0);
    let other = settings(&sink.grpc_url());
    exporter.retarget(&other.otlp, &Host::default()).unwrap();
    wait(&exporter, "delivered", |totals| totals.exported == 10);
    // Settings that cannot be used change nothing.
    let bad = Otlp { certificate: Some("/nonexistent".to_owned()), ..other.otlp };
    assert!(exporter.retarget(&bad, &Host::default()).is_err());
    exporter.offer(&span(10, "shop"));
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.exported, totals.dropped.total()), (11, 0));
    assert_eq!(sink.spans().len(), 11);
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM and DER.
fn issue(issuer: &Issuer) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

#[test]
fn renewed_certificates_are_used_without_a_restart() {
    let (old, new) = (authority(), authority());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(new.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let (certificate, key) = issue(&new);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let sink = Sink::with(Options { tls: Some(Arc::new(server)), ..Options::default() });

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let write = |issuer: &Issuer| {
        let (certificate, key) = issue(issuer);
        std::fs::write(file("client.pem"), certificate.pem()).unwrap();
        std::fs::write(file("client.key"), key.serialize_pem()).unwrap();
    };
    std::fs::write(file("ca.pem"), new.pem()).unwrap();
    write(&old);
    let mut settings = settings(&format!("https://localhost:{}", sink.http_address().port()));
    settings.otlp.protocol = Some(OtlpProtocol::HttpProtobuf);
    settings.otlp.certificate = Some(file("ca.pem"));
    settings.otlp.client_certificate = Some(file("client.pem"));
    settings.otlp.client_key = Some(file("client.key"));
    let exporter = start(&settings);
    exporter.offer(&span(1, "shop"));
    wait(&exporter, "refused with the old certificate", |totals| totals.retries > 0);
    assert_eq!(exporter.totals().exported, 0);
    // Half written: not usable, and looked at again.
    std::fs::write(file("client.key"), "-----BEGIN").unwrap();
    let retries = exporter.totals().retries;
    wait(&exporter, "tried again", |totals| totals.retries > retries);
    write(&new);
    wait(&exporter, "delivered with the new certificate", |totals| totals.exported == 1);
    assert_eq!(exporter.shutdown(LONG).dropped.total(), 0);
}

/// A file system of its own, as small as wanted.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path, kilobytes: u32) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"]).arg(path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(path))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn full_disk_costs_only_what_memory_cannot_hold_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(directory.path(), 128) else {
        return skip("mounting a small file system needs root");
    };
    let address: std::net::SocketAddr = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let mut settings = settings(&format!("http://{address}"));
    settings.otlp.max_request_bytes = 16 << 10;
    settings.spool.directory = directory.path().join("spool").to_str().unwrap().to_owned();
    settings.spool.memory_bytes = 64 << 10;
    let exporter = start(&settings);
    wait(&exporter, "started", |_| true);
    // 600 spans of a kilobyte: the disk holds about a hundred, memory about sixty.
    for number in 0..600 {
        exporter.offer(&long_span(number, 1000));
        // The export thread keeps up, until the disk is full.
        if number % 10 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    wait(&exporter, "dropped for want of room", |totals| {
        totals.dropped.queue_full > 200 && totals.spooled > 40
    });
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let end = wait(&exporter, "everything else delivered", |totals| totals.waiting + totals.spooled == 0);
    assert_eq!(end.exported + end.dropped.total(), 600, "{end:?}");
    let totals = exporter.shutdown(LONG);
    assert_eq!(sink.spans().len() as u64, totals.exported);
    // What is left is whole, and in order.
    let numbers: Vec<u32> = sink
        .spans()
        .iter()
        .map(|span| span.name["span ".len()..].trim_end_matches('x').parse().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}
