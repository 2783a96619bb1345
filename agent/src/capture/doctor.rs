//! What this kernel and these privileges allow, for `spoor doctor`: the running system in, [`Finding`]s out.

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

/// One fact about the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub level: Level,
    pub says: String,
    pub remedy: Option<String>,
}

/// Everything that decides whether capture works here.
pub fn findings() -> Vec<Finding> {
    Vec::new()
}
