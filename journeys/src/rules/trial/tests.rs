use super::*;
use crate::rules::test_file::TestFile;
use crate::testing::wrote;
use crate::time::{DAY, SECOND};

fn model() -> Model {
    Model::parse(include_str!("../../../../deploy/journeys/model.yaml")).expect("the demo's model")
}

#[test]
fn a_month_of_a_thousand_orders_runs_in_a_moment() {
    let model = model();
    let set = RuleSet::built_in(&model).expect("rules");
    let usual = Usual::default();
    let end = At(30 * DAY);
    let mut trial = Trial::new(&set, &model, &usual, At(0), end);
    for n in 0..1_000_u64 {
        let (number, at) = (n.to_string(), n as i64 * 2_000);
        let mut facts = vec![wrote(&number, n * 4 + 1, at, "mes", "mes_orders", "new")];
        // Every tenth is priced too late.
        let priced = at + if n % 10 == 0 { 3_600 } else { 60 };
        facts.push(wrote(&number, n * 4 + 2, priced, "mes", "mes_orders", "priced"));
        facts.push(wrote(&number, n * 4 + 3, priced + 600, "mes", "mes_orders", "finished"));
        trial.order(facts);
    }
    let warned = trial.finish();
    let late: Vec<&Warned> = warned.iter().filter(|one| one.rule == "stage-late").collect();
    assert_eq!(late.len(), 100);
    for (n, one) in late.iter().enumerate() {
        let at = n as i64 * 20_000;
        assert_eq!(one.fired_at, At((at + 1_800) * SECOND).after(10_000), "when it was due");
        assert_eq!(one.resolved_at, Some(At((at + 3_600) * SECOND).after(10_000)), "when it was priced");
        assert!(!one.late);
    }
    assert_eq!(
        messages(&warned.iter().filter(|one| one.rule == "stage-late").cloned().collect::<Vec<_>>()),
        100
    );
}

#[test]
fn a_storm_is_one_message() {
    let warned: Vec<Warned> = (0..10_000)
        .map(|n| Warned {
            fired_at: At(n * 1_000),
            rule: "stage-late".to_owned(),
            order: Key::parse(&n.to_string()),
            place: "pricing".to_owned(),
            severity: Severity::Warning,
            resolved_at: None,
            late: false,
        })
        .collect();
    assert_eq!(messages(&warned), 1);
}

const TEST: &str = "
start: 2026-11-30T09:00:00Z
given:
  - { at: 0m, order: '4711', service: mes, table: mes_orders, status: new }
  - { at: 50m, order: '4711', service: mes, table: mes_orders, status: priced }
  - { at: 1m, order: '4712', service: crm, publish: orders, outcome: returned }
until: 2h
expect:
  - { at: 30m, rule: pricing-late, order: '4711', place: pricing, ends: 50m }
  - { at: 2m, rule: message-lost, order: '4712' }
";

#[test]
fn a_file_of_tests_says_what_differs() {
    let model = model();
    let rules = "rules:\n  - { id: pricing-late, when: stage_age, stage: pricing, limit: 30m }\n  - { id: stage-late, off: true }";
    let set = RuleSet::parse(rules, &model).expect("rules");
    let run = |test: &str| TestFile::parse(test).expect("a test").run(&set, &model).expect("it runs");
    assert_eq!(run(TEST), Vec::<String>::new());
    assert_eq!(
        run(&TEST.replace("at: 30m, rule", "at: 31m, rule")),
        [
            "missing: pricing-late of order `4711` at `pricing`, from 1860 s to 3000 s",
            "not expected: pricing-late of order `4711` at `pricing`, from 1800 s to 3000 s"
        ]
    );
    let wrong = TEST.replace("publish: orders", "publsh: orders");
    assert!(TestFile::parse(&wrong).expect_err("wrong").to_string().contains("publsh"));
}

#[test]
fn counters_of_the_past_make_alerts_of_places() {
    let model = Model::default();
    let rules = "rules:\n  - { id: fails, when: error_rate, above: 20%, min: 5, window: 5m }";
    let set = RuleSet::parse(rules, &model).expect("rules");
    let usual = Usual::default();
    let mut trial = Trial::new(&set, &model, &usual, At(0), At(DAY));
    for n in 0..20_u64 {
        let fails = crate::facts::Step::Served { answer: Some(500), changes: true };
        let trouble = crate::facts::Trouble {
            kind: crate::facts::TroubleKind::Http,
            code: "500".to_owned(),
            message: String::new(),
        };
        let fact = crate::testing::fact(&n.to_string(), n + 1, 600 + n as i64, "mes", fails);
        trial.order(vec![Fact { trouble: Some(trouble), ..fact }]);
    }
    let fails: Vec<Warned> = trial.finish().into_iter().filter(|one| one.rule == "fails").collect();
    assert_eq!(fails.len(), 1, "{fails:?}");
    let minutes = |at: At| at.0 / MINUTE;
    assert_eq!((fails[0].place.as_str(), minutes(fails[0].fired_at)), ("mes", 10));
    assert!(fails[0].resolved_at.is_some_and(|at| (15..=17).contains(&minutes(at))), "{fails:?}");
}

#[test]
fn the_rules_that_are_shipped_do_what_their_tests_say() {
    let model = model();
    let set = RuleSet::parse(include_str!("../../../../deploy/journeys/rules.yaml"), &model)
        .expect("the demo's rules");
    let test =
        TestFile::parse(include_str!("../../../../deploy/journeys/rules.test.yaml")).expect("their tests");
    assert_eq!(test.run(&set, &model), Ok(Vec::new()));
}
