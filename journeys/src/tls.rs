//! Connections → connections over TLS 1.2 and 1.3, with a certificate that may be another one tomorrow.
//!
//! *Owns* the listener and the certificate. *Spec*: RFC 8446. A handshake runs in a task of its own: who connects and says
//! nothing keeps nobody else waiting.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at a time, and how long one may take.
const MAX_HANDSHAKES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);
/// The certificate's files are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After an error that concerns all connections, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    #[error("the certificate cannot be used with the key")]
    Unfit(#[from] rustls::Error),
}

/// A certificate in files that somebody renews.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads a chain and its key from PEM files.
    pub fn open(chain: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let now = RwLock::new(Arc::new(read(chain, key)?));
        Ok(Arc::new(Self { chain: chain.to_owned(), key: key.to_owned(), now }))
    }

    /// Reads the files again. What cannot be used leaves the certificate as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(read(&self.chain, &self.key)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// When the files were last written.
    fn written(&self) -> [Option<SystemTime>; 2] {
        [&self.chain, &self.key].map(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
    }

    /// Reloads whenever the files changed, for ever. Renewers write two files: a pair that does not fit is looked at again.
    async fn follow(self: Arc<Self>) {
        let mut known = self.written();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = self.written();
            if found == known {
                continue;
            }
            match self.reload() {
                Ok(()) => {
                    known = found;
                    tracing::info!(chain = %self.chain.display(), "the certificate was renewed");
                }
                Err(error) => {
                    tracing::error!(%error, "the new certificate cannot be used: the one before stays")
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed(chain))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(chain.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    let fit = CertifiedKey::new(certificates, ring::sign::any_supported_type(&key)?);
    fit.keys_match()?;
    Ok(fit)
}

/// Takes connections whose handshake went well.
#[derive(Debug)]
pub struct Listener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener {
    /// Begins to accept, in tasks of their own.
    pub fn new(listener: TcpListener, certificate: Arc<Certificate>) -> Result<Self, TlsError> {
        let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let provider = Arc::new(ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (done, ready) = mpsc::channel(16);
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), done, certificate));
        Ok(Self { ready, address })
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    certificate: Arc<Certificate>,
) {
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (acceptor, done) = (acceptor.clone(), done.clone());
            tokio::spawn(async move {
                // Whoever speaks no TLS, or too slowly, is let go without a word.
                if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                    let _ = done.send((stream, peer)).await;
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = certificate.follow() => {}
        () = done.closed() => {}
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // Only when the runtime ends.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Writes a new certificate; its bytes.
    fn renew(folder: &Path) -> CertificateDer<'static> {
        let made =
            rcgen::generate_simple_self_signed(vec!["spoor.example".to_owned()]).expect("a certificate");
        fs::write(folder.join("chain.pem"), made.cert.pem()).expect("written");
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        made.cert.der().clone()
    }

    /// What a client that trusts `trusted` gets from the server.
    async fn ask(address: SocketAddr, trusted: &CertificateDer<'static>) -> io::Result<Vec<u8>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone()).expect("a root");
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("spoor.example").expect("a name");
        let stream = TcpStream::connect(address).await?;
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let mut said = vec![0; 5];
        stream.read_exact(&mut said).await?;
        Ok(said)
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = renew(folder.path());
        let certificate =
            Certificate::open(&folder.path().join("chain.pem"), &folder.path().join("key.pem")).expect("one");
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut listener = Listener::new(tcp, certificate.clone()).expect("a listener");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await;
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        });
        // Who connects and says nothing, and who speaks something else, keep nobody waiting.
        let _silent = TcpStream::connect(address).await.expect("connected");
        let mut other = TcpStream::connect(address).await.expect("connected");
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
        assert_eq!(ask(address, &first).await.expect("an answer"), b"hello");
        let second = renew(folder.path());
        certificate.reload().expect("reloaded");
        assert_eq!(ask(address, &second).await.expect("an answer"), b"hello");
        assert!(ask(address, &first).await.is_err(), "the one before is not shown any more");
        // A key that belongs to another certificate, and no key at all.
        let chain = fs::read(folder.path().join("chain.pem")).expect("a file");
        renew(folder.path());
        fs::write(folder.path().join("chain.pem"), chain).expect("written");
        assert!(certificate.reload().is_err());
        fs::write(folder.path().join("key.pem"), "nonsense").expect("written");
        assert!(certificate.reload().is_err());
        assert_eq!(ask(address, &second).await.expect("an answer"), b"hello", "it stays");
    }
}
