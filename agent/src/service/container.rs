//! A container's identifier → what the container runtime keeps about it: its name, image and pod.
//!
//! *Owns* reading the files that containerd, CRI-O and Docker keep, under the root of process 1 (no mount and no socket is
//! needed: the agent sees the host's processes anyway). *Must not know* how services are named.
//! *Spec*: annotations of CRI runtimes (`io.kubernetes.cri.*`, `io.kubernetes.*`); Docker's `config.v2.json`. None of these
//! files is an interface with a promise: what is not found is left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Larger files are not read.
const MAX_FILE: u64 = 4 << 20;

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// With its tag or digest.
    pub image: String,
    pub pod: Option<Pod>,
}

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Kind and name of what made it: a ReplicaSet, a StatefulSet.
    pub owner: Option<(String, String)>,
    pub node: String,
}

impl Container {
    /// Image without tag and digest: `registry:5000/acme/shop` of `registry:5000/acme/shop:1.2@sha256:…`.
    pub fn image_name(&self) -> &str {
        let image = self.image.split('@').next().unwrap_or_default();
        match image.rsplit_once(':') {
            // A port is before the path.
            Some((name, tag)) if !tag.contains('/') => name,
            _ => image,
        }
    }

    /// `1.2` of `acme/shop:1.2`.
    pub fn image_tag(&self) -> Option<&str> {
        let image = self.image.split('@').next()?;
        image.get(self.image_name().len()..)?.strip_prefix(':').filter(|tag| !tag.is_empty())
    }
}

/// Where runtimes keep their files.
#[derive(Clone, Debug)]
pub struct Runtimes {
    root: PathBuf,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self { root: PathBuf::from("/proc/1/root") }
    }
}

impl Runtimes {
    /// Another place for the host's root directory.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Looks a container up. Costs a few failed opens when no runtime knows it.
    pub fn find(&self, id: &str) -> Option<Container> {
        // It becomes part of a path.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let containerd = "run/containerd/io.containerd.runtime.v2.task";
        let k3s = "run/k3s/containerd/io.containerd.runtime.v2.task";
        let storage = "containers/storage/overlay-containers";
        [
            (format!("{containerd}/k8s.io/{id}/config.json"), bundle as fn(&Value) -> Option<Container>),
            (format!("{k3s}/k8s.io/{id}/config.json"), bundle),
            (format!("run/{storage}/{id}/userdata/config.json"), bundle),
            (format!("var/lib/docker/containers/{id}/config.v2.json"), docker),
            (format!("{containerd}/default/{id}/config.json"), bundle),
        ]
        .into_iter()
        .find_map(|(path, parse)| parse(&self.read(&path)?))
    }

    fn read(&self, path: &str) -> Option<Value> {
        let path = self.root.join(path);
        let metadata = std::fs::metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// An OCI bundle's `config.json` with the annotations of containerd's CRI plugin, CRI-O or nerdctl.
fn bundle(config: &Value) -> Option<Container> {
    let annotations = config.get("annotations")?.as_object()?;
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| annotations.get(*name)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let pod_name = text(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let container = Container {
        name: text(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]),
        image: text(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]),
        pod: (!pod_name.is_empty()).then(|| Pod {
            namespace: text(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
            name: pod_name,
            uid: text(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
            // CRI-O keeps them as JSON in a string.
            labels: serde_json::from_str(&text(&["io.kubernetes.cri-o.Labels"])).unwrap_or_default(),
            ..Pod::default()
        }),
    };
    (!container.name.is_empty() || container.pod.is_some()).then_some(container)
}

fn docker(config: &Value) -> Option<Container> {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/Name").trim_start_matches('/');
    // Compose names containers `project-shop-1`; its service is what people call it.
    let service = text("/Config/Labels/com.docker.compose.service");
    let name = if service.is_empty() { name } else { service };
    let image = text("/Config/Image").to_owned();
    (!name.is_empty()).then(|| Container { name: name.to_owned(), image, pod: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn with(path: &str, text: &str) -> Option<Container> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(path.replace("ID", ID));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        Runtimes::at(root.path()).find(ID)
    }

    #[test]
    fn containerd_names_container_and_pod() {
        let text = r#"{"annotations": {"io.kubernetes.cri.container-name": "shop",
            "io.kubernetes.cri.image-name": "registry:5000/acme/shop:1.2", "io.kubernetes.cri.sandbox-name": "shop-7d9-x",
            "io.kubernetes.cri.sandbox-namespace": "factory", "io.kubernetes.cri.sandbox-uid": "u-1"}}"#;
        let found = with("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json", text).unwrap();
        assert_eq!(
            (found.name.as_str(), found.image_name(), found.image_tag()),
            ("shop", "registry:5000/acme/shop", Some("1.2"))
        );
        let pod = found.pod.unwrap();
        assert_eq!(
            (pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()),
            ("factory", "shop-7d9-x", "u-1")
        );
    }

    #[test]
    fn crio_names_labels_too() {
        let text = r#"{"annotations": {"io.kubernetes.container.name": "mes", "io.kubernetes.pod.name": "mes-0",
            "io.kubernetes.pod.namespace": "factory", "io.kubernetes.cri-o.Labels": "{\"app\":\"mes\"}"}}"#;
        let found = with("run/containers/storage/overlay-containers/ID/userdata/config.json", text).unwrap();
        assert_eq!(found.name, "mes");
        assert_eq!(found.pod.unwrap().labels.get("app").map(String::as_str), Some("mes"));
    }

    #[test]
    fn docker_names_the_container_or_its_compose_service() {
        let path = "var/lib/docker/containers/ID/config.v2.json";
        let found = with(path, r#"{"Name": "/shop", "Config": {"Image": "acme/shop@sha256:00"}}"#).unwrap();
        assert_eq!((found.name.as_str(), found.image_name(), found.image_tag()), ("shop", "acme/shop", None));
        let text =
            r#"{"Name": "/factory-crm-1", "Config": {"Labels": {"com.docker.compose.service": "crm"}}}"#;
        assert_eq!(with(path, text).unwrap().name, "crm");
    }

    #[test]
    fn odd_files_and_identifiers_are_no_container() {
        let path = "var/lib/docker/containers/ID/config.v2.json";
        for text in ["", "{}", "[]", "{\"Name\": 5}", "{\"Name\": \"\"}"] {
            assert_eq!(with(path, text), None, "{text}");
        }
        let runtimes = Runtimes::at(Path::new("/"));
        assert_eq!(runtimes.find("../../etc/passwd"), None);
        assert_eq!(runtimes.find(""), None);
    }
}
