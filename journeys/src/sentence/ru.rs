//! Reasons → Russian sentences.

use super::Told;
use crate::facts::{Trouble, TroubleKind};
use crate::fold::{Again, Hang, Incident, Lost, Place, Reason, Says, Usually};

pub(super) fn reason(told: &Told<'_>, reason: &Reason) -> String {
    let words = told.words;
    let time = |at| words.time(at, told.now);
    let when = |at| words.when(at, told.now);
    let long = |since| words.duration(told.now.since(since));
    match reason {
        Reason::Finished { says, took_micros } => {
            format!("Готов {}. Весь путь: {}.", when(says.at), words.duration(*took_micros))
        }
        Reason::Refused { says, by } => {
            let status = format!(
                "{}, {}: статус «{}».",
                told.system(&says.service, &says.collection),
                time(says.at),
                says.status
            );
            match by {
                Some(by) => {
                    format!("{status} Перед этим: {}. После этого заказ не двигался.", incident(told, by))
                }
                None => format!("{status} Причина не видна. После этого заказ не двигался."),
            }
        }
        Reason::Broke { by, says } => format!(
            "{}, {}: {}. После этого ничего не произошло.{}",
            told.service(&by.service),
            time(by.last_at),
            incident_what(told, by),
            last_status(told, says.as_ref()),
        ),
        Reason::NotSettled { service, queue, since, attempts } => format!(
            "Система «{}» взяла сообщение из очереди {queue} {} и не подтвердила его{}.",
            told.service(service),
            when(*since),
            if *attempts > 1 { format!(" ({attempts}-я попытка)") } else { String::new() },
        ),
        Reason::Hangs { service, operation, on, since } => {
            let since = format!("с {} ({})", time(*since), long(*since));
            let service = told.service(service);
            match on {
                Hang::Answer(peer) if peer.is_empty() => format!("Система «{service}» ждёт ответа {since}."),
                Hang::Answer(peer) => {
                    format!("Система «{service}» ждёт ответа от {} {since}.", told.service(peer))
                }
                Hang::Database => format!("Система «{service}» ждёт свою базу данных {since}."),
                Hang::Itself if operation.is_empty() => {
                    format!("Система «{service}» занята заказом {since}.")
                }
                Hang::Itself => format!("Система «{service}» не закончила «{operation}» {since}."),
            }
        }
        Reason::InQueue { queue, since, consumers, depth } => {
            let nobody = if *consumers == Some(0) { " Получателей нет." } else { "" };
            let depth = depth.filter(|depth| *depth > 1);
            let depth = depth
                .map(|depth| format!(" Всего сообщений в ней: не меньше {}.", words.number(depth.into())));
            let since = format!("с {} ({})", time(*since), long(*since));
            format!("Сообщение лежит в очереди {queue} {since}.{nobody}{}", depth.unwrap_or_default())
        }
        Reason::Lost(lost) => lost_how(told, lost),
        Reason::Disagree { ahead, behind } => format!(
            "{}: «{}» с {}. {} до сих пор показывает «{}».",
            told.system(&ahead.service, &ahead.collection),
            ahead.status,
            time(ahead.at),
            told.system(&behind.service, &behind.collection),
            behind.status,
        ),
        Reason::NotSeen { node, since, at, before } => {
            let then = Told { words: told.words, model: told.model, now: *at };
            format!(
                "С {} ({}) ничего не видно: агент на машине {node} молчит. До этого: {}",
                time(*since),
                long(*since),
                self::reason(&then, before)
            )
        }
        Reason::SomebodysTurn { who, stage, since, limit_micros } => {
            let limit = limit_micros
                .map(|limit| format!("; допустимо {}", words.duration(limit)))
                .unwrap_or_default();
            format!("Ждёт {} на этапе «{}» {}{limit}.", role(who), told.stage(stage), long(*since))
        }
        Reason::NoProgress { since, says } => format!(
            "С {} ({}) ничего не происходило.{}",
            time(*since),
            long(*since),
            last_status(told, says.as_ref())
        ),
        Reason::Moving { stage: Some(stage), since } => {
            format!("В работе: «{}», {}.", told.stage(stage), long(*since))
        }
        Reason::Moving { stage: None, .. } => "В работе; статус заказа пока не виден.".to_owned(),
        Reason::Nothing => "Об этом заказе только спрашивали; его изменений не видно.".to_owned(),
    }
}

pub(super) fn usually(told: &Told<'_>, usual: &Usually) -> String {
    match usual {
        Usually::Take { micros } => format!("Обычно около {}.", told.words.about_genitive(*micros)),
        Usually::Last { micros } => {
            format!("Обычно это длится около {}.", told.words.about_genitive(*micros))
        }
        Usually::GoOn { stage, micros } => {
            format!("Обычно дальше «{}», примерно через {}.", told.stage(stage), told.words.about(*micros))
        }
    }
}

/// What should be once was again.
pub(super) fn again(told: &Told<'_>, again: &Again<'_>) -> String {
    format!(
        "{}: статус «{}» записан снова в {}, впервые — в {}. У заказа он бывает один раз: возможно, заказ сделан дважды.",
        told.system(&again.record.service, &again.record.collection),
        again.status,
        told.words.time(again.last, told.now),
        told.words.time(again.first, told.now),
    )
}

fn lost_how(told: &Told<'_>, lost: &Lost) -> String {
    let when = |at| told.words.when(at, told.now);
    match lost {
        Lost::Returned { service, destination, at } => format!(
            "Система «{}» отправила сообщение {destination} {}, но ни одна очередь его не приняла: оно потеряно.",
            told.service(service),
            when(*at)
        ),
        Lost::Refused { service, destination, at } => format!(
            "Система «{}» отправила сообщение {destination} {}, но брокер сообщений его не принял.",
            told.service(service),
            when(*at)
        ),
        Lost::NotTaken { service, destination, at } => format!(
            "Система «{}» отправила сообщение {destination} {}, и никто его не взял. Обычно такие сообщения забирают.",
            told.service(service),
            when(*at)
        ),
        Lost::Rejected { service, queue, at, dead_letter } => format!(
            "Система «{}» отклонила сообщение из очереди {queue} {}.{}",
            told.service(service),
            when(*at),
            match dead_letter {
                Some(queue) =>
                    format!(" Оно ушло в очередь {queue}, после этого с заказом ничего не произошло."),
                None => " После этого с заказом ничего не произошло.".to_owned(),
            }
        ),
        Lost::NoSuchOrder { service, status, at } => format!(
            "Система «{}» {} пыталась записать статус «{status}», но такого заказа у неё нет.",
            told.service(service),
            when(*at)
        ),
    }
}

fn last_status(told: &Told<'_>, says: Option<&Says>) -> String {
    says.map(|says| {
        format!(" Последний статус: «{}» ({}).", says.status, told.system(&says.service, &says.collection))
    })
    .unwrap_or_default()
}

/// `Магазин — ошибка базы данных 23514 (…)`.
fn incident(told: &Told<'_>, incident: &Incident) -> String {
    format!("{} — {}", told.service(&incident.service), incident_what(told, incident))
}

fn incident_what(told: &Told<'_>, incident: &Incident) -> String {
    let what = trouble(&incident.trouble);
    let place = match &incident.place {
        Some(Place::Storage(bucket)) => format!(" (хранилище файлов {bucket})"),
        Some(Place::Outside(host)) => format!(" ({host})"),
        Some(Place::Queue(queue)) => format!(" (очередь {queue})"),
        Some(Place::Service(_)) | None => String::new(),
    };
    let times = i64::from(incident.times);
    let times = match times {
        0 | 1 => String::new(),
        n => format!(", {} {}", told.words.number(n), told.words.plural(n, "раз", "раза", "раз")),
    };
    format!("{what}{place}{times}")
}

pub(super) fn trouble(trouble: &Trouble) -> String {
    let code = &trouble.code;
    let what = match (trouble.kind, code.as_str()) {
        (TroubleKind::Sql, "no_row") => "в базе данных нет такого заказа".to_owned(),
        (TroubleKind::Sql, _) => format!("ошибка базы данных {code}"),
        (TroubleKind::Http, _) => format!("ответ {code}"),
        (TroubleKind::Message, "reject" | "nack") => "сообщение отклонено".to_owned(),
        (TroubleKind::Message, _) => format!("сообщение не принято ({code})"),
        (TroubleKind::Connection, "no_response") => "ответа не было".to_owned(),
        (TroubleKind::Connection, "timeout") => "время ожидания вышло".to_owned(),
        (TroubleKind::Connection, _) => "соединение оборвалось".to_owned(),
        (TroubleKind::Other, "") => "ошибка".to_owned(),
        (TroubleKind::Other, _) => format!("ошибка {code}"),
    };
    if trouble.message.is_empty() || code == "no_row" { what } else { format!("{what}: {}", trouble.message) }
}

/// Whose turn it is, in the genitive that `ждёт` asks for.
fn role(who: &str) -> String {
    match who {
        "seller" => "продавца".to_owned(),
        "operator" => "оператора производства".to_owned(),
        "customer" | "user" => "клиента".to_owned(),
        "partner" => "партнёра".to_owned(),
        other => format!("«{other}»"),
    }
}
