use super::*;
use crate::rules::Severity;
use crate::time::SECOND;

const HOUSE: &str = include_str!("../../../../deploy/journeys/model.yaml");

fn model() -> Model {
    Model::parse(HOUSE).expect("the demo's model")
}

#[test]
fn the_built_in_rules_are_right_with_and_without_a_model() {
    for model in [Model::default(), model()] {
        let set = RuleSet::built_in(&model).expect("rules");
        assert_eq!(set.rules.len(), 17);
        assert!(set.rules.iter().all(|rule| !rule.is_own && rule.source.contains("when: ")));
    }
}

#[test]
fn a_file_replaces_single_fields_by_id_and_adds_rules() {
    let set = RuleSet::parse(
        "
rules:
  - { id: disagree, limit: 10m }
  - { id: backwards, off: true }
  - id: pricing-late
    when: stage_age
    stage: pricing
    limit: 30m
    calendar: workshop
    for: 2m
    severity: critical
    filter: { partner: ['12', '14'] }
    notify: [chat]
calendars:
  workshop: { zone: Europe/Moscow, hours: 'Mon-Fri 09:00-18:00', except: [2027-01-01/2027-01-08] }
channels:
  chat: { mattermost: { url_file: /run/secrets/mm }, min_severity: warning, language: ru }
routes:
  - { severity: critical, to: [chat] }
pages: https://spoor.example/
",
        &model(),
    )
    .expect("rules");
    let disagree = set.rule("disagree").expect("a rule");
    assert_eq!(
        disagree.when,
        When::Order(OrderWhen::Disagree { records: Vec::new(), limit_micros: 10 * MINUTE })
    );
    assert_eq!((disagree.severity, disagree.is_own), (Severity::Warning, true));
    assert_eq!(disagree.source, "id: disagree\nwhen: disagree\nlimit: 10m\nseverity: warning");
    assert!(set.rule("backwards").is_none());
    let late = set.rule("pricing-late").expect("a rule");
    assert_eq!((late.hold, late.severity, late.filter.partner.len()), (120 * SECOND, Severity::Critical, 2));
    assert!(
        matches!(&late.when, When::Order(OrderWhen::StageAge { calendar: Some(of), .. }) if of.name == "workshop")
    );
    assert_eq!((set.channels.len(), set.routes.len()), (1, 1));
    assert_eq!(set.pages.as_deref(), Some("https://spoor.example"));
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_the_nearest_name() {
    for (rules, named) in [
        ("- { id: x, when: lost, limt: 5m }", "line 3, column 26: unknown key `limt`; did you mean `limit`?"),
        ("- { id: x, when: stage_aeg, limit: 5m }", "did you mean `stage_age`?"),
        (
            "- { id: x, when: lost, limit: 5m }",
            "line 3, column 33: `limit` says nothing to a rule of the kind `lost`; it has lasts",
        ),
        ("- { id: x, when: stage_age, stage: pricng, limit: 5m }", "did you mean `pricing`?"),
        ("- { id: x, when: stage_age, limit: soon }", "`soon` is no limit"),
        ("- { id: x, limit: 5m }", "is no built-in one"),
        ("- { when: lost }", "needs an `id`"),
        ("- { id: x, when: open_operation, limit: 60s }", "says in what an order hangs"),
        ("- { id: x, when: lost }\n  - { id: x, when: lost }", "line 4, column 5: rule `x` is there twice"),
        ("- { id: x, when: lost, notify: [chatt] }", "unknown channel `chatt`"),
        ("- { id: x, when: stage_age, limit: 5m, calendar: works }", "did you mean `workshop`?"),
        ("- { id: x, when: stage_age, limit: usual, calendar: workshop }", "learned by the clock"),
        ("- { id: x, when: disagree, limit: usual }", "nothing is learned of this"),
        ("- { id: x, when: disagree, limit: 5m, records: [mess] }", "did you mean `mes`?"),
        ("- { id: x, when: enters }", "one of `stage` and `outcome`"),
        ("- { id: x, when: enters, outcome: fialed }", "did you mean `failed`?"),
        ("- { id: x, when: volume, event: created }", "`below` or `above`"),
        ("- { id: x, when: volume, event: create, above: 5 }", "did you mean `created`?"),
        ("- { id: x, when: error_rate, above: 5 }", "no share"),
        ("- { id: x, when: error_rate, above: 5%, window: 10s }", "at least 1m"),
        ("- { id: x, when: error_rate, above: 5%, window: 2d }", "at most 1d"),
        ("- { id: x, when: error_rate, above: 5%, filter: { partner: ['1'] } }", "has no `filter`"),
        ("- { id: x, when: response_time, above: 2s, quantile: 2 }", "from 0.01 to 0.99"),
        ("- { id: x, when: response_time, above: stage }", "only stages"),
        ("- { id: x, when: lost, severity: fatal }", "unknown value `fatal`"),
        ("- { id: x, when: lost, text: { en: '{{ customer }}' } }", "cannot be used"),
        ("- { id: x, when: repeated }", "the key `to` is missing"),
    ] {
        let file = format!(
            "calendars: {{ workshop: {{ zone: UTC, hours: 'Mon-Fri 09:00-18:00' }} }}\nrules:\n  {rules}\n"
        );
        let error = RuleSet::parse(&file, &model()).expect_err(rules).to_string();
        assert!(error.contains(named), "{rules}: {error}");
    }
}

#[test]
fn every_kind_of_rule_can_be_written() {
    let rules = "
rules:
  - { id: a, when: skipped, stage: confirmed, before: started }
  - { id: b, when: repeated, record: mes, to: started }
  - { id: c, when: no_progress, stages: [created, 'p*'], limit: usual * 3 }
  - { id: d, when: enters, stage: rejected, lasts: 2d }
  - { id: e, when: slower, off: true }
  - { id: f, when: response_time, service: mes, route: '/b2b/*', quantile: 0.95, above: 2s, window: 10m }
  - { id: g, when: statement_duration, service: mes, above: 1s, window: 15m }
  - { id: h, when: service_silent, service: mes, limit: 3m }
  - { id: i, when: volume, event: failed, above: 10, window: 1h }
  - { id: k, when: agent_silent }
  - { id: l, when: queue_without_consumer, queue: 'mes.*', limit: 30s }
  - { id: j, when: error_rate, place: { outside: 'api.*' }, above: 20%, min: 5, window: 5m }
";
    let error = RuleSet::parse(rules, &model()).expect_err("`slower` is no kind");
    assert!(error.to_string().contains("unknown kind of rule `slower`"), "{error}");
    let rules = rules.replace("when: slower", "when: backwards");
    let set = RuleSet::parse(&rules, &model()).expect("rules");
    assert_eq!(set.rules.len(), 17 + 11);
}
