//! What Kubernetes says of a container → service and resource attributes.
//!
//! *Owns* the rules by which Kubernetes names services, and the table of this node's containers. Where the table comes
//! from is `client`, behind the feature `kubernetes`. *Must not know* records.
//! *Spec*: semantic conventions 1.44.0 `non-normative/k8s-attributes.md`, `resource/k8s/`.

#[cfg(feature = "kubernetes")]
mod client;
mod list;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::container::{Container, Pod};

#[cfg(feature = "kubernetes")]
pub use client::start;
pub use list::containers;

/// Why pods cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error("cannot ask Kubernetes for pods: {0}")]
    Setup(String),
    #[error("this agent was built without the feature `kubernetes`: `kubernetes.enabled` cannot be set")]
    NotBuilt,
}

/// Does not exist in this build.
#[cfg(not(feature = "kubernetes"))]
pub fn start(settings: &crate::config::Kubernetes) -> Result<Option<Arc<Pods>>, KubernetesError> {
    match settings.enabled {
        Some(true) => Err(KubernetesError::NotBuilt),
        _ => Ok(None),
    }
}

/// The containers of this node, as far as they are known.
#[derive(Debug, Default)]
pub struct Pods {
    containers: RwLock<HashMap<String, Arc<Container>>>,
    generation: AtomicU64,
    wanted: Mutex<bool>,
    ring: Condvar,
}

impl Pods {
    /// A container by its identifier. An unknown one is asked for soon.
    pub fn find(&self, id: &str) -> Option<Arc<Container>> {
        let found = self.containers.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if found.is_none() {
            *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.ring.notify_one();
        }
        found
    }

    /// Grows with every change of the table.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The containers there are now.
    pub fn replace(&self, new: HashMap<String, Container>) {
        let mut containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        let same = containers.len() == new.len()
            && new
                .iter()
                .all(|(id, container)| containers.get(id).is_some_and(|known| **known == *container));
        if !same {
            *containers = new.into_iter().map(|(id, container)| (id, Arc::new(container))).collect();
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits until somebody asks for a container that is not known, at most `longest`.
    pub fn wait(&self, longest: Duration) {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ring.wait_timeout_while(wanted, longest, |wanted| !*wanted);
        if let Ok((mut wanted, _)) = waited {
            *wanted = false;
        }
    }
}

/// Annotations with this beginning are resource attributes.
const ANNOTATION: &str = "resource.opentelemetry.io/";
/// Attributes taken from annotations at most, and their longest value.
const MAX_ANNOTATIONS: usize = 16;
const MAX_VALUE: usize = 256;

/// A service, as Kubernetes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub service: Option<String>,
    pub namespace: Option<String>,
}

/// Names the service of a container. `labels`: well-known labels count too, for which users have to opt in.
pub fn name(container: &Container, labels: bool) -> Named {
    let Some(pod) = &container.pod else { return Named::default() };
    let annotation = |key: &str| given(pod.annotations.get(&format!("{ANNOTATION}{key}")));
    let label = |key: &str| given(pod.labels.get(key).filter(|_| labels));
    let service = annotation("service.name")
        .or_else(|| label("app.kubernetes.io/instance"))
        .or_else(|| label("app.kubernetes.io/name"))
        .or_else(|| workload(pod).map(|(_, name)| name))
        .or_else(|| given(Some(&pod.name)))
        .or_else(|| given(Some(&container.name)));
    let namespace = annotation("service.namespace").or_else(|| given(Some(&pod.namespace)));
    Named { service, namespace }
}

/// `k8s.*`, `container.*`, and what annotations declare.
pub fn attributes(container: &Container, labels: bool) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() && all.iter().all(|(known, _)| known != key) {
            all.push((key.to_owned(), value.chars().take(MAX_VALUE).collect()));
        }
    };
    add("container.name", &container.name);
    add("container.image.name", container.image_name());
    let Some(pod) = &container.pod else { return all };
    add("k8s.namespace.name", &pod.namespace);
    add("k8s.pod.name", &pod.name);
    add("k8s.pod.uid", &pod.uid);
    add("k8s.container.name", &container.name);
    add("k8s.node.name", &pod.node);
    if let Some((kind, name)) = &pod.owner {
        add(owner_attribute(kind), name);
    }
    if let Some((kind, name)) = workload(pod) {
        add(owner_attribute(&kind), &name);
    }
    let version = pod.labels.get("app.kubernetes.io/version").filter(|_| labels).map(String::as_str);
    let declared =
        pod.annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATION)?, value)));
    for (key, value) in declared.take(MAX_ANNOTATIONS) {
        // Those two name the service itself.
        if !matches!(key, "service.name" | "service.namespace") {
            add(key, value);
        }
    }
    add("service.version", version.or_else(|| container.image_tag()).unwrap_or_default());
    all
}

fn given(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

fn owner_attribute(kind: &str) -> &'static str {
    match kind {
        "Deployment" => "k8s.deployment.name",
        "ReplicaSet" => "k8s.replicaset.name",
        "StatefulSet" => "k8s.statefulset.name",
        "DaemonSet" => "k8s.daemonset.name",
        "CronJob" => "k8s.cronjob.name",
        "Job" => "k8s.job.name",
        _ => "k8s.workload.name",
    }
}

/// What people made: the Deployment of a ReplicaSet, the CronJob of a Job, else the pod's owner.
fn workload(pod: &Pod) -> Option<(String, String)> {
    let (kind, name) = pod.owner.as_ref()?;
    let above = match kind.as_str() {
        // A Deployment's ReplicaSet is named after it and the hash of the pod template, which is a label of its pods.
        "ReplicaSet" => pod
            .labels
            .get("pod-template-hash")
            .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'))
            .map(|deployment| ("Deployment", deployment)),
        // A CronJob's Job is named after it and the minute it was due.
        "Job" => name
            .rsplit_once('-')
            .filter(|(_, due)| due.len() >= 8 && due.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|(cron, _)| ("CronJob", cron)),
        _ => None,
    };
    let (kind, name) = above.unwrap_or((kind, name));
    (!name.is_empty()).then(|| (kind.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(
        owner: Option<(&str, &str)>,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> Container {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Container {
            name: "main".to_owned(),
            image: "acme/shop:1.2".to_owned(),
            pod: Some(Pod {
                namespace: "factory".to_owned(),
                name: "shop-7d9-x".to_owned(),
                labels: map(labels),
                annotations: map(annotations),
                owner: owner.map(|(kind, name)| (kind.to_owned(), name.to_owned())),
                ..Pod::default()
            }),
        }
    }

    #[track_caller]
    fn check(container: &Container, labels: bool, service: &str, namespace: &str) {
        let expected = Named { service: Some(service.to_owned()), namespace: Some(namespace.to_owned()) };
        assert_eq!(name(container, labels), expected);
    }

    #[test]
    fn services_are_named_in_the_order_of_the_conventions() {
        let instance = [("app.kubernetes.io/instance", "i"), ("app.kubernetes.io/name", "n")];
        let declared = [
            ("resource.opentelemetry.io/service.name", "a"),
            ("resource.opentelemetry.io/service.namespace", "b"),
        ];
        check(&container(None, &instance, &declared), true, "a", "b");
        check(&container(None, &instance, &[]), true, "i", "factory");
        check(&container(None, &instance[1..], &[]), true, "n", "factory");
        check(&container(Some(("StatefulSet", "mes")), &instance, &[]), false, "mes", "factory");
        let hash = [("pod-template-hash", "7d9")];
        check(&container(Some(("ReplicaSet", "shop-7d9")), &hash, &[]), false, "shop", "factory");
        check(&container(Some(("ReplicaSet", "bare")), &hash, &[]), false, "bare", "factory");
        check(&container(Some(("Job", "report-28374650")), &[], &[]), false, "report", "factory");
        check(&container(Some(("Job", "migrate")), &[], &[]), false, "migrate", "factory");
        check(&container(None, &[], &[]), false, "shop-7d9-x", "factory");
        assert_eq!(name(&Container::default(), true), Named::default());
    }

    #[test]
    fn attributes_say_where_a_container_runs() {
        let hash = [("pod-template-hash", "7d9")];
        let declared = [("resource.opentelemetry.io/deployment.environment.name", "prod"), ("other", "x")];
        let all = attributes(&container(Some(("ReplicaSet", "shop-7d9")), &hash, &declared), false);
        let expected = [
            ("container.name", "main"),
            ("container.image.name", "acme/shop"),
            ("k8s.namespace.name", "factory"),
            ("k8s.pod.name", "shop-7d9-x"),
            ("k8s.container.name", "main"),
            ("k8s.replicaset.name", "shop-7d9"),
            ("k8s.deployment.name", "shop"),
            ("deployment.environment.name", "prod"),
            ("service.version", "1.2"),
        ];
        assert_eq!(all, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn table_tells_its_changes() {
        let pods = Pods::default();
        assert_eq!(pods.find("a"), None);
        let one = || HashMap::from([("a".to_owned(), container(None, &[], &[]))]);
        pods.replace(one());
        assert_eq!(pods.generation(), 1);
        pods.replace(one());
        assert_eq!(pods.generation(), 1);
        assert!(pods.find("a").is_some());
        // Asked for above: does not wait.
        pods.wait(Duration::from_secs(60));
    }
}
