//! What is deployed: manifests, chart, unit, alert rules and the Debian package are what their tools take.
//!
//! `cargo xtask setup` brings promtool, helm, kubectl and kubernetes-validate. Tools that are not here are named in the
//! skipped tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use spoor_tests::recorded::fixtures;
use spoor_tests::skip::skip;
use spoor_tests::spoor::{binary, spoor, static_binary};
use spoor_tests::tools::tool;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a tool in a directory; its output, and whether it was content.
fn run(tool: &Path, directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(tool).args(arguments).current_dir(directory).output().expect("the tool runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn content(tool: &Path, directory: &Path, arguments: &[&str]) -> String {
    let (good, text) = run(tool, directory, arguments);
    assert!(good, "{} {arguments:?}: {text}", tool.display());
    text
}

/// Files of a kind below a directory.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_yaml_file_is_yaml() {
    let all = files(&deploy(), "yaml");
    assert!(all.len() >= 12, "{all:?}");
    for path in all {
        // A template is YAML only after it was rendered.
        if path.components().any(|part| part.as_os_str() == "templates") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let place = |line, column| spoor::config::Place::File { name: "x".into(), line, column };
            let parsed = spoor::config::node::Node::parse(document, &place);
            assert!(parsed.is_ok(), "{}: {parsed:?}", path.display());
        }
    }
}

#[test]
fn packaged_configurations_are_valid() {
    for path in ["kubernetes/spoor.yaml", "debian/spoor.yaml"] {
        let path = deploy().join(path);
        let said = spoor(&["config", "check", path.to_str().unwrap()], &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[test]
fn images_are_called_by_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (path, line) in [
        ("docker/Dockerfile", format!("ARG VERSION={version}\n")),
        ("docker/Dockerfile", format!("--tag spoor:{version} ")),
        ("kubernetes/kustomization.yaml", format!("newTag: \"{version}\"")),
        ("helm/spoor/Chart.yaml", format!("appVersion: \"{version}\"")),
        ("README.md", format!("localhost/spoor:{version}")),
    ] {
        assert!(read(path).contains(&line), "{path} does not say {line:?}");
    }
}

/// The names behind `key` on one line of a file.
fn capabilities(text: &str, key: &str) -> BTreeSet<String> {
    let line =
        text.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_else(|| panic!("no {key}"));
    let list = line.split_once(key).unwrap().1;
    let words = list.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).filter(|word| !word.is_empty());
    words.map(|word| word.trim_start_matches("CAP_").to_owned()).collect()
}

#[test]
fn everything_asks_for_the_same_four_capabilities() {
    let expected: BTreeSet<String> =
        ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"].map(str::to_owned).into();
    assert_eq!(capabilities(&read("kubernetes/daemonset.yaml"), "add:"), expected);
    assert_eq!(capabilities(&read("helm/spoor/values.yaml"), "capabilities:"), expected);
    for key in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
        assert_eq!(capabilities(&read("systemd/spoor.service"), key), expected);
    }
    assert!(read("README.md").contains("`CAP_BPF`, `CAP_PERFMON`"));
}

/// The number before `unit` behind `key`, in MiB.
fn mebibytes(text: &str, key: &str) -> Vec<u64> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix(key));
    let number = |value: &str| {
        let value = value.trim();
        let (digits, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit())?);
        Some(digits.parse::<u64>().ok()? * if unit == "G" || unit == "Gi" { 1024 } else { 1 })
    };
    values.filter_map(number).collect()
}

#[test]
fn what_traffic_may_make_the_agent_hold_is_half_of_what_is_deployed() {
    let held = spoor_core::settings::Limits::default().memory_bytes as u64 >> 20;
    for (path, key) in [
        ("kubernetes/daemonset.yaml", "memory:"),
        ("helm/spoor/values.yaml", "memory:"),
        ("systemd/spoor.service", "MemoryMax="),
    ] {
        let limit = mebibytes(&read(path), key).into_iter().max();
        assert!(limit.is_some_and(|limit| 2 * held <= limit), "{path}: {limit:?} MiB");
    }
}

#[test]
fn alert_rules_are_valid_and_fire_as_meant() {
    let Some(promtool) = tool("promtool") else {
        return skip("promtool is not here: `cargo xtask setup` brings it");
    };
    let directory = deploy().join("alerting");
    content(&promtool, &directory, &["check", "rules", "spoor.rules.yaml"]);
    content(&promtool, &directory, &["test", "rules", "spoor.rules.test.yaml"]);
}

#[test]
fn alert_rules_name_metrics_that_exist() {
    use spoor::metrics::prometheus::{Format, Page};
    use spoor::metrics::readings::{METRICS, Reading};
    let mut page = Page::new(Format::Text);
    let readings: Vec<Reading> = METRICS.iter().map(|metric| Reading::plain(metric.name, 1)).collect();
    page.readings(&readings);
    let page = page.finish();
    let rules = read("alerting/spoor.rules.yaml");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let expressions = rules.lines().filter_map(|line| line.trim_start().strip_prefix("expr: "));
    let names: BTreeSet<&str> = expressions
        .flat_map(|expression| expression.split(|c: char| !is_name(c)))
        .filter(|word| word.starts_with("spoor_") && !word.contains("_bucket"))
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let is_recorded = rules.contains(&format!("record: service_protocol:{name}"));
        assert!(page.contains(&format!("\n{name} ")) || is_recorded, "no metric is called {name}");
    }
}

#[test]
fn manifests_are_what_kubernetes_takes() {
    let Some(validate) = tool("kubernetes-validate") else {
        return skip("kubernetes-validate is not here: `cargo xtask setup` brings it");
    };
    let directory = tempfile::tempdir().unwrap();
    let mut rendered = Vec::new();
    match tool("kubectl") {
        Some(kubectl) => {
            let text = content(&kubectl, &deploy(), &["kustomize", "kubernetes"]);
            assert!(text.contains("kind: DaemonSet") && text.contains("kind: NetworkPolicy"), "{text}");
            rendered.push(("kustomize".to_owned(), text));
        }
        None => {
            for name in ["namespace", "rbac", "service", "networkpolicy", "daemonset"] {
                rendered.push(("plain".to_owned(), read(&format!("kubernetes/{name}.yaml"))));
            }
        }
    }
    rendered.extend(chart().into_iter().map(|(name, text)| (name, plain(&text))));
    for (name, text) in rendered {
        let path = directory.path().join("rendered.yaml");
        std::fs::write(&path, text).unwrap();
        for version in ["1.27", "1.31"] {
            let arguments = ["--strict", "-k", version, path.to_str().unwrap()];
            let (good, text) = run(&validate, directory.path(), &arguments);
            // AppArmor's profile moved into the security context in 1.30.
            let newer = version == "1.27" && text.contains("appArmorProfile");
            assert!(good || newer, "{name} for {version}: {text}");
        }
    }
}

/// The chart with its defaults and with everything switched over, if helm is here.
fn chart() -> Vec<(String, String)> {
    let Some(helm) = tool("helm") else { return Vec::new() };
    let chart = deploy().join("helm");
    let render = |options: &[&str]| {
        let mut arguments =
            vec!["template", "x", "spoor", "--namespace", "spoor", "--kube-version", "1.31.0"];
        arguments.extend(options);
        let output = Command::new(&helm).args(&arguments).current_dir(&chart).output().expect("helm runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let other = "otlp.tlsSecret=t,otlp.headersSecret=h,hashSecret=k,privileged=true,kubernetesMetadata=false,spool.enabled=false";
    let mut all = vec![
        ("chart".to_owned(), render(&[])),
        ("chart, switched over".to_owned(), render(&["--set", other])),
    ];
    for values in files(&chart.join("spoor/ci"), "yaml") {
        all.push((values.display().to_string(), render(&["--values", values.to_str().unwrap()])));
    }
    all
}

/// Kinds of operators, of which a plain cluster knows nothing.
const FOREIGN: [&str; 4] = ["PodMonitor", "PrometheusRule", "SecurityContextConstraints", "ServiceMonitor"];

/// What of a rendered chart a plain cluster takes.
fn plain(text: &str) -> String {
    let foreign =
        |document: &&str| FOREIGN.iter().any(|kind| document.contains(&format!("\nkind: {kind}\n")));
    text.split("\n---\n").filter(|document| !foreign(document)).collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn chart_is_clean_and_says_what_the_manifests_say() {
    let Some(helm) = tool("helm") else { return skip("helm is not here: `cargo xtask setup` brings it") };
    let chart = deploy().join("helm");
    let text = content(&helm, &chart, &["lint", "spoor"]);
    assert!(text.contains("0 chart(s) failed"), "{text}");
    let rendered = &chart_default();
    for word in [
        "hostPID: true",
        "readOnlyRootFilesystem: true",
        "path: /ready",
        "SPOOR_KUBERNETES_NODE",
        "operator: Exists",
    ] {
        assert!(rendered.contains(word) && read("kubernetes/daemonset.yaml").contains(word), "{word}");
    }
    let (good, text) = run(&helm, &chart, &["template", "spoor", "--set", "admin.prot=1"]);
    assert!(!good && text.contains("prot"), "a mistyped value is refused: {text}");
}

#[test]
fn every_value_of_the_chart_is_used_and_described() {
    let (templates, values) =
        (files(&deploy().join("helm/spoor/templates"), "yaml"), read("helm/spoor/values.yaml"));
    let mut used = read("helm/spoor/templates/_helpers.tpl") + &read("helm/spoor/templates/NOTES.txt");
    used.extend(templates.iter().map(|path| std::fs::read_to_string(path).unwrap()));
    let readme = read("helm/spoor/README.md");
    let keys = values.lines().filter(|line| !line.starts_with([' ', '#', '-']) && line.contains(':'));
    let keys: Vec<&str> = keys.filter_map(|line| line.split(':').next()).collect();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        assert!(used.contains(&format!(".Values.{key}")), "no template uses {key}");
        assert!(readme.contains(&format!("`{key}")), "README.md of the chart does not say what {key} is");
    }
}

#[test]
fn operators_get_their_objects_and_grafana_its_dashboards() {
    let all = chart();
    if all.is_empty() {
        return skip("helm is not here: `cargo xtask setup` brings it");
    }
    let with = |name: &str| &all.iter().find(|(values, _)| values.ends_with(name)).expect(name).1;
    for kind in FOREIGN {
        assert!(with("operators-values.yaml").contains(&format!("kind: {kind}\n")), "{kind}");
    }
    let full = with("full-values.yaml");
    let dashboards = files(&deploy().join("grafana"), "json");
    assert_eq!(full.matches("grafana_dashboard: \"1\"").count(), dashboards.len());
    for line in std::fs::read_to_string(&dashboards[0]).unwrap().lines().take(20) {
        assert!(full.contains(line), "{line}");
    }
    for word in
        ["spc_t", "@sha256:0123", "tracer-account", "tracer-extra", "name: tracer-text", "namespace: tracing"]
    {
        assert!(full.contains(word), "{word}");
    }
    assert!(!full.contains("namespace: spoor\n"), "an object outside of the namespace");
}

fn chart_default() -> String {
    chart().into_iter().next().map(|(_, text)| text).unwrap_or_default()
}

/// The ports of the chart's network policy with an endpoint.
fn ports_with(endpoint: &str) -> Option<String> {
    let helm = tool("helm")?;
    let set = format!("otlp.endpoint={endpoint}");
    let template = "templates/networkpolicy.yaml";
    let arguments =
        ["template", "x", "helm/spoor", "--kube-version", "1.31.0", "--show-only", template, "--set", &set];
    Some(content(&helm, &deploy(), &arguments))
}

#[test]
fn network_policy_lets_spans_out_to_the_port_of_the_endpoint_and_names_where_to() {
    for text in [Some(read("kubernetes/networkpolicy.yaml")), ports_with("http://collector:4317")]
        .into_iter()
        .flatten()
    {
        let egress = text.split("egress:").nth(1).unwrap();
        assert!(egress.contains("port: 4317") && egress.matches("- to:").count() >= 2, "{text}");
    }
    for (endpoint, port) in [
        ("http://$(HOST_IP):4318", "4318"),
        ("http://vt.monitoring:10428/insert/opentelemetry", "10428"),
        ("https://otlp.example.org/v1/traces", "443"),
    ] {
        let Some(text) = ports_with(endpoint) else {
            return skip("helm is not here: `cargo xtask setup` brings it");
        };
        assert!(text.contains(&format!("port: {port}, protocol: TCP")), "{endpoint}: {text}");
    }
}

#[test]
fn pod_runs_under_the_profile_that_its_image_installs() {
    let name = format!("spoor/spoor-{}.json", env!("CARGO_PKG_VERSION"));
    let mut all = vec![read("kubernetes/daemonset.yaml")];
    all.extend(Some(chart_default()).filter(|text| !text.is_empty()));
    for text in all {
        assert!(text.contains(&format!("localhostProfile: {name}")), "{text}");
        assert!(text.contains(&format!("[\"seccomp\", \"--install\", \"/host/seccomp/{name}\"]")), "{text}");
        assert!(!text.contains("seccompProfile:\n              type: Unconfined"), "{text}");
    }
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join(name);
    let said = spoor(&["seccomp", "--install", file.to_str().unwrap()], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let installed = std::fs::read_to_string(file).unwrap();
    assert_eq!(installed, read("kubernetes/seccomp/spoor.json"));
    assert_eq!(installed, spoor(&["seccomp"], &[]).out);
}

#[test]
fn unit_is_what_systemd_takes() {
    let Some(systemd) = tool("systemd-analyze") else { return skip("systemd-analyze is not installed") };
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("spoor.service");
    // The binary where it is, instead of where the package puts it; no manual page here.
    let text = read("systemd/spoor.service")
        .replace("/usr/bin/spoor", binary().to_str().unwrap())
        .replace("Documentation=man:spoor(1) ", "Documentation=");
    std::fs::write(&unit, text).unwrap();
    let text = content(&systemd, directory.path(), &["verify", "--man=no", unit.to_str().unwrap()]);
    let about: Vec<&str> = text.lines().filter(|line| line.contains("spoor.service")).collect();
    assert!(about.is_empty(), "{about:?}");
}

#[test]
fn proxy_in_front_of_jaeger_is_valid() {
    let Some(nginx) = tool("nginx") else { return skip("nginx is not installed") };
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap();
    let key = rcgen::generate_simple_self_signed(vec!["traces.example.org".to_owned()]).unwrap();
    std::fs::write(directory.path().join("tls.crt"), key.cert.pem()).unwrap();
    std::fs::write(directory.path().join("tls.key"), key.signing_key.serialize_pem()).unwrap();
    let text = read("jaeger/nginx.conf").replace("/etc/nginx/tls", here).replace("/var/log/nginx", here);
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, format!("pid {here}/pid;\n{text}")).unwrap();
    content(&nginx, directory.path(), &["-t", "-e", "stderr", "-c", file.to_str().unwrap()]);
}

#[test]
fn debian_package_installs_runs_and_is_removed() {
    let (Some(_), Some(dpkg)) = (tool("dpkg-deb"), tool("dpkg")) else {
        return skip("this is no Debian: no dpkg");
    };
    if !rustix::process::geteuid().is_root() {
        return skip("installing a package needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let workspace = deploy().parent().unwrap().to_owned();
    let mut xtask = Command::new(env!("CARGO"));
    xtask.args(["run", "--quiet", "--package", "xtask", "--", "package", "--binary"]);
    xtask.arg(binary()).arg("--output").arg(&output).current_dir(workspace);
    let made = xtask.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let package = String::from_utf8(made.stdout).unwrap().trim().to_owned();

    // A system of its own below the temporary directory; scripts do not run there, their syntax is checked.
    for script in ["postinst", "prerm", "postrm"] {
        content(Path::new("/bin/sh"), &deploy().join("debian"), &["-n", script]);
    }
    let root = directory.path().join("root");
    for path in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let at = format!("--root={}", root.display());
    let options = [at.as_str(), "--force-depends", "--force-script-chrootless", "--force-not-root"];
    let dpkg_with = |more: &[&str]| {
        let mut arguments = options.to_vec();
        arguments.extend(more);
        content(&dpkg, directory.path(), &arguments)
    };
    dpkg_with(&["--install", &package]);
    let installed = root.join("usr/bin/spoor");
    let version = content(&installed, directory.path(), &["--version"]);
    assert!(version.starts_with("spoor "), "{version}");
    for path in [
        "usr/lib/systemd/system/spoor.service",
        "etc/spoor/spoor.yaml",
        "usr/share/man/man1/spoor.1.gz",
        "usr/share/man/man1/spoor-run.1.gz",
        "usr/share/bash-completion/completions/spoor",
        "usr/share/doc/spoor/copyright",
    ] {
        assert!(root.join(path).is_file(), "{path} is not installed");
    }
    let configuration = root.join("etc/spoor/spoor.yaml");
    content(&installed, directory.path(), &["config", "check", configuration.to_str().unwrap()]);
    dpkg_with(&["--remove", "spoor"]);
    assert!(!installed.exists() && configuration.exists(), "configuration stays until it is purged");
    dpkg_with(&["--purge", "spoor"]);
    assert!(!configuration.exists() && !root.join("usr/share/doc/spoor").exists());
}

/// The binary of the image, run where there is no other file: no library, no loader, no `/proc`.
#[test]
fn static_binary_needs_no_other_file() {
    let binary = match static_binary() {
        Ok(binary) => binary,
        Err(reason) => return skip(&reason),
    };
    if !rustix::process::geteuid().is_root() {
        return skip("changing the root directory needs root");
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(&binary, root.path().join("spoor")).unwrap();
    let fixtures = fixtures();
    std::fs::copy(fixtures.join("http1/curl.pcap"), root.path().join("curl.pcap")).unwrap();
    let chroot = tool("chroot").unwrap();
    let said = |arguments: &[&str]| {
        let mut all = vec![root.path().to_str().unwrap(), "/spoor"];
        all.extend(arguments);
        content(&chroot, root.path(), &all)
    };
    assert!(said(&["--version"]).starts_with("spoor "));
    assert!(said(&["config", "default"]).contains("cgroup_percent"));
    let spans = said(&["replay", "/curl.pcap", "--print", "otlp-json"]);
    assert!(spans.contains("resourceSpans") && spans.contains("curl"), "{spans}");
    // Here, with what the machine has: everything the doctor says is known to the other binary, too.
    let (_, doctor) = run(&binary, root.path(), &["doctor", "--json"]);
    assert!(doctor.contains("hooks"), "{doctor}");
}

#[test]
fn manual_and_completions_name_every_command() {
    let manual = spoor(&["man"], &[]);
    assert_eq!(manual.code, Some(0));
    for command in ["run", "record", "replay", "doctor", "config"] {
        assert!(manual.out.contains(command), "{command} is not in the manual");
        let page = spoor(&["man", command], &[]);
        assert!(page.out.contains(".TH") && page.out.contains(&format!("spoor\\-{command}")), "{}", page.out);
        for shell in ["bash", "zsh", "fish"] {
            assert!(spoor(&["completions", shell], &[]).out.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(spoor(&["man", "nothing"], &[]).code, Some(2));
}
