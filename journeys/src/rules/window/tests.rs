use super::*;
use crate::model::class;
use crate::testing::fact;
use crate::time::SECOND;

struct Counted {
    times: BTreeMap<What, Times>,
    /// Created orders by hour.
    created: Vec<(i64, u64)>,
}

impl Past for Counted {
    type Error = std::convert::Infallible;
    fn times(&self, _: At) -> Result<BTreeMap<What, Times>, Self::Error> {
        Ok(self.times.clone())
    }
    fn volume(&self, _: Event, from: At, to: At) -> Result<u64, Self::Error> {
        let hours = self.created.iter().filter(|(hour, _)| (from.0..to.0).contains(&(hour * HOUR)));
        Ok(hours.map(|(_, orders)| orders).sum())
    }
}

fn what(kind: Kind, of: &str, with: &str) -> What {
    What { kind, of: of.to_owned(), with: with.to_owned() }
}

fn times(micros: i64, count: i64, failed: i64) -> Times {
    let mut times = Times::default();
    times.add(class(micros), count, failed);
    times
}

fn holding(when: &WindowWhen, past: &Counted, usual: &Usual, now: At) -> Vec<String> {
    let Ok(found) = places(when, past, usual, &Model::default(), now);
    let found = found.into_iter().filter(|(_, standing)| matches!(standing, Standing::Holds(_)));
    found.map(|(name, _)| name).collect()
}

#[test]
fn shares_count_from_enough_on_only() {
    let past = Counted {
        times: [
            (what(Kind::Served, "mes", "POST /orders"), times(SECOND, 10, 1)),
            (what(Kind::Taken, "queue", "mes"), times(SECOND, 10, 3)),
            (what(Kind::Served, "shop", "GET /"), times(SECOND, 3, 3)),
            (what(Kind::Called, "crm", "api.dpd.ru"), times(SECOND, 20, 10)),
            (what(Kind::Unseen, "mes", "gap"), times(SECOND, 2, 0)),
        ]
        .into(),
        created: Vec::new(),
    };
    let rate = |place, above| {
        let when = WindowWhen::ErrorRate { place, above: Share(above), min: 5, window: 10 * MINUTE };
        holding(&when, &past, &Usual::default(), At(DAY))
    };
    assert_eq!(rate(PlacePattern::Service(Pattern::any()), 1_999), ["mes"]);
    assert!(rate(PlacePattern::Service(Pattern::any()), 2_000).is_empty(), "not above");
    assert_eq!(rate(PlacePattern::Outside(Pattern::new("api.*")), 100), ["api.dpd.ru"]);
    let coverage =
        WindowWhen::Coverage { service: Pattern::any(), above: Share(500), min: 1, window: MINUTE };
    assert_eq!(holding(&coverage, &past, &Usual::default(), At(DAY)), ["mes"]);
}

#[test]
fn slowness_is_measured_by_route_and_against_what_is_usual() {
    let past = Counted {
        times: [
            (what(Kind::Served, "mes", "POST /b2b/orders"), times(3 * SECOND, 10, 0)),
            (what(Kind::Served, "mes", "GET /health"), times(1, 1_000, 0)),
        ]
        .into(),
        created: Vec::new(),
    };
    let slow = |above| Slow { percent: 95, above, min: 1, window: MINUTE };
    let when = |route, above| WindowWhen::ResponseTime {
        service: Pattern::any(),
        route: Pattern::new(route),
        length: slow(above),
    };
    let usual = |count| Usual {
        times: [(what(Kind::Served, "mes", ""), times(SECOND, count, 0).into())].into(),
        ..Usual::default()
    };
    let exact = Limited::Micros(2 * SECOND);
    assert_eq!(holding(&when("/b2b/*", exact), &past, &usual(0), At(DAY)), ["mes"]);
    assert!(holding(&when("*", exact), &past, &usual(0), At(DAY)).is_empty(), "most are quick");
    let Ok(learned) = serde_json::from_value::<Limited>("usual * 2".into()) else { panic!("a limit") };
    assert_eq!(holding(&when("/b2b/*", learned), &past, &usual(50), At(DAY)), ["mes"]);
    let Ok(found) = places(&when("/b2b/*", learned), &past, &usual(49), &Model::default(), At(DAY));
    assert_eq!(found, [("mes".to_owned(), Standing::Sleeps { next: None })]);
}

#[test]
fn orders_that_stop_coming_are_missed_when_they_came_at_that_time_of_other_weeks() {
    let Ok(third) = serde_json::from_value::<Level>("usual / 3".into()) else { panic!("a level") };
    let when = WindowWhen::Volume { event: Event::Created, below: Some(third), above: None, window: HOUR };
    let now = At(50 * 7 * DAY);
    let before = |week: i64| (now.0 / HOUR - week * 7 * 24 - 1, 30);
    let past = |created| Counted { times: BTreeMap::new(), created };
    let usual = Usual::default();
    assert_eq!(holding(&when, &past(vec![before(1), before(2)]), &usual, now), ["created"]);
    let enough = (now.0 / HOUR - 1, 10);
    assert!(holding(&when, &past(vec![before(1), before(2), enough]), &usual, now).is_empty());
    assert!(holding(&when, &past(vec![before(1)]), &usual, now).is_empty(), "one week is no habit");
    assert!(holding(&when, &past(vec![]), &usual, now).is_empty());
}

#[test]
fn of_names_that_tracers_give_only_routes_and_procedures_are_kept() {
    for (name, expected) in [
        ("POST /b2b/orders", "POST /b2b/orders"),
        ("GET /v1/orders/{order_id}/files/*", "GET /v1/orders/{order_id}/files/*"),
        ("GET /orders/:id", "GET /orders/:id"),
        ("GET /Home/Index.cshtml", "GET /Home/Index.cshtml"),
        ("GET /", "GET /"),
        ("PUT", "PUT"),
        ("shop.v1.Orders/Confirm", "shop.v1.Orders/Confirm"),
        // Paths that are no routes.
        ("GET /orders/4711", "GET /orders/#"),
        ("GET /users/anna@example.org/x", "GET /users/#/x"),
        ("GET /users/%D0%90%D0%BD%D0%BD%D0%B0", "GET /users/#"),
        ("GET /users/Анна", "GET /users/#"),
        ("GET /orders?user=anna", "GET /#"),
        ("GET /orders/a123", "GET /orders/#"),
        ("GET /orders/{4711}", "GET /orders/#"),
        // Names of another form.
        ("Confirm the order of Anna Petrova", ""),
        ("anna", ""),
        ("users/anna", ""),
        ("Users/anna", ""),
        ("Users/Anna", ""),
        ("GET https://shop/anna", ""),
        ("FIND /anna", ""),
        ("", ""),
    ] {
        let fact = Fact {
            name: name.to_owned(),
            ..fact("4711", 1, 10, "mes", Step::Served { answer: Some(200), changes: true })
        };
        let kept: Vec<String> = counted(&fact).map(|length| length.what.with).collect();
        assert_eq!(kept, [expected], "{name}");
    }
    assert_eq!(route_of(&format!("GET /{}", "orders/".repeat(20))), "", "as long as no route is");
    assert!(is_route(&Pattern::new("/b2b/*"), &route_of("POST /b2b/orders")), "as the example has it");
}

#[test]
fn silence_is_told_once_it_lasts() {
    let usual = Usual { heard: [("mes".to_owned(), At(0))].into(), ..Usual::default() };
    let when = WindowWhen::ServiceSilent { service: Pattern::any(), limit_micros: HOUR };
    let past = Counted { times: BTreeMap::new(), created: Vec::new() };
    assert!(holding(&when, &past, &usual, At(HOUR - 1)).is_empty());
    assert_eq!(holding(&when, &past, &usual, At(HOUR)), ["mes"]);
}

#[test]
fn an_agent_is_silent_once_three_of_its_beats_are_missed_and_the_limit_is_over() {
    let agent = Agent {
        node: "n3".to_owned(),
        at: At(HOUR),
        awaited_from: At(0),
        every: 30 * SECOND,
        services: BTreeSet::new(),
    };
    let usual = Usual { agents: [("1".to_owned(), agent)].into(), ..Usual::default() };
    let past = Counted { times: BTreeMap::new(), created: Vec::new() };
    let silent = |limit_micros, after| {
        holding(&WindowWhen::AgentSilent { limit_micros }, &past, &usual, At(HOUR + after * SECOND))
    };
    assert!(silent(0, 89).is_empty());
    assert_eq!(silent(0, 90), ["n3"]);
    assert!(silent(3 * MINUTE, 179).is_empty());
    assert_eq!(silent(3 * MINUTE, 180), ["n3"]);
}
