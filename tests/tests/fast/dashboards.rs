//! What operators look at and what they are spared: dashboards whose queries Prometheus takes, a gateway that keeps every order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use spoor::metrics::durations::METRICS as DURATIONS;
use spoor::metrics::prometheus::{Format, Page, Process};
use spoor::metrics::readings::{METRICS, Reading};
use spoor_tests::skip::skip;
use spoor_tests::tools::tool;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

/// Name and content of every dashboard.
fn dashboards() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(deploy().join("grafana")).unwrap().flatten();
    let all = entries.map(|entry| {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name.clone(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
    });
    all.collect()
}

/// The queries of a dashboard, with what Grafana puts into them.
fn queries(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            found.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    let fill = |query: String| {
        query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$service", ".*")
    };
    found.into_iter().map(fill).collect()
}

#[test]
fn dashboards_are_whole_and_tell_their_data_source_from_others() {
    let all = dashboards();
    assert!(all.len() >= 4, "{}", all.len());
    let mut uids = BTreeSet::new();
    for (name, dashboard) in &all {
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}");
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}");
        for panel in panels {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {}", panel["title"]);
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{name}: {place}");
        }
    }
}

#[test]
fn every_query_is_one_that_prometheus_takes() {
    let Some(promtool) = tool("promtool") else {
        return skip("promtool is not here: `cargo xtask setup` brings it");
    };
    let directory = tempfile::tempdir().unwrap();
    for (name, dashboard) in dashboards() {
        let rules: String = queries(&dashboard)
            .iter()
            .enumerate()
            .map(|(at, query)| {
                format!("      - record: query:{at}\n        expr: {}\n", Value::from(query.as_str()))
            })
            .collect();
        let path = directory.path().join("rules.yaml");
        std::fs::write(&path, format!("groups:\n  - name: queries\n    rules:\n{rules}")).unwrap();
        let output = Command::new(&promtool).args(["check", "rules"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_metric_of_a_dashboard_is_one_that_agents_have() {
    let mut page = Page::new(Format::Text);
    page.build(&[]);
    page.readings(&METRICS.iter().map(|metric| Reading::plain(metric.name, 1)).collect::<Vec<_>>());
    page.process(&Process::default());
    let page = page.finish();
    let mut known: BTreeSet<String> =
        page.lines().filter_map(|line| line.split([' ', '{']).next()).map(str::to_owned).collect();
    for metric in DURATIONS {
        let base = format!("{}_seconds", metric.name.replace('.', "_"));
        known.extend(["_bucket", "_sum", "_count"].map(|end| format!("{base}{end}")));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // What the server of orders counts is checked with the server.
    for (name, dashboard) in dashboards().into_iter().filter(|(name, _)| name != "orders.json") {
        for query in queries(&dashboard) {
            let words = query.split(|c: char| !is_name(c));
            let ends =
                ["_total", "_seconds", "_bucket", "_count", "_sum", "_bytes", "_queue", "_info", "_open"];
            let metrics: Vec<&str> =
                words.filter(|word| ends.iter().any(|end| word.ends_with(end))).collect();
            assert!(!metrics.is_empty() || query.contains("spoor_operations_pending"), "{name}: {query}");
            for metric in metrics {
                assert!(known.contains(metric), "{name}: no agent has {metric}: {query}");
            }
        }
    }
}

/// The conditions of the gateway, each as its lines.
fn policies() -> Vec<String> {
    let text = std::fs::read_to_string(deploy().join("collector/gateway.yaml")).unwrap();
    let policies = text.split("    policies:\n").nth(1).unwrap().split("\nexporters:").next().unwrap();
    policies.split("      - name: ").skip(1).map(str::to_owned).collect()
}

#[test]
fn the_gateway_samples_no_order_away() {
    let keeps = |policy: &String| {
        policy.contains("type: string_attribute")
            && policy.contains("key: order.id\n")
            && policy.contains("values: [\".+\"]")
            && policy.contains("enabled_regex_matching: true")
            && !policy.contains("invert_match: true")
    };
    let all = policies();
    assert!(all.len() >= 5, "{all:?}");
    assert!(all.iter().any(keeps), "an order without an error, short so far, has to be kept: {all:?}");
    // A condition that drops would win over those that keep.
    assert!(!all.iter().any(|policy| policy.contains("type: drop") || policy.contains("invert_match: true")));
}

#[test]
fn collectors_call_the_exporter_by_its_name_and_batch_behind_it() {
    for name in ["agent", "gateway"] {
        let text = std::fs::read_to_string(deploy().join(format!("collector/{name}.yaml"))).unwrap();
        assert!(!text.contains("loadbalancing/") && !text.contains("\n  batch:\n"), "{name}: {text}");
        assert!(text.contains("sending_queue:") && text.contains("max_size: 2048"), "{name}: {text}");
    }
}
