//! Facts → the files of the order, above all its 3D model.

use std::collections::BTreeMap;

use super::{Artifact, prove};
use crate::facts::{ArtifactSeen, Fact, Step};

/// An order has at most so many files that are told apart.
const MAX_ARTIFACTS: usize = 32;
/// And each so many readers that are listed.
const MAX_FETCHES: usize = 32;

pub(super) fn artifacts(facts: &[Fact]) -> Vec<Artifact> {
    let mut found: BTreeMap<(&str, &str), Artifact> = BTreeMap::new();
    for fact in facts {
        let Step::Stored { verb, bucket, object } = &fact.step else { continue };
        let key = (bucket.as_str(), object.as_str());
        if object.is_empty() || (found.len() >= MAX_ARTIFACTS && !found.contains_key(&key)) {
            continue;
        }
        let artifact = found.entry(key).or_insert_with(|| Artifact {
            bucket: bucket.clone(),
            object: object.clone(),
            file_name: None,
            format: None,
            size: None,
            stored_at: None,
            upload_micros: None,
            failed: false,
            fetched: Vec::new(),
            evidence: Vec::new(),
        });
        prove(&mut artifact.evidence, fact.id);
        let failed = fact.trouble.is_some();
        if verb.starts_with("Put")
            || verb == "CompleteMultipartUpload"
            || verb == "UploadPart"
            || verb == "PUT"
        {
            artifact.failed = failed;
            if !failed {
                artifact.stored_at = Some(fact.to);
                artifact.upload_micros = Some(fact.to.since(fact.from));
            }
        } else if (verb.starts_with("Get") || verb == "GET") && artifact.fetched.len() < MAX_FETCHES {
            artifact.fetched.push((fact.service.clone(), fact.from));
        }
    }
    let mut artifacts: Vec<Artifact> = found.into_values().collect();
    describe(&mut artifacts, facts);
    artifacts.sort_by(|a, b| (&a.evidence, &a.object).cmp(&(&b.evidence, &b.object)));
    artifacts
}

/// What other operations say about a file: by its key in the store, or about the only file there is.
fn describe(artifacts: &mut [Artifact], facts: &[Fact]) {
    let only = artifacts.len() == 1;
    for artifact in artifacts {
        let concerns = |seen: &&ArtifactSeen| match &seen.key {
            Some(key) => artifact.object.ends_with(key.as_str()),
            None => only,
        };
        for seen in facts
            .iter()
            .filter_map(|fact| fact.artifact.as_ref())
            .filter(concerns)
            .cloned()
            .collect::<Vec<_>>()
        {
            artifact.file_name = artifact.file_name.take().or(seen.file_name);
            artifact.format = artifact.format.take().or(seen.format);
            artifact.size = artifact.size.or(seen.size);
        }
    }
}
