//! Reasons → English sentences.

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
            format!("Finished {}. The whole way took {}.", when(says.at), words.duration(*took_micros))
        }
        Reason::Refused { says, by } => {
            let status = format!(
                "{}, {}: status “{}”.",
                told.system(&says.service, &says.collection),
                time(says.at),
                says.status
            );
            match by {
                Some(by) => {
                    format!("{status} Before that: {}. The order has not moved since.", incident(told, by))
                }
                None => format!("{status} The cause was not seen. The order has not moved since."),
            }
        }
        Reason::Broke { by, says } => format!(
            "{}, {}: {}. Nothing happened after that.{}",
            told.service(&by.service),
            time(by.last_at),
            incident_what(told, by),
            last_status(told, says.as_ref()),
        ),
        Reason::NotSettled { service, queue, since, attempts } => format!(
            "{} took the message from queue {queue} {} and did not acknowledge it{}.",
            told.service(service),
            when(*since),
            if *attempts > 1 { format!(" (attempt {attempts})") } else { String::new() },
        ),
        Reason::Hangs { service, operation, on, since } => {
            let since = format!("since {} ({})", time(*since), long(*since));
            let service = told.service(service);
            match on {
                Hang::Answer(peer) if peer.is_empty() => {
                    format!("{service} has been waiting for an answer {since}.")
                }
                Hang::Answer(peer) => {
                    format!("{service} has been waiting for an answer of {} {since}.", told.service(peer))
                }
                Hang::Database => format!("{service} has been waiting for its database {since}."),
                Hang::Itself if operation.is_empty() => format!("{service} has been busy with it {since}."),
                Hang::Itself => format!("{service} has not ended “{operation}” {since}."),
            }
        }
        Reason::InQueue { queue, since, consumers, depth } => {
            let nobody = if *consumers == Some(0) { " Nobody takes from it." } else { "" };
            let depth = depth.filter(|depth| *depth > 1);
            let depth =
                depth.map(|depth| format!(" At least {} messages are in it.", words.number(depth.into())));
            let since = format!("since {} ({})", time(*since), long(*since));
            format!(
                "The message has been lying in queue {queue} {since}.{nobody}{}",
                depth.unwrap_or_default()
            )
        }
        Reason::Lost(lost) => lost_how(told, lost),
        Reason::Disagree { ahead, behind } => format!(
            "{} says “{}” since {}. {} still shows “{}”.",
            told.system(&ahead.service, &ahead.collection),
            ahead.status,
            time(ahead.at),
            told.system(&behind.service, &behind.collection),
            behind.status,
        ),
        Reason::NotSeen { node, since, at, before } => {
            let then = Told { words: told.words, model: told.model, now: *at };
            format!(
                "Nothing has been seen since {} ({}): the agent on {node} is silent. Before that: {}",
                time(*since),
                long(*since),
                self::reason(&then, before)
            )
        }
        Reason::SomebodysTurn { who, stage, since, limit_micros } => {
            let limit = limit_micros
                .map(|limit| format!("; the limit is {}", words.duration(limit)))
                .unwrap_or_default();
            format!("Waits for {} at stage “{}” for {}{limit}.", role(who), told.stage(stage), long(*since))
        }
        Reason::NoProgress { since, says } => format!(
            "Nothing has happened since {} ({}).{}",
            time(*since),
            long(*since),
            last_status(told, says.as_ref())
        ),
        Reason::Moving { stage: Some(stage), since } => {
            format!("In progress: “{}” for {}.", told.stage(stage), long(*since))
        }
        Reason::Moving { stage: None, .. } => {
            "In progress; the order's status has not been seen yet.".to_owned()
        }
        Reason::Nothing => "Somebody only asked about this order; no change of it was seen.".to_owned(),
    }
}

pub(super) fn usually(told: &Told<'_>, usual: &Usually) -> String {
    match usual {
        Usually::Take { micros } => format!("Usually it takes about {}.", told.words.about(*micros)),
        Usually::Last { micros } => format!("Usually it lasts about {}.", told.words.about(*micros)),
        Usually::GoOn { stage, micros } => {
            format!("Usually “{}” follows after about {}.", told.stage(stage), told.words.about(*micros))
        }
    }
}

/// What should be once was again.
pub(super) fn again(told: &Told<'_>, again: &Again<'_>) -> String {
    format!(
        "{} wrote status “{}” again at {}, first at {}. An order has it once: it may have been made twice.",
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
            "{} sent message {destination} {}, but no queue took it: it is lost.",
            told.service(service),
            when(*at)
        ),
        Lost::Refused { service, destination, at } => format!(
            "{} sent message {destination} {}, but the message broker did not accept it.",
            told.service(service),
            when(*at)
        ),
        Lost::NotTaken { service, destination, at } => format!(
            "{} sent message {destination} {}, and nobody took it. Such messages usually are taken.",
            told.service(service),
            when(*at)
        ),
        Lost::Rejected { service, queue, at, dead_letter } => format!(
            "{} rejected the message from queue {queue} {}.{}",
            told.service(service),
            when(*at),
            match dead_letter {
                Some(queue) =>
                    format!(" It went to queue {queue}; nothing happened to the order after that."),
                None => " Nothing happened to the order after that.".to_owned(),
            }
        ),
        Lost::NoSuchOrder { service, status, at } => format!(
            "{} tried to write status “{status}” {}, but does not have this order.",
            told.service(service),
            when(*at)
        ),
    }
}

fn last_status(told: &Told<'_>, says: Option<&Says>) -> String {
    says.map(|says| {
        format!(" The last status is “{}” ({}).", says.status, told.system(&says.service, &says.collection))
    })
    .unwrap_or_default()
}

fn incident(told: &Told<'_>, incident: &Incident) -> String {
    format!("{} – {}", told.service(&incident.service), incident_what(told, incident))
}

fn incident_what(told: &Told<'_>, incident: &Incident) -> String {
    let what = trouble(&incident.trouble);
    let place = match &incident.place {
        Some(Place::Storage(bucket)) => format!(" (file store {bucket})"),
        Some(Place::Outside(host)) => format!(" ({host})"),
        Some(Place::Queue(queue)) => format!(" (queue {queue})"),
        Some(Place::Service(_)) | None => String::new(),
    };
    let times = match i64::from(incident.times) {
        0 | 1 => String::new(),
        n => format!(", {} times", told.words.number(n)),
    };
    format!("{what}{place}{times}")
}

pub(super) fn trouble(trouble: &Trouble) -> String {
    let code = &trouble.code;
    let what = match (trouble.kind, code.as_str()) {
        (TroubleKind::Sql, "no_row") => "the database has no such order".to_owned(),
        (TroubleKind::Sql, _) => format!("database error {code}"),
        (TroubleKind::Http, _) => format!("answer {code}"),
        (TroubleKind::Message, "reject" | "nack") => "the message was rejected".to_owned(),
        (TroubleKind::Message, _) => format!("the message was not accepted ({code})"),
        (TroubleKind::Connection, "no_response") => "there was no answer".to_owned(),
        (TroubleKind::Connection, "timeout") => "the time limit passed".to_owned(),
        (TroubleKind::Connection, _) => "the connection broke".to_owned(),
        (TroubleKind::Other, "") => "an error".to_owned(),
        (TroubleKind::Other, _) => format!("error {code}"),
    };
    if trouble.message.is_empty() || code == "no_row" { what } else { format!("{what}: {}", trouble.message) }
}

fn role(who: &str) -> String {
    match who {
        "seller" => "the seller".to_owned(),
        "operator" => "the production operator".to_owned(),
        "customer" | "user" => "the customer".to_owned(),
        "partner" => "the partner".to_owned(),
        other => format!("“{other}”"),
    }
}
