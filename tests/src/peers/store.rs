//! The object store: nginx from a template → PUT and GET of models, logged to the truth.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Process, free_port, listens};
use crate::authority::Authority;

/// nginx as an object store: PUT and GET below `/models/`.
#[derive(Debug)]
pub struct Store {
    pub process: Process,
    pub port: u16,
    has_tls: bool,
    /// Where its files are, and what it says.
    dir: PathBuf,
    log: PathBuf,
}

impl Store {
    /// `config` is a template, see `services/store/nginx.conf`; requests are logged to `truth`.
    pub fn start(scratch: &Path, config: &Path, truth: &Path, tls: Option<&Authority>) -> Result<Self> {
        let dir = scratch.join("store");
        fs::create_dir_all(dir.join("objects/models"))?;
        if rustix::process::geteuid().is_root() {
            // Its workers give up root.
            fs::set_permissions(dir.join("objects/models"), fs::Permissions::from_mode(0o777))?;
        }
        let port = free_port()?;
        let certificate = |authority: &Authority| {
            let (certificate, key) = (authority.certificate.display(), authority.key.display());
            format!("ssl_certificate {certificate}; ssl_certificate_key {key};")
        };
        let template =
            fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
        let filled = template
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@PORT@", &port.to_string())
            .replace("@TRUTH@", &truth.to_string_lossy())
            .replace("@SSL@", if tls.is_some() { " ssl" } else { "" })
            .replace("@CERTIFICATE@", &tls.map_or_else(String::new, certificate));
        fs::write(dir.join("nginx.conf"), filled)?;
        let log = scratch.join("store.log");
        let process = serve(&dir, &log, port)?;
        Ok(Self { process, port, has_tls: tls.is_some(), dir, log })
    }

    /// Starts it again after its process was stopped.
    pub fn restart(&mut self) -> Result<()> {
        self.process = serve(&self.dir, &self.log, self.port)?;
        Ok(())
    }

    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

fn serve(dir: &Path, log: &Path, port: u16) -> Result<Process> {
    let mut server = Command::new("nginx");
    server.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).arg("-e").arg(dir.join("error.log"));
    let mut process = Process::start("nginx", &mut server, log)?;
    process.wait_until("ready", |_| listens(port))?;
    Ok(process)
}
