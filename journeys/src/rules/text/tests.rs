use jiff::tz::TimeZone;

use super::*;
use crate::facts::{Fact, Trouble, TroubleKind};
use crate::fold::{self, Certainty, Hang};
use crate::model::Usual;
use crate::rules::RuleSet;
use crate::testing::wrote;
use crate::time::{HOUR, SECOND};

fn failed() -> (Journey, Verdict) {
    let trouble = Trouble {
        kind: TroubleKind::Sql,
        code: "23503".to_owned(),
        message: "Key (email)=(anna@example.org) is not present".to_owned(),
    };
    let facts = vec![
        Fact { trouble: Some(trouble), ..wrote("4711", 1, 10, "mes", "orders", "x") },
        wrote("4711", 2, 11, "shop", "orders", "failed"),
    ];
    let gathered = fold::Gathered { facts, truncated: false };
    let journey = fold::journey(&gathered, &Model::default());
    let verdict = fold::verdict(&journey, &Model::default(), &Usual::default(), At(HOUR));
    (journey, verdict)
}

/// What is at such a place since the order failed.
fn held(place: &str) -> Held {
    let since = At(11 * SECOND);
    Held { since, due: since, until: None, place: place.to_owned(), measured: Measured::Fact }
}

/// An alert about order 4711.
fn alerted<'a>(rules: &'a RuleSet, rule: &str, held: &'a Held, about: Option<About<'a>>) -> Alerted<'a> {
    Alerted {
        rule: rules.rule(rule).expect("a rule"),
        severity: Severity::Warning,
        held,
        number: "4711",
        about,
        orders: None,
        late: false,
        resolved: false,
        link: "https://spoor/orders/4711",
    }
}

fn told(text: &str, language: Language) -> (String, String) {
    let file = format!("rules:\n  - id: order-failed\n    text: {text}");
    let rules = RuleSet::parse(&file, &Model::default()).expect("rules");
    let (journey, verdict) = failed();
    let held = held("mes");
    let about = About { journey: &journey, verdict: &verdict };
    let alerted = alerted(&rules, "order-failed", &held, Some(about));
    let words = Words { language, zone: TimeZone::UTC };
    let model = Model::default();
    (alerted.title(&model, &words, At(HOUR)), alerted.text(&model, &words, At(HOUR)))
}

#[test]
fn an_alert_says_what_is_so_and_nothing_personal() {
    let (title, text) = told("{}", Language::En);
    assert_eq!(title, "Order 4711: stopped (mes)");
    assert!(text.contains("23503") && !text.contains("anna"), "{text}");
    let (title, text) = told("{}", Language::Ru);
    assert_eq!(title, "Заказ 4711: остановлен (mes)");
    assert!(text.contains("23503") && !text.contains("anna"), "{text}");
}

/// Nothing of the name and the numbers may be in what is told.
const RAW: &str = "wait for anna@example.org 89123 order-555777";

/// All reasons there are, with what systems and traffic may write wherever they may.
fn raw_reasons() -> Vec<Reason> {
    let says = Says {
        service: "mes".to_owned(),
        collection: "orders".to_owned(),
        status: RAW.to_owned(),
        at: At(SECOND),
        certainty: Certainty::Committed,
    };
    let by = |place| {
        Box::new(Incident {
            place: Some(place),
            operation: RAW.to_owned(),
            trouble: Trouble {
                kind: TroubleKind::Other,
                code: "89123555".to_owned(),
                message: RAW.to_owned(),
            },
            ..failed().0.incidents[0].clone()
        })
    };
    let (service, raw, since) = ("mes".to_owned(), RAW.to_owned(), At(SECOND));
    let hangs = |on| Reason::Hangs { service: service.clone(), operation: raw.clone(), on, since };
    let (sent, at) = ((service.clone(), raw.clone()), since);
    vec![
        Reason::Finished { says: says.clone(), took_micros: SECOND },
        Reason::Refused { says: says.clone(), by: Some(by(Place::Queue(raw.clone()))) },
        Reason::Refused { says: says.clone(), by: None },
        Reason::Broke { by: by(Place::Storage(raw.clone())), says: Some(says.clone()) },
        Reason::NotSettled { service: service.clone(), queue: raw.clone(), since, attempts: 2 },
        hangs(Hang::Itself),
        hangs(Hang::Database),
        hangs(Hang::Answer("crm".to_owned())),
        Reason::InQueue { queue: raw.clone(), since, consumers: Some(0), depth: Some(3) },
        Reason::Lost(Lost::Returned { service: sent.0.clone(), destination: sent.1.clone(), at }),
        Reason::Lost(Lost::Refused { service: sent.0.clone(), destination: sent.1.clone(), at }),
        Reason::Lost(Lost::NotTaken { service: sent.0, destination: sent.1, at }),
        Reason::Lost(Lost::Rejected {
            service: service.clone(),
            queue: raw.clone(),
            at,
            dead_letter: Some(raw.clone()),
        }),
        Reason::Lost(Lost::NoSuchOrder { service: service.clone(), status: raw.clone(), at }),
        Reason::Disagree { ahead: says.clone(), behind: says.clone() },
        Reason::SomebodysTurn { who: "seller".to_owned(), stage: raw.clone(), since, limit_micros: None },
        Reason::NoProgress { since, says: Some(says) },
        Reason::Moving { stage: Some(raw), since },
        Reason::Moving { stage: None, since },
        Reason::Nothing,
    ]
}

#[test]
fn what_traffic_wrote_leaves_the_house_without_numbers_and_addresses_whatever_the_reason() {
    let rules = RuleSet::parse("", &Model::default()).expect("rules");
    let model = Model::default();
    let facts = vec![wrote("4711", 1, 10, "mes", "orders", RAW)];
    let journey = fold::journey(&fold::Gathered { facts, truncated: false }, &model);
    let held = held(RAW);
    let languages = [Language::Ru, Language::En];
    let each = raw_reasons();
    for (reason, language) in
        each.iter().flat_map(|reason| languages.map(|language| (reason.clone(), language)))
    {
        let verdict = Verdict {
            reason,
            usual: Some(Usually::GoOn { stage: RAW.to_owned(), micros: SECOND }),
            ..failed().1
        };
        let about = About { journey: &journey, verdict: &verdict };
        let words = Words { language, zone: TimeZone::UTC };
        // Rules whose place is a stage; the place of others is a service or a queue that `rules/order` names.
        for id in ["no-progress", "stage-late"] {
            let alerted = alerted(&rules, id, &held, Some(about));
            let said = format!(
                "{} {} {:?}",
                alerted.title(&model, &words, At(HOUR)),
                alerted.text(&model, &words, At(HOUR)),
                alerted.told(&model, &words, At(HOUR))
            );
            for personal in ["anna", "89123", "555777"] {
                assert!(!said.contains(personal), "{personal} is in: {said}");
            }
        }
    }
}

#[test]
fn codes_that_may_be_numbers_of_somebody_leave() {
    for (code, expected) in
        [("23503", "23503"), ("42P01", "42P01"), ("503", "503"), ("no_row", "no_row"), ("8912355", "#")]
    {
        assert_eq!(code_in_clear(code), expected);
    }
}

#[test]
fn an_order_that_does_not_open_is_told_by_its_number() {
    let rules = RuleSet::parse("", &Model::default()).expect("rules");
    let held = held("mes");
    let alerted = alerted(&rules, "order-failed", &held, None);
    let words = Words { language: Language::En, zone: TimeZone::UTC };
    let told = alerted.told(&Model::default(), &words, At(HOUR));
    assert_eq!((told.order.as_str(), told.orders), ("4711", 1));
    let title = alerted.title(&Model::default(), &words, At(HOUR));
    assert_eq!(title, "Order 4711: stopped (mes)");
}

#[test]
fn a_house_has_its_own_words() {
    let (title, _) = told("{ en: '{{ order }}! {{ reason }} {{ link }}' }", Language::En);
    assert!(title.starts_with("4711! ") && title.ends_with("https://spoor/orders/4711"), "{title}");
    assert!(!title.contains("anna"), "{title}");
}

#[test]
fn templates_that_name_what_there_is_not_are_refused_and_none_runs_for_ever() {
    for wrong in [
        "{{ customer }}",
        "{{ order",
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    ] {
        assert!(render(wrong, &Told::default()).is_err(), "{wrong}");
    }
    let long = render("{% for a in range(3000) %}x{% endfor %}", &Told::default());
    assert_eq!(long.map(|text| text.len()), Ok(MAX_TEXT));
}
