//! The JSON of a `PodList` → containers by identifier.
//!
//! *Spec*: Kubernetes API v1 `PodList`; identifiers are `<runtime>://<id>`.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::service::container::{Container, Pod};

/// What is used of the API's objects; the rest is skipped.
#[derive(Debug, Deserialize)]
struct PodList {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Deserialize)]
struct Owner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Deserialize)]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "containerID")]
    container_id: Option<String>,
}

/// Annotations are kept only where they are read.
const ANNOTATION: &str = super::ANNOTATION;

/// Reads a list; the error says why it is none.
pub fn containers(json: &[u8]) -> Result<HashMap<String, Container>, String> {
    let list: PodList =
        serde_json::from_slice(json).map_err(|error| format!("the answer is no PodList: {error}"))?;
    let mut all = HashMap::new();
    for item in list.items {
        let owners = item.metadata.owner_references.unwrap_or_default();
        let owner = owners.into_iter().find(|owner| owner.controller != Some(false));
        let mut annotations = item.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| key.starts_with(ANNOTATION));
        let pod = Pod {
            namespace: item.metadata.namespace,
            name: item.metadata.name,
            uid: item.metadata.uid,
            labels: item.metadata.labels.unwrap_or_default(),
            annotations,
            owner: owner.map(|owner| (owner.kind, owner.name)),
            node: item.spec.node_name,
        };
        let status = item.status;
        let lists =
            [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
        for container in lists.into_iter().flatten().flatten() {
            let id = container.container_id.unwrap_or_default();
            if let Some((_, id)) = id.split_once("://").filter(|(_, id)| !id.is_empty()) {
                let known =
                    Container { name: container.name, image: container.image, pod: Some(pod.clone()) };
                all.insert(id.to_owned(), known);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_read_with_all_their_containers() {
        let json = br#"{"kind": "PodList", "items": [
            {"metadata": {"namespace": "factory", "name": "shop-0", "uid": "u", "labels": {"app": "shop"},
              "annotations": {"resource.opentelemetry.io/service.name": "s", "secret": "x"},
              "ownerReferences": [{"kind": "StatefulSet", "name": "shop", "controller": true}]},
             "spec": {"nodeName": "n1"},
             "status": {"containerStatuses": [{"name": "main", "image": "a:1", "containerID": "containerd://c0ffee"},
               {"name": "waiting"}], "initContainerStatuses": [{"name": "init", "containerID": "containerd://beef"}]}},
            {"metadata": {"name": "pending"}}]}"#;
        let all = containers(json).unwrap();
        assert_eq!(all.len(), 2);
        let main = &all["c0ffee"];
        let pod = main.pod.as_ref().unwrap();
        assert_eq!((main.name.as_str(), pod.node.as_str(), pod.annotations.len()), ("main", "n1", 1));
        assert_eq!(pod.owner, Some(("StatefulSet".to_owned(), "shop".to_owned())));
        assert_eq!(all["beef"].name, "init");
    }

    #[test]
    fn anything_else_is_an_error() {
        assert!(containers(b"<html>").unwrap_err().contains("no PodList"));
        assert!(containers(br#"{"items": 5}"#).is_err());
        assert!(containers(br#"{"kind": "Status"}"#).unwrap().is_empty());
    }
}
