//! The cgroup paths of a process → its container and its systemd unit.

use procfs::process::Process;

/// What cgroup paths tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// The runtime's identifier, 64 hexadecimal digits (some runtimes use 32 and more with dashes).
    pub container: Option<String>,
    /// `shop` of `shop.service`, also of an instance `shop@2.service`.
    pub unit: Option<String>,
}

/// The paths of a process, one per hierarchy.
pub(super) fn paths(process: &Process) -> Vec<String> {
    let groups = process.cgroups().map(|groups| groups.0).unwrap_or_default();
    groups.into_iter().map(|group| group.pathname).collect()
}

/// What all paths of a process tell together.
pub(super) fn of(paths: &[String]) -> Cgroup {
    paths.iter().fold(Cgroup::default(), |known, path| {
        let found = parse(path);
        Cgroup { container: known.container.or(found.container), unit: known.unit.or(found.unit) }
    })
}

/// Reads one path, such as `/kubepods.slice/…/cri-containerd-<id>.scope` or `/system.slice/shop.service`.
pub fn parse(path: &str) -> Cgroup {
    let segments = || path.split('/').filter(|segment| !segment.is_empty());
    let container = segments().rev().find_map(container_id);
    let unit = match container {
        // Inside a container, paths end in whatever its own manager made.
        Some(_) => None,
        None => segments().rev().find_map(unit_name),
    };
    Cgroup { container, unit }
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `libpod-<id>.scope`, or the identifier alone.
fn container_id(segment: &str) -> Option<String> {
    let stem = segment.strip_suffix(".scope").unwrap_or(segment);
    // containerd also writes `<namespace>:<prefix>:<id>`.
    let last = stem.rsplit([':', '-']).next().unwrap_or(stem);
    let is_id = last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| last.to_owned())
}

fn unit_name(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".service")?;
    // `user@1000.service` is a session of a person.
    let name = name.split('@').next().filter(|name| !name.is_empty() && *name != "user")?;
    Some(unescaped(name))
}

/// systemd writes `-` as `\x2d` (systemd.unit(5), "String escaping").
fn unescaped(name: &str) -> String {
    name.replace("\\x2d", "-").replace("\\x40", "@")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(path: &str, container: bool, unit: Option<&str>) {
        let path = path.replace("ID", ID);
        let expected = Cgroup { container: container.then(|| ID.to_owned()), unit: unit.map(str::to_owned) };
        assert_eq!(parse(&path), expected, "{path}");
    }

    #[test]
    fn containers_and_units_are_told_from_paths() {
        check("/", false, None);
        check("/docker/ID", true, None);
        check("/system.slice/docker-ID.scope", true, None);
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-ID.scope",
            true,
            None,
        );
        check("/kubepods/besteffort/pod0cb6d9b9-1d2c-4f0a-9f5c-1b2b3c4d5e6f/ID", true, None);
        check("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID", true, None);
        check("/machine.slice/libpod-ID.scope/container/init.service", true, None);
        check("/system.slice/shop.service", false, Some("shop"));
        check("/system.slice/system-shop.slice/shop@2.service", false, Some("shop"));
        check("/system.slice/order\\x2dentry.service", false, Some("order-entry"));
        check("/system.slice/rabbitmq-server.service/leaf", false, Some("rabbitmq-server"));
        check("/user.slice/user-1000.slice/user@1000.service/app.slice", false, None);
        check("/user.slice/user-1000.slice/session-3.scope", false, None);
    }
}
