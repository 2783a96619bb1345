//! Where settings come from, and what is said about wrong ones.

use super::super::{Compression, OtlpProtocol, document, environment};
use super::*;
use spoor_core::causality::Rule;

fn check(text: &str, expected: &str) {
    let error = parse("spoor.yaml", text).expect_err(text);
    assert_eq!(error.to_string(), expected, "for {text:?}");
}

#[test]
fn wrong_settings_are_located_and_named() {
    check(
        "export:\n  otpl:\n    endpoint: x\n",
        "spoor.yaml:2:3: `export`: unknown key `otpl`; did you mean `otlp`?",
    );
    check(
        "export:\n  otlp:\n    endpont: http://a:4317\n",
        "spoor.yaml:3:5: `export.otlp`: unknown key `endpont`; did you mean `endpoint`?",
    );
    check(
        "services:\n  zzz: 1\n",
        "spoor.yaml:2:3: `services`: unknown key `zzz`; known are `names`, `exclude`",
    );
    check(
        "capture:\n  ring_bytes: many\n",
        "spoor.yaml:2:15: `capture.ring_bytes`: the text `many` where a whole number is wanted",
    );
    check(
        "capture: { ring_bytes: 99999999999 }\n",
        "spoor.yaml:1:24: `capture.ring_bytes`: 99999999999 is out of range, 0 to 4294967295",
    );
    check(
        "capture: { ring_bytes: 5000000 }\n",
        "spoor.yaml:1:24: `capture.ring_bytes`: 5000000 is not a power of two; 8388608 is",
    );
    check(
        "joining:\n  linger: 5 apples\n",
        "spoor.yaml:2:11: `joining.linger`: `5 apples` is not a duration such as `250ms`, `2s`, `5m`, `24h`",
    );
    check(
        "joining:\n  rules: [context, thraed]\n",
        "spoor.yaml:2:20: `joining.rules[1]`: unknown value `thraed`; did you mean `thread`?",
    );
    check(
        "joining: { min_confidence: 1.5 }",
        "spoor.yaml:1:28: `joining.min_confidence`: 1.5 is out of range, 0 to 1",
    );
    check(
        "services:\n  names:\n    - name: shop\n",
        "spoor.yaml:3:7: `services.names[0]`: a rule needs a condition: `exe`, `command` or `port`",
    );
    check(
        "export: { otlp: { protocol: http } }",
        "spoor.yaml:1:29: `export.otlp.protocol`: unknown value `http`; known are `grpc`, `http/protobuf`, `http/json`",
    );
    check(
        "export: { otlp: { endpoint: 'localhost:4317' } }",
        "spoor.yaml:1:29: `export.otlp.endpoint`: `localhost:4317` has no scheme: write `http://localhost:4317`, \
         or `https://localhost:4317` for TLS",
    );
    check(
        "state: { save_every: 20ms }",
        "spoor.yaml:1:22: `state.save_every`: is shorter than a second; `0` writes at the end only",
    );
    check("export: [1, 2]", "spoor.yaml:1:9: `export`: a list where a mapping is wanted");
    check(
        "capture:\n  ring_bytes: 1048576\n  ring_bytes: 2097152\n",
        "spoor.yaml:3:3: `ring_bytes` is given twice, first at spoor.yaml:2:3",
    );
    check("- 1\n", "spoor.yaml:1:1: a list where a mapping is wanted");
}

#[test]
fn broken_yaml_is_located() {
    let error = parse("spoor.yaml", "export:\n  otlp: [\n").unwrap_err().to_string();
    assert!(error.starts_with("spoor.yaml:") && error.contains("not valid YAML"), "{error}");
    let error = parse("spoor.yaml", "a: 1\n---\nb: 2\n").unwrap_err().to_string();
    assert!(error.contains("second document"), "{error}");
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
    }
    let error = parse("bomb.yaml", &text).unwrap_err();
    assert!(error.message.contains("aliases repeat too much"), "{error}");
    let deep = "[".repeat(10_000);
    assert!(parse("deep.yaml", &deep).is_err());
}

#[test]
fn default_document_reads_back_as_the_default() {
    let text = document::default_yaml();
    assert_eq!(
        parse("default.yaml", &text).unwrap_or_else(|e| panic!("{e}\n{text}")),
        Config::default(),
        "{text}"
    );
    // Every key is documented.
    let lines: Vec<&str> = text.lines().collect();
    let mut list = None;
    let inside = |list: &mut Option<usize>, line: &str| {
        let depth = line.len() - line.trim_start().len();
        if list.is_some_and(|above| depth > above) {
            return true;
        }
        *list = line
            .ends_with(':')
            .then_some(depth)
            .filter(|_| ["keys:", "attributes:", "routes:"].contains(&line.trim()));
        false
    };
    for pair in lines.windows(2) {
        let [above, line] = pair else { continue };
        // Settings, not the entries of lists.
        let depth = line.len() - line.trim_start().len();
        let is_key = !line.trim_start().starts_with(['#', '-'])
            && line.contains(':')
            && depth <= 4
            && !inside(&mut list, line);
        assert!(!is_key || above.trim_start().starts_with('#'), "`{line}` has no description\n{text}");
    }
}

#[test]
fn empty_and_commented_files_are_the_default() {
    for text in ["", "\n", "# nothing\n", "---\n", "export:\n", "\u{feff}export:\n"] {
        assert_eq!(
            parse("f", text).unwrap_or_else(|e| panic!("{text:?}: {e}")),
            Config::default(),
            "{text:?}"
        );
    }
}

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn each_source_wins_over_those_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spoor.yaml");
    std::fs::write(
        &path,
        "export: { otlp: { endpoint: 'http://file:4317' }, spool: { directory: /var/spool } }",
    )
    .unwrap();
    let flag = |value: &str| Flag {
        option: "--otlp-endpoint",
        path: &["export", "otlp", "endpoint"],
        value: value.to_owned(),
    };
    let endpoint = |env: &[(&str, &str)], flags: &[Flag]| {
        let loaded = load(Some(&path), &pairs(env), flags).unwrap();
        assert_eq!(loaded.config.export.spool.directory, "/var/spool");
        loaded.config.export.otlp.endpoint
    };
    let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4317");
    let own = ("SPOOR_EXPORT_OTLP_ENDPOINT", "http://own:4317");
    assert_eq!(endpoint(&[], &[]), "http://file:4317");
    assert_eq!(endpoint(&[standard], &[]), "http://standard:4317");
    assert_eq!(endpoint(&[own, standard], &[]), "http://own:4317");
    assert_eq!(endpoint(&[own, standard], &[flag("http://flag:4317")]), "http://flag:4317");
    assert_eq!(endpoint(&[("SPOOR_EXPORT_OTLP_ENDPOINT", "")], &[]), "http://file:4317");
}

#[test]
fn variables_take_every_type() {
    let given = pairs(&[
        ("SPOOR_CAPTURE_RING_BYTES", "1048576"),
        ("SPOOR_JOINING_MIN_CONFIDENCE", "0.9"),
        ("SPOOR_JOINING_LINGER", "250ms"),
        ("SPOOR_JOINING_RULES", "[context, wire]"),
        ("SPOOR_EXPORT_OTLP_HEADERS", r#"{"x-tenant": "7", authorization: "Bearer a:b"}"#),
        ("SPOOR_EXPORT_OTLP_METRICS", "false"),
        ("SPOOR_SERVICES_NAMES", "[{port: 8080, name: shop}]"),
        ("SPOOR_EXPORT_OTLP_COMPRESSION", "none"),
        ("SPOOR_ORDER_DEPLOYMENT", "yes: it is text"),
    ]);
    let config = load(None, &given, &[]).unwrap().config;
    assert_eq!(config.capture.ring_bytes, 1 << 20);
    assert_eq!(config.joining.min_confidence, 0.9);
    assert_eq!(config.joining.linger.as_millis(), 250);
    assert_eq!(config.joining.rules, [Rule::Context, Rule::Wire]);
    assert_eq!(config.export.otlp.headers.get("authorization").map(String::as_str), Some("Bearer a:b"));
    assert_eq!(config.export.otlp.headers.get("x-tenant").map(String::as_str), Some("7"));
    assert!(!config.export.otlp.metrics);
    assert_eq!(
        config.services.names.first().map(|rule| (rule.port, rule.name.as_str())),
        Some((Some(8080), "shop"))
    );
    assert_eq!(config.export.otlp.compression, Compression::None);
    assert_eq!(config.order.deployment, "yes: it is text");
}

#[test]
fn standard_variables_follow_the_specification() {
    let given = pairs(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, tenant = 7"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "700"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
    ]);
    let otlp = load(None, &given, &[]).unwrap().config.export.otlp;
    assert_eq!(otlp.protocol, Some(OtlpProtocol::Grpc));
    assert_eq!(otlp.for_traces.protocol, Some(OtlpProtocol::HttpProtobuf));
    assert_eq!(otlp.with(&otlp.for_traces).protocol, Some(OtlpProtocol::HttpProtobuf));
    assert_eq!(otlp.for_metrics.timeout_ms, Some(700));
    assert_eq!(otlp.headers.get("api-key").map(String::as_str), Some("a b"));
    assert_eq!(otlp.headers.get("tenant").map(String::as_str), Some("7"));
    assert_eq!(otlp.timeout.as_millis(), 1500);
    assert_eq!(otlp.compression, Compression::None);
    assert_eq!(otlp.certificate.as_deref(), Some("/ca.pem"));
    assert_eq!(otlp.insecure, Some(true));
}

#[test]
fn wrong_variables_are_named() {
    let failed = |name: &str, value: &str| load(None, &pairs(&[(name, value)]), &[]).unwrap_err().to_string();
    assert_eq!(
        failed("SPOOR_CAPTURE_RING_BYTES", "big"),
        "environment variable SPOOR_CAPTURE_RING_BYTES: `capture.ring_bytes`: the text `big` where a whole number is wanted"
    );
    assert_eq!(
        failed("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        "environment variable OTEL_EXPORTER_OTLP_TIMEOUT: `10s` is not a number of milliseconds"
    );
    assert_eq!(
        failed("SPOOR_SERVICES_NAMES", "[{nam: shop}]"),
        "environment variable SPOOR_SERVICES_NAMES: `services.names[0]`: unknown key `nam`; did you mean `name`?"
    );
}

#[test]
fn unknown_variables_are_warned_about_unless_they_are_kubernetes_own() {
    let given = pairs(&[
        ("SPOOR_EXPORT_OTLP_ENDPONT", "x"),
        ("SPOOR_SERVICE_HOST", "10.0.0.1"),
        ("SPOOR_LOG", "debug"),
    ]);
    let warnings = load(None, &given, &[]).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "environment variable SPOOR_EXPORT_OTLP_ENDPONT names no setting; did you mean SPOOR_EXPORT_OTLP_ENDPOINT?"
        ]
    );
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let mut names: Vec<String> = document::keys().iter().map(|path| environment::variable(path)).collect();
    let count = names.len();
    assert!(count > 30, "{names:?}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&"SPOOR_EXPORT_OTLP_MAX_REQUEST_BYTES".to_owned()), "{names:?}");
    assert!(names.contains(&"SPOOR_EXPORT_OTLP_HEADERS".to_owned()), "{names:?}");
}

#[test]
fn missing_file_says_how_to_get_one() {
    let error = load(Some(Path::new("/nonexistent/spoor.yaml")), &[], &[]).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/spoor.yaml") && error.contains("spoor config default"), "{error}");
}

#[test]
fn rules_of_ones_own_stand_before_the_built_in_ones_unless_these_are_switched_off() {
    use spoor_core::order::rules::{default_attributes, default_keys};
    let namespaces = |text: &str| {
        let config = parse("x", text).unwrap();
        config.order.keys.into_iter().map(|rule| rule.namespace).collect::<Vec<_>>()
    };
    let builtin: Vec<_> = default_keys().into_iter().map(|rule| rule.namespace).collect();
    let own = "order:\n  keys:\n    - { namespace: crm, type: text, in: { fields: [sales_order] } }\n";
    assert_eq!(namespaces(own), [vec!["crm".to_owned()], builtin.clone()].concat());
    assert_eq!(namespaces(&format!("{own}  builtin_keys: false\n")), ["crm"]);
    assert_eq!(namespaces("order: { builtin_keys: false }"), Vec::<String>::new());
    assert_eq!(namespaces("order: { keys: [] }"), builtin);
    let attributes = |text: &str| parse("x", text).unwrap().order.attributes;
    let own = "order: { attributes: [ { name: shop.till, in: { fields: [till] } } ] }";
    assert_eq!(attributes(own).len(), 1 + default_attributes().len());
    assert_eq!(attributes(own)[0].name, "shop.till");
    assert!(attributes("order: { builtin_attributes: false }").is_empty());
    // Written down whole, as `config default` does, they are there once.
    assert_eq!(parse("x", &document::default_yaml()).unwrap(), Config::default());
}
