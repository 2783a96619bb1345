//! A destination's name → the same with what stands for one thing only replaced, so that names do not grow with the orders.
//!
//! *Owns* what of a name varies. *Must not know* spans.
//!
//! | word | becomes | why |
//! |---|---|---|
//! | digits | `{id}` | `order.17.created` |
//! | letters and three digits or more behind them | the letters and `{id}` | `SO777124`; `v2`, `s3` and `utf8` are names |
//! | three digits or more, letters between or behind them | `{id}` | `WX12YZ3456`, `abc1234def`: nothing says where the number ends |
//! | what a span takes out of the name | `{id}` | a telephone, a card, a token by its shape |
//! | UUID, ULID, twelve hexadecimal digits or more | `{id}` | of both kinds: no word of a language |
//! | sixteen letters and digits or more, upper and lower case, two digits | `{id}` | base64 and base62 of random bytes |
//! | what RabbitMQ or a library names for one connection | its beginning | `amq.gen-…`, `spring.gen-…`, answers to direct reply-to |

use crate::operation::amqp::DIRECT_REPLY_TO;
use crate::privacy::NO_KEYS;
use crate::privacy::redact::{self, REDACTED};

/// Queues that are named for one connection. What follows is random.
const GENERATED: [&str; 2] = ["amq.gen-", "spring.gen-"];
const ID: &str = "{id}";
const MIN_DIGITS: usize = 3;
/// Longest letters that stay before a number: longer ones are no prefix of numbers.
const MAX_PREFIX: usize = 16;
const MIN_HEX: usize = 12;
const MIN_RANDOM: usize = 16;
const UUID_LEN: usize = 36;
const ULID_LEN: usize = 26;

/// Named for one connection, by the broker or by a library.
pub(super) fn is_anonymous(part: &str) -> bool {
    part.starts_with(DIRECT_REPLY_TO) || GENERATED.iter().any(|generated| part.starts_with(generated))
}

/// The name with its variable parts replaced; the same when it has none. Made of what a span shows of the name: what is taken out of
/// that for being secret or personal does not come back here, in pieces. Numbers of people go even where they are an order's key: the
/// template is the same for all orders.
pub(super) fn of(name: &str) -> String {
    let shown = redact::destination(name, NO_KEYS);
    // Words in small letters stay as they are.
    if shown.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b':')) {
        return shown.into_owned();
    }
    parts(&shown.replace(REDACTED, ID))
}

fn parts(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, part) in name.split(':').enumerate() {
        if at > 0 {
            out.push(':');
        }
        let generated = GENERATED.iter().find(|generated| part.starts_with(**generated));
        match generated {
            _ if part.starts_with(DIRECT_REPLY_TO) => out.push_str(DIRECT_REPLY_TO),
            Some(generated) => out.extend([*generated, ID]),
            None => words(part, &mut out),
        }
    }
    out
}

fn words(mut rest: &str, out: &mut String) {
    while let Some(first) = rest.chars().next() {
        let uuid = rest.get(..UUID_LEN).filter(|text| is_uuid(text));
        // A UUID ends where a word does.
        let after = uuid.and_then(|_| rest.get(UUID_LEN..)).unwrap_or_default();
        if uuid.is_some() && !after.starts_with(char::is_alphanumeric) {
            out.push_str(ID);
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (text, after) = match end {
            0 => rest.split_at(first.len_utf8()),
            end => rest.split_at(end),
        };
        if end == 0 {
            out.push_str(text)
        } else {
            word(text, out)
        }
        rest = after;
    }
}

fn is_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    groups.iter().all(|len| {
        parts
            .next()
            .is_some_and(|part| part.len() == *len && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }) && parts.next().is_none()
}

fn word(text: &str, out: &mut String) {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|byte| kind(&byte));
    let is_hex = text.len() >= MIN_HEX
        && digits > 0
        && has(u8::is_ascii_alphabetic)
        && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Crockford's base 32 without I, L, O and U; the first of 26 digits holds three bits.
    let is_ulid = text.len() == ULID_LEN
        && digits > 0
        && text.starts_with(|c: char| ('0'..='7').contains(&c))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"ILOUilou".contains(&byte));
    let is_random = text.len() >= MIN_RANDOM
        && digits >= 2
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && text.is_ascii();
    if digits == 0 {
        return out.push_str(text);
    }
    if digits == text.len() || is_hex || is_ulid || is_random {
        return out.push_str(ID);
    }
    if digits < MIN_DIGITS {
        return out.push_str(text);
    }
    let prefix = text.trim_end_matches(|c: char| c.is_ascii_digit());
    if text.len() - prefix.len() == digits && prefix.chars().count() <= MAX_PREFIX {
        out.push_str(prefix);
    }
    out.push_str(ID);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_grow_with_what_they_name() {
        for (name, expected) in [
            ("order.17.created", "order.{id}.created"),
            ("ex:order-777123", "ex:order-{id}"),
            ("SO-777124", "SO-{id}"),
            ("SO777124.new", "SO{id}.new"),
            ("o777126", "o{id}"),
            ("заказ-777127", "заказ-{id}"),
            ("заказ777127", "заказ{id}"),
            ("WX12YZ3456", "{id}"),
            ("abc1234def.new", "{id}.new"),
            ("orders.AKIAABCDEFGHIJ1234KL", "orders.{id}"),
            ("AKIAABCDEFGHIJKLMNO7", "{id}"),
            ("ABCDEFGHIJKLMNOPQ123", "{id}"),
            ("q:token=abc1234def", "q:token={id}"),
            ("q:password=zq", "q:password={id}"),
            ("sms.89161230030.out", "sms.{id}.out"),
            ("sms.+7 916 123-00-03", "sms.+{id}"),
            ("orders_2026_11", "orders_{id}_{id}"),
            ("order.01ARZ3NDEKTSV4RRFFQ69G5FAV", "order.{id}"),
            ("order.01arz3ndektsv4rrffq69g5fav", "order.{id}"),
            ("507f1f77bcf86cd799439011", "{id}"),
            ("reply-0b6f1a2c-3d4e-5f60-7182-93a4b5c6d7e8.x", "reply-{id}.x"),
            ("0b6f1a2c3d4e5f60718293a4b5c6d7e8", "{id}"),
            ("bus-Qm1rZ2x4YWJjZGVmZ2g", "bus-{id}"),
            ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", "amq.gen-{id}"),
            ("spring.gen-Qm1rZ2x4", "spring.gen-{id}"),
            ("amq.rabbitmq.reply-to.g1h2AA5yZXBseQ", "amq.rabbitmq.reply-to"),
        ] {
            assert_eq!(of(name), expected, "{name}");
            assert_eq!(of(expected), expected, "once is enough");
        }
    }

    #[test]
    fn names_stay_names() {
        for name in [
            "",
            "mes.orders",
            "v2.orders",
            "s3-events",
            "utf8.http2",
            "worker12",
            "i18n.h2c.k8s-2b",
            "celery@vm.celery.pidbox",
            "orders.dead-letter:retry",
            "deadbeefcafe",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "замечания",
            "a--b..c::d",
        ] {
            assert_eq!(of(name), name);
        }
    }
}
