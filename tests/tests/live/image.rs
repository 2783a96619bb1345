//! The container image: built from the project's own files, looked at, and run as the DaemonSet runs it.
//!
//! `cargo xtask setup` brings buildah, which builds the image, and runc, which runs it. Nothing of either stays on the
//! machine: images and containers are below a temporary directory.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spoor_tests::forest::{self, CLIENT, SERVER, Span};
use spoor_tests::peers::Process;
use spoor_tests::skip::skip;
use spoor_tests::spoor::static_binary;
use spoor_tests::tools::tool;

const LIMIT: Duration = Duration::from_secs(30);

/// An image taken apart.
struct Image {
    /// Its files, layer upon layer.
    root: PathBuf,
    /// What it says of itself.
    config: Value,
    /// The digest of that, which names the image.
    id: String,
}

/// The static binary; else a skipped test.
fn wanted(programs: &[&str]) -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        skip("building an image here needs root");
        return None;
    }
    if let Some(program) = programs.iter().find(|program| tool(program).is_none()) {
        skip(&format!("{program} is not here: `cargo xtask setup` brings it"));
        return None;
    }
    static_binary().map_err(|reason| skip(&reason)).ok()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Builds the image by the command that users have, with nothing but the binary, and takes it apart below `directory`.
fn image(binary: &Path, directory: &Path) -> Image {
    let at = |name: &str| directory.join(name);
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        at("images").display(),
        at("running").display()
    );
    std::fs::create_dir_all(at("root")).unwrap();
    std::fs::write(at("storage.conf"), storage).unwrap();
    let mut xtask = Command::new(env!("CARGO"));
    xtask.args(["run", "--quiet", "--package", "xtask", "--", "image", "--builder", "buildah", "--binary"]);
    xtask.arg(binary).arg("--archive").arg(at("image.tar"));
    xtask.env("CONTAINERS_STORAGE_CONF", at("storage.conf")).env("BUILDAH_ISOLATION", "chroot");
    let said = succeed(xtask.current_dir(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(said.trim(), format!("localhost/spoor:{}", env!("CARGO_PKG_VERSION")));

    let unpack =
        |archive: &Path, to: &Path| succeed(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to));
    let parts = at("parts");
    std::fs::create_dir_all(&parts).unwrap();
    unpack(&at("image.tar"), &parts);
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(parts.join(name)).unwrap()).unwrap()
    };
    let manifest = read("manifest.json");
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        unpack(&parts.join(layer.as_str().unwrap()), &at("root"));
    }
    let id = manifest[0]["Config"].as_str().unwrap();
    Image { root: at("root"), config: read(id), id: id.to_owned() }
}

/// Mode, owner and path of everything below a directory.
fn listed(directory: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory.join(below)).unwrap().flatten() {
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        let meta = entry.metadata().unwrap();
        found.push(format!("{:o} {}:{} {path}", meta.mode(), meta.uid(), meta.gid()));
        if meta.is_dir() {
            found.extend(listed(directory, &path));
        }
    }
    found.sort_by(|a, b| a.rsplit(' ').cmp(b.rsplit(' ')));
    found
}

#[test]
fn image_holds_one_program_and_says_what_it_is() {
    let Some(binary) = wanted(&["buildah"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let Image { root, config, id } = image(&binary, directory.path());
    let files: Vec<String> = listed(&root, ".").into_iter().filter(|line| line.starts_with("100")).collect();
    assert_eq!(files, ["100644 0:0 ./etc/ssl/certs/ca-certificates.crt", "100755 0:0 ./usr/bin/spoor"]);
    assert_eq!(listed(&root, ".").len(), 2 + ["etc", "ssl", "certs", "usr", "bin"].len(), "{files:?}");
    let len = root.join("usr/bin/spoor").metadata().unwrap().len();
    assert!(len < 40 << 20, "{len} bytes");
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));
    let said = &config["config"];
    assert_eq!(said["Entrypoint"], json!(["/usr/bin/spoor"]));
    assert_eq!(said["Cmd"], json!(["run"]));
    assert_eq!(said["User"], "0:0");
    let label =
        |name: &str| said["Labels"][format!("org.opencontainers.image.{name}")].as_str().unwrap_or("");
    assert_eq!((label("title"), label("licenses")), ("Spoor", "MIT OR Apache-2.0"));
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert!(!label("description").is_empty() && !label("revision").is_empty(), "{said}");

    // Built again somewhere else it is the same, to the last bit.
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(image(&binary, elsewhere.path()).id, id);

    // What is in it runs, with nothing beside it.
    std::fs::write(root.join("spoor.yaml"), deployed("kubernetes/spoor.yaml")).unwrap();
    let inside =
        |arguments: &[&str]| succeed(Command::new("chroot").arg(&root).arg("/usr/bin/spoor").args(arguments));
    assert_eq!(inside(&["--version"]).trim(), format!("spoor {}", env!("CARGO_PKG_VERSION")));
    inside(&["config", "check", "/spoor.yaml"]);
}

fn deployed(path: &str) -> String {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy");
    std::fs::read_to_string(deploy.join(path)).unwrap()
}

/// The profile of system calls that the DaemonSet names: kubelet and OCI runtimes write it alike.
fn seccomp() -> Value {
    let manifest = deployed("kubernetes/daemonset.yaml");
    let name = format!("localhostProfile: spoor/spoor-{}.json", env!("CARGO_PKG_VERSION"));
    assert!(manifest.contains(&name), "the manifest has no {name}");
    serde_json::from_str(&deployed("kubernetes/seccomp/spoor.json")).unwrap()
}

/// The list behind `key: ` in the DaemonSet.
fn of_the_manifest(key: &str) -> Vec<String> {
    let manifest = deployed("kubernetes/daemonset.yaml");
    // Of the container, which comes after those that prepare it.
    let (_, container) = manifest.split_once("\n      containers:\n").unwrap();
    let list = container.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{key}: ")));
    serde_json::from_str(list.unwrap_or_else(|| panic!("no {key}"))).unwrap()
}

fn capabilities() -> Vec<String> {
    of_the_manifest("add").iter().map(|name| format!("CAP_{name}")).collect()
}

fn container_id() -> String {
    format!("spoor-{}", std::process::id())
}

/// What a runtime is told of the DaemonSet's container: the host's processes, a network of its own, four capabilities, and
/// nothing to write to but the spool.
fn bundle(directory: &Path, capabilities: &[String], arguments: &[&str]) {
    let manifest = deployed("kubernetes/daemonset.yaml");
    for line in
        ["hostPID: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "runAsUser: 0"]
    {
        assert!(manifest.contains(line), "the manifest has no {line}");
    }
    for name in ["config", "spool"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }
    std::fs::write(directory.join("config/spoor.yaml"), deployed("kubernetes/spoor.yaml")).unwrap();
    let entry = ["/usr/bin/spoor"];
    let bound = |from: &str, to: &str, how: &str| json!({ "source": directory.join(from), "destination": to, "type": "bind", "options": ["bind", how] });
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": entry.iter().chain(arguments).collect::<Vec<_>>(),
            "cwd": "/",
            "env": [
                "SPOOR_ADMIN_LISTEN=0.0.0.0:9797",
                "SPOOR_EXPORT_SPOOL_DIRECTORY=/var/lib/spoor/spool",
                // Nobody is there: the spans wait in the spool.
                "SPOOR_EXPORT_OTLP_ENDPOINT=http://127.0.0.1:4317",
            ],
            "user": { "uid": 0, "gid": 0 },
            "noNewPrivileges": true,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "root", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            bound("config", "/etc/spoor", "ro"),
            bound("spool", "/var/lib/spoor", "rw"),
        ],
        "linux": {
            "namespaces": [{ "type": "mount" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }],
            "seccomp": seccomp(),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    std::fs::write(directory.join("config.json"), spec.to_string()).unwrap();
}

fn runc(directory: &Path, arguments: &[&str]) -> Command {
    let mut runc = Command::new(tool("runc").unwrap());
    runc.arg("--root").arg(directory.join("runc")).args(arguments);
    runc
}

/// One order over HTTP: curl asks, this program answers.
fn order(number: u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/orders", listener.local_addr().unwrap());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--data", &format!("{{\"order_id\": {number}}}"), &url]);
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    });
    assert_eq!(succeed(curl.args(["--header", "content-type: application/json"])), "{}");
    answered.join().unwrap();
}

#[test]
fn doctor_in_the_container_names_each_capability_that_is_missing() {
    let Some(binary) = wanted(&["buildah", "runc"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    image(&binary, here);
    let all = capabilities();
    for missing in all.iter().map(Some).chain([None]) {
        let given: Vec<String> = all.iter().filter(|name| Some(*name) != missing).cloned().collect();
        bundle(here, &given, &["doctor", "--json"]);
        let output =
            runc(here, &["run", "--bundle", here.to_str().unwrap(), &container_id()]).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let findings: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        for name in &all {
            assert_eq!(said.contains(&format!("{name} missing")), Some(name) == missing, "{name}: {said}");
        }
        // Without the last two, services have shorter names.
        let may_go_on =
            missing.is_none_or(|name| ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"].contains(&name.as_str()));
        assert_eq!(findings["ok"], may_go_on, "without {missing:?}: {said}");
    }
}

#[test]
fn container_with_the_manifests_privileges_captures_a_request() {
    let Some(binary) = wanted(&["buildah", "runc", "curl", "nsenter"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    image(&binary, here);
    let id = container_id();
    let arguments = of_the_manifest("args");
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--print", "otlp-json"]);
    bundle(here, &capabilities(), &arguments);
    let (log, output) = (here.join("agent.log"), here.join("spans.jsonl"));
    let mut run = runc(here, &["run", "--bundle", here.to_str().unwrap(), &id]);
    let mut container = Process::start_with_output("the container", &mut run, &log, &output).unwrap();
    container.wait_for_line("ready:").unwrap();
    let state: Value = serde_json::from_str(&succeed(&mut runc(here, &["state", &id]))).unwrap();
    let pid = state["pid"].to_string();

    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    // 2 (dac_read_search), 19 (sys_ptrace), 38 (perfmon), 39 (bpf).
    let four = format!("{:016x}", 1_u64 << 2 | 1 << 19 | 1 << 38 | 1 << 39);
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(field(set), four, "{status}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "no profile is in force");

    // As the kubelet asks, in the pod's own network.
    let mut probe = Command::new("nsenter");
    probe.args(["--net", "--target", &pid, "curl", "--silent", "--fail", "http://127.0.0.1:9797/ready"]);
    succeed(&mut probe);

    order(4711);
    let spans = || -> Vec<Span> {
        let spans = forest::parse(&std::fs::read_to_string(&output).unwrap()).unwrap();
        spans.into_iter().filter(|span| span.text("order.id").as_deref() == Some("4711")).collect()
    };
    let end = Instant::now() + LIMIT;
    while spans().len() < 2 {
        assert!(Instant::now() < end, "{:?}\n{}", spans(), std::fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let spans = spans();
    let of_kind = |kind: u64| spans.iter().find(|span| span.kind == kind).expect("both ends are seen");
    let (client, server) = (of_kind(CLIENT), of_kind(SERVER));
    assert_eq!(client.service, "curl", "processes of the host have their names");
    assert_eq!((&server.trace_id, &server.parent_id), (&client.trace_id, &client.span_id));
    assert!(container.stop().unwrap(), "{}", std::fs::read_to_string(&log).unwrap());
    let waiting = listed(&here.join("spool"), ".");
    assert!(waiting.iter().any(|line| line.starts_with("100")), "nothing waits in the spool: {waiting:?}");
}
