//! A certificate that loopback's servers show and their clients trust, in the forms that programs read.
//!
//! *Owns* that it is made anew for each test. *Must not know* who uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::peers::run;
use crate::tools::tool;

/// Of the stores that Java reads.
pub const PASSWORD: &str = "changeit";

/// A certificate of 127.0.0.1 and `localhost`, and who signed it.
#[derive(Clone, Debug)]
pub struct Authority {
    /// PEM.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both in one file.
    pub pem: PathBuf,
    /// What clients trust.
    pub trusted: PathBuf,
    /// PKCS #12 with the key, its certificate and what is trusted, for Java, where its tools are.
    pub store: Option<PathBuf>,
}

impl Authority {
    /// Makes it in a directory.
    pub fn new(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "orders: whom the tests trust");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let pem = write("server.pem", &format!("{certificate}{key}"))?;
        let trusted = write("trusted.crt", &issuer.pem())?;
        let (certificate, key) = (write("server.crt", &certificate)?, write("server.key", &key)?);
        let store = tool("keytool").map(|_| dir.join("server.p12"));
        if let Some(store) = &store {
            let mut export = Command::new("openssl");
            export.args(["pkcs12", "-export", "-passout", &format!("pass:{PASSWORD}")]);
            run(export.arg("-inkey").arg(&key).arg("-in").arg(&certificate).arg("-out").arg(store))?;
            let mut trust = Command::new("keytool");
            trust.args(["-importcert", "-noprompt", "-alias", "trusted", "-storepass", PASSWORD]);
            run(trust.arg("-keystore").arg(store).arg("-file").arg(&trusted))?;
        }
        Ok(Self { certificate, key, pem, trusted, store })
    }

    /// What a client in Rust trusts.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.trusted)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}
