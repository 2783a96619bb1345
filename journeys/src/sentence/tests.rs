use jiff::tz::{TimeZone, offset};

use super::*;
use crate::facts::{Fact, FactId, Trouble, TroubleKind};
use crate::fold::{Certainty, Hang, Incident, Lost, Place, Reason, Says, Usually};
use crate::model::Usual;
use crate::testing::wrote;
use crate::time::{DAY, HOUR, MINUTE};

const HOUSE: &str = "
records:
  shop: { match: { service: shop, table: orders }, title: { ru: Магазин, en: Shop } }
  mes: { match: { service: mes }, title: { ru: Производство, en: Production } }
stages:
  - { name: priced, title: { ru: Рассчитан, en: Priced }, from: { mes: [priced] }, waits_for: operator, limit: 1d }
";

/// 2026-11-28 11:02 UTC.
const AT: At = At(1_795_863_720_000_000);

fn says(service: &str, collection: &str, status: &str) -> Says {
    Says {
        service: service.to_owned(),
        collection: collection.to_owned(),
        status: status.to_owned(),
        at: AT,
        certainty: Certainty::Committed,
    }
}

fn incident(kind: TroubleKind, code: &str, message: &str, place: Option<Place>) -> Box<Incident> {
    Box::new(Incident {
        at: AT,
        last_at: AT,
        service: "mes".to_owned(),
        operation: "INSERT production".to_owned(),
        place,
        trouble: Trouble { kind, code: code.to_owned(), message: message.to_owned() },
        times: 1,
        passed_on: false,
        resolved: None,
        evidence: vec![FactId::default()],
    })
}

/// The sentence in both languages, 41 minutes later.
fn check(reason: Reason, ru: &str, en: &str) {
    let model = Model::parse(HOUSE).expect("the house's model is right");
    let verdict =
        Verdict { outcome: Outcome::Stuck, since: AT, reason, evidence: Vec::new(), due: None, usual: None };
    for (language, expected) in [(Language::Ru, ru), (Language::En, en)] {
        let words = Words { language, zone: TimeZone::fixed(offset(3)) };
        let told = sentence(&verdict, &Journey::default(), &model, &words, AT.after(41 * MINUTE));
        assert_eq!(told.text, expected);
    }
}

#[test]
fn what_hangs_and_what_waits_has_its_sentence() {
    let hangs =
        |on| Reason::Hangs { service: "mes".to_owned(), operation: "POST /prices".to_owned(), on, since: AT };
    for (on, ru, en) in [
        (
            Hang::Answer("api.dpd.ru".to_owned()),
            "Система «Производство» ждёт ответа от api.dpd.ru с 14:02 (UTC+03) (41 мин).",
            "Production has been waiting for an answer of api.dpd.ru since 14:02 (UTC+03) (41 min).",
        ),
        (
            Hang::Answer(String::new()),
            "Система «Производство» ждёт ответа с 14:02 (UTC+03) (41 мин).",
            "Production has been waiting for an answer since 14:02 (UTC+03) (41 min).",
        ),
        (
            Hang::Database,
            "Система «Производство» ждёт свою базу данных с 14:02 (UTC+03) (41 мин).",
            "Production has been waiting for its database since 14:02 (UTC+03) (41 min).",
        ),
        (
            Hang::Itself,
            "Система «Производство» не закончила «POST /prices» с 14:02 (UTC+03) (41 мин).",
            "Production has not ended “POST /prices” since 14:02 (UTC+03) (41 min).",
        ),
    ] {
        check(hangs(on), ru, en);
    }
    let waits =
        |consumers, depth| Reason::InQueue { queue: "orders".to_owned(), since: AT, consumers, depth };
    check(
        waits(Some(0), Some(1_200)),
        "Сообщение лежит в очереди orders с 14:02 (UTC+03) (41 мин). Получателей нет. Всего сообщений в ней: не меньше 1\u{202f}200.",
        "The message has been lying in queue orders since 14:02 (UTC+03) (41 min). Nobody takes from it. At least 1\u{202f}200 messages are in it.",
    );
    let since = AT.after(-MINUTE);
    let unseen =
        Reason::NotSeen { node: "n3".to_owned(), since, at: since, before: Box::new(Reason::Nothing) };
    check(
        unseen,
        "С 14:01 (UTC+03) (42 мин) ничего не видно: агент на машине n3 молчит. До этого: Об этом заказе только спрашивали; его изменений не видно.",
        "Nothing has been seen since 14:01 (UTC+03) (42 min): the agent on n3 is silent. Before that: Somebody only asked about this order; no change of it was seen.",
    );
    check(
        waits(Some(3), Some(1)),
        "Сообщение лежит в очереди orders с 14:02 (UTC+03) (41 мин).",
        "The message has been lying in queue orders since 14:02 (UTC+03) (41 min).",
    );
}

#[test]
fn every_reason_has_its_sentence() {
    check(
        Reason::Finished { says: says("mes", "mes_orders", "finished"), took_micros: 2 * DAY + 3 * HOUR },
        "Готов в 14:02 (UTC+03). Весь путь: 2 дня 3 часа.",
        "Finished at 14:02 (UTC+03). The whole way took 2 days 3 hours.",
    );
    check(
        Reason::Refused {
            says: says("shop", "orders", "failed"),
            by: Some(incident(TroubleKind::Sql, "23514", "violates check constraint", None)),
        },
        "Магазин, 14:02 (UTC+03): статус «failed». Перед этим: Производство — ошибка базы данных 23514: violates check constraint. После этого заказ не двигался.",
        "Shop, 14:02 (UTC+03): status “failed”. Before that: Production – database error 23514: violates check constraint. The order has not moved since.",
    );
    check(
        Reason::Refused { says: says("shop", "orders", "failed"), by: None },
        "Магазин, 14:02 (UTC+03): статус «failed». Причина не видна. После этого заказ не двигался.",
        "Shop, 14:02 (UTC+03): status “failed”. The cause was not seen. The order has not moved since.",
    );
    check(
        Reason::Broke {
            by: incident(TroubleKind::Http, "503", "", Some(Place::Storage("models".to_owned()))),
            says: Some(says("shop", "orders", "created")),
        },
        "Производство, 14:02 (UTC+03): ответ 503 (хранилище файлов models). После этого ничего не произошло. Последний статус: «created» (Магазин).",
        "Production, 14:02 (UTC+03): answer 503 (file store models). Nothing happened after that. The last status is “created” (Shop).",
    );
    check(
        Reason::NotSettled { service: "mes".to_owned(), queue: "orders".to_owned(), since: AT, attempts: 3 },
        "Система «Производство» взяла сообщение из очереди orders в 14:02 (UTC+03) и не подтвердила его (3-я попытка).",
        "Production took the message from queue orders at 14:02 (UTC+03) and did not acknowledge it (attempt 3).",
    );
    check(
        Reason::Disagree {
            ahead: says("mes", "mes_orders", "priced"),
            behind: says("shop", "orders", "submitted"),
        },
        "Производство: «priced» с 14:02 (UTC+03). Магазин до сих пор показывает «submitted».",
        "Production says “priced” since 14:02 (UTC+03). Shop still shows “submitted”.",
    );
    check(
        Reason::SomebodysTurn {
            who: "operator".to_owned(),
            stage: "priced".to_owned(),
            since: AT,
            limit_micros: Some(DAY),
        },
        "Ждёт оператора производства на этапе «Рассчитан» 41 мин; допустимо 1 день.",
        "Waits for the production operator at stage “Priced” for 41 min; the limit is 1 day.",
    );
    check(
        Reason::NoProgress { since: AT, says: Some(says("mes", "mes_orders", "priced")) },
        "С 14:02 (UTC+03) (41 мин) ничего не происходило. Последний статус: «priced» (Производство).",
        "Nothing has happened since 14:02 (UTC+03) (41 min). The last status is “priced” (Production).",
    );
    check(
        Reason::Moving { stage: Some("priced".to_owned()), since: AT },
        "В работе: «Рассчитан», 41 мин.",
        "In progress: “Priced” for 41 min.",
    );
    check(
        Reason::Moving { stage: None, since: AT },
        "В работе; статус заказа пока не виден.",
        "In progress; the order's status has not been seen yet.",
    );
    check(
        Reason::Nothing,
        "Об этом заказе только спрашивали; его изменений не видно.",
        "Somebody only asked about this order; no change of it was seen.",
    );
}

#[test]
fn what_is_usual_is_said_beside_what_is() {
    let model = Model::parse(HOUSE).expect("the house's model is right");
    let take = Usually::Take { micros: 26 * HOUR };
    let go_on = Usually::GoOn { stage: "priced".to_owned(), micros: 231 * MINUTE };
    let finished = Reason::Finished { says: says("mes", "mes_orders", "finished"), took_micros: 2 * DAY };
    let moving = Reason::Moving { stage: Some("new".to_owned()), since: AT };
    for (reason, usual, ru, en) in [
        (
            finished,
            take,
            "Готов в 14:02 (UTC+03). Весь путь: 2 дня. Обычно около 26 часов.",
            "Finished at 14:02 (UTC+03). The whole way took 2 days. Usually it takes about 26 hours.",
        ),
        (
            moving,
            go_on,
            "В работе: «new», 41 мин. Обычно дальше «Рассчитан», примерно через 4 часа.",
            "In progress: “new” for 41 min. Usually “Priced” follows after about 4 hours.",
        ),
    ] {
        let verdict = Verdict {
            outcome: Outcome::Moving,
            since: AT,
            reason,
            evidence: Vec::new(),
            due: None,
            usual: Some(usual),
        };
        for (language, expected) in [(Language::Ru, ru), (Language::En, en)] {
            let words = Words { language, zone: TimeZone::fixed(offset(3)) };
            let told = sentence(&verdict, &Journey::default(), &model, &words, AT.after(41 * MINUTE));
            assert_eq!(told.text, expected);
        }
    }
}

#[test]
fn a_status_that_comes_once_and_came_again_is_told_with_the_sentence() {
    let second = AT.after(41 * MINUTE);
    let facts = |times: &[At]| {
        let write = |(id, at): (usize, &At)| {
            let started = wrote("1", id as u64 + 1, 0, "mes", "orders", "started");
            Fact { from: *at, to: *at, ..started }
        };
        times.iter().enumerate().map(write).collect::<Vec<_>>()
    };
    let plain = Model::parse(HOUSE).expect("the house's model is right");
    let stage = "  - { name: started, from: { mes: [started] }, once: true }";
    let once = Model::parse(&format!("{HOUSE}{stage}")).expect("the same with a stage more");
    for (model, times, is_told) in
        [(&once, &[AT, second][..], true), (&once, &[AT][..], false), (&plain, &[AT, second][..], false)]
    {
        let (gathered, _) = fold::Gathered::default().with(facts(times));
        let journey = fold::journey(&gathered, model);
        let verdict = fold::verdict(&journey, model, &Usual::default(), second);
        for (language, expected) in [
            (
                Language::Ru,
                " Производство: статус «started» записан снова в 14:43 (UTC+03), впервые — в 14:02 (UTC+03). У заказа он бывает один раз: возможно, заказ сделан дважды.",
            ),
            (
                Language::En,
                " Production wrote status “started” again at 14:43 (UTC+03), first at 14:02 (UTC+03). An order has it once: it may have been made twice.",
            ),
        ] {
            let words = Words { language, zone: TimeZone::fixed(offset(3)) };
            let told = sentence(&verdict, &journey, model, &words, second);
            assert_eq!(told.text.ends_with(expected), is_told, "{}", told.text);
        }
    }
}

#[test]
fn every_way_to_lose_an_order_has_its_sentence() {
    let (service, destination, queue) =
        ("mes".to_owned(), "orders:confirmed".to_owned(), "orders".to_owned());
    check(
        Reason::Lost(Lost::Returned { service: service.clone(), destination: destination.clone(), at: AT }),
        "Система «Производство» отправила сообщение orders:confirmed в 14:02 (UTC+03), но ни одна очередь его не приняла: оно потеряно.",
        "Production sent message orders:confirmed at 14:02 (UTC+03), but no queue took it: it is lost.",
    );
    check(
        Reason::Lost(Lost::NotTaken { service: service.clone(), destination, at: AT }),
        "Система «Производство» отправила сообщение orders:confirmed в 14:02 (UTC+03), и никто его не взял. Обычно такие сообщения забирают.",
        "Production sent message orders:confirmed at 14:02 (UTC+03), and nobody took it. Such messages usually are taken.",
    );
    check(
        Reason::Lost(Lost::Rejected {
            service: service.clone(),
            queue,
            at: AT,
            dead_letter: Some("orders.dead".to_owned()),
        }),
        "Система «Производство» отклонила сообщение из очереди orders в 14:02 (UTC+03). Оно ушло в очередь orders.dead, после этого с заказом ничего не произошло.",
        "Production rejected the message from queue orders at 14:02 (UTC+03). It went to queue orders.dead; nothing happened to the order after that.",
    );
    check(
        Reason::Lost(Lost::NoSuchOrder { service, status: "priced".to_owned(), at: AT }),
        "Система «Производство» в 14:02 (UTC+03) пыталась записать статус «priced», но такого заказа у неё нет.",
        "Production tried to write status “priced” at 14:02 (UTC+03), but does not have this order.",
    );
}

#[test]
fn what_was_not_seen_is_told_with_the_sentence() {
    let gap =
        Gap { from: AT, to: AT, service: "mes".to_owned(), cause: Unseen::Cut, evidence: FactId::default() };
    let journey = Journey { gaps: vec![gap; 7], ..Journey::default() };
    let verdict = Verdict {
        outcome: Outcome::Moving,
        since: AT,
        reason: Reason::Nothing,
        evidence: Vec::new(),
        due: None,
        usual: None,
    };
    let words = Words { language: Language::En, zone: TimeZone::UTC };
    let model = Model::parse(HOUSE).expect("the house's model is right");
    let told = sentence(&verdict, &journey, &model, &words, AT.after(MINUTE));
    assert_eq!(told.state, "in progress · 1 min");
    assert_eq!(
        told.unseen.len(),
        7,
        "five gaps, how many more, and that no status was seen: {:?}",
        told.unseen
    );
    assert_eq!(
        told.unseen[0],
        "Production, 11:02 (UTC): the connection ended, the operation's end was not seen."
    );
}
