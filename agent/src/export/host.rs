//! What is the same for every span of this agent: the machine and the agent itself.

use std::sync::Arc;

/// The machine spans were seen on and the agent that saw them: part of every resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `host.id`: `/etc/machine-id`. Jaeger's correction of clock skew needs it.
    pub id: Arc<str>,
    /// `host.name`.
    pub name: Arc<str>,
    /// `host.arch` in OpenTelemetry's words: `amd64`, `arm64`.
    pub arch: &'static str,
    /// `os.version`: the kernel's release.
    pub kernel: Arc<str>,
    /// Digest of the rules that name orders and join spans: agents with different rules show.
    pub rules_digest: Arc<str>,
}

impl Host {
    /// This machine. What cannot be read stays empty and is left out of resources.
    pub fn local(rules_digest: &str) -> Self {
        let uname = rustix::system::uname();
        let text = |value: &std::ffi::CStr| Arc::from(value.to_string_lossy().as_ref());
        Self {
            id: machine_id().into(),
            name: text(uname.nodename()),
            arch: arch(),
            kernel: text(uname.release()),
            rules_digest: rules_digest.into(),
        }
    }

    /// The same agent looking at another machine's recording.
    pub fn with_id(mut self, id: &str) -> Self {
        if !id.is_empty() && *self.id != *id {
            self.id = id.into();
            // Name and kernel of the machine that replays say nothing about the one that was recorded.
            self.name = "".into();
            self.kernel = "".into();
        }
        self
    }
}

/// `/etc/machine-id` (machine-id(5): 32 hexadecimal digits), or D-Bus' older place for it; empty when neither is there.
pub fn machine_id() -> String {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
