//! Times, durations and numbers → words of a language.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use crate::facts::At;
use crate::time::{DAY, HOUR, MILLI, MINUTE, SECOND};

/// A language a person reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    Ru,
    En,
}

impl Language {
    /// `ru` or `en`, also as the beginning of `ru-RU` and `ru_RU.UTF-8`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.get(..2)?.to_ascii_lowercase().as_str() {
            "ru" => Some(Language::Ru),
            "en" => Some(Language::En),
            _ => None,
        }
    }

    pub fn code(self) -> &'static str {
        match self {
            Language::Ru => "ru",
            Language::En => "en",
        }
    }
}

/// How a person reads: the language and the time zone.
#[derive(Clone, Debug)]
pub struct Words {
    pub language: Language,
    pub zone: TimeZone,
}

/// Digits are grouped by it: a group never breaks at the end of a line.
const THIN_SPACE: char = '\u{202f}';

const MONTHS_RU: [&str; 12] = [
    "января",
    "февраля",
    "марта",
    "апреля",
    "мая",
    "июня",
    "июля",
    "августа",
    "сентября",
    "октября",
    "ноября",
    "декабря",
];
const MONTHS_EN: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Words {
    /// `1 200`, with thin spaces.
    pub fn number(&self, number: i64) -> String {
        let digits = number.unsigned_abs().to_string();
        let mut out = String::new();
        if number < 0 {
            out.push('−');
        }
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                out.push(THIN_SPACE);
            }
            out.push(digit);
        }
        out
    }

    /// The form of a word that goes with a number: `1 заказ`, `2 заказа`, `5 заказов`; `1 order`, `2 orders`.
    pub fn plural<'a>(&self, number: i64, one: &'a str, few: &'a str, many: &'a str) -> &'a str {
        let n = number.unsigned_abs();
        match self.language {
            Language::En => {
                if n == 1 {
                    one
                } else {
                    many
                }
            }
            Language::Ru => match (n % 10, n % 100) {
                (_, 11..=14) => many,
                (1, _) => one,
                (2..=4, _) => few,
                _ => many,
            },
        }
    }

    /// Microseconds in at most two units: `2 дня 3 часа`, `40 s`, `230 ms`.
    pub fn duration(&self, micros: i64) -> String {
        let micros = micros.max(0);
        let ru = self.language == Language::Ru;
        if micros < SECOND {
            return format!("{} {}", micros / MILLI, if ru { "мс" } else { "ms" });
        }
        if micros < 10 * SECOND {
            // One digit after the point, or comma.
            let tenths = micros / (SECOND / 10);
            let (point, unit) = if ru { (',', "с") } else { ('.', "s") };
            return match tenths % 10 {
                0 => format!("{} {unit}", tenths / 10),
                rest => format!("{}{point}{rest} {unit}", tenths / 10),
            };
        }
        let units = [DAY, HOUR, MINUTE, SECOND];
        let largest = units.iter().position(|unit| micros >= *unit).unwrap_or(3);
        let first = units.get(largest).copied().unwrap_or(SECOND);
        let mut text = self.unit(largest, micros / first);
        if let Some(second) = units.get(largest + 1) {
            let rest = micros % first / second;
            if rest > 0 {
                text = format!("{text} {}", self.unit(largest + 1, rest));
            }
        }
        text
    }

    /// Microseconds in one unit, rounded: what is told of many orders is no more exact than that.
    pub fn about(&self, micros: i64) -> String {
        match Self::rounded(micros) {
            Some((unit, number)) => self.unit(unit, number),
            None => self.duration(micros),
        }
    }

    /// The same after *около*: `1 дня`, `5 часов`.
    pub fn about_genitive(&self, micros: i64) -> String {
        let (one, many) = match (self.language, Self::rounded(micros)) {
            (Language::Ru, Some((0, _))) => ("дня", "дней"),
            (Language::Ru, Some((1, _))) => ("часа", "часов"),
            _ => return self.about(micros),
        };
        let number = Self::rounded(micros).map_or(0, |(_, number)| number);
        format!("{} {}", self.number(number), self.plural(number, one, many, many))
    }

    /// The unit that fits and how many of it; `None` below ten seconds.
    fn rounded(micros: i64) -> Option<(usize, i64)> {
        // Half a unit more than one is two of the smaller ones: 90 minutes, not 2 hours.
        let units = [DAY, HOUR, MINUTE, SECOND];
        let unit = units.iter().position(|unit| micros >= unit + unit / 2 && micros >= 10 * SECOND);
        let unit = unit.or((micros >= 10 * SECOND).then_some(3))?;
        let length = units.get(unit).copied().unwrap_or(SECOND);
        Some((unit, (micros + length / 2) / length))
    }

    fn unit(&self, unit: usize, number: i64) -> String {
        let word = match (self.language, unit) {
            (Language::Ru, 0) => self.plural(number, "день", "дня", "дней"),
            (Language::Ru, 1) => self.plural(number, "час", "часа", "часов"),
            (Language::Ru, 2) => "мин",
            (Language::Ru, _) => "с",
            (Language::En, 0) => self.plural(number, "day", "", "days"),
            (Language::En, 1) => self.plural(number, "hour", "", "hours"),
            (Language::En, 2) => "min",
            (Language::En, _) => "s",
        };
        format!("{} {word}", self.number(number))
    }

    /// `2,3 МБ`, `640 kB`.
    pub fn bytes(&self, bytes: i64) -> String {
        let ru = self.language == Language::Ru;
        let units = if ru { ["Б", "кБ", "МБ", "ГБ"] } else { ["B", "kB", "MB", "GB"] };
        let (mut tenths, mut unit) = (bytes.max(0).saturating_mul(10), 0);
        while tenths >= 10_000 && unit + 1 < units.len() {
            tenths /= 1_000;
            unit += 1;
        }
        let name = units.get(unit).copied().unwrap_or_default();
        match tenths % 10 {
            0 => format!("{} {name}", self.number(tenths / 10)),
            rest => format!("{}{}{rest} {name}", tenths / 10, if ru { ',' } else { '.' }),
        }
    }

    /// As a point: `28 ноября, 14:02 (МСК)`. The day is left out when it is that of `now`, the year when it is this one.
    pub fn time(&self, at: At, now: At) -> String {
        self.day_and_clock(at, now).map_or_else(unknown, |(day, clock)| match day {
            Some(day) => format!("{day}, {clock}"),
            None => clock,
        })
    }

    /// As an answer to *when*: `28 ноября в 14:02 (МСК)`, `on 28 November at 14:02 (MSK)`, `в 14:02 (МСК)`.
    pub fn when(&self, at: At, now: At) -> String {
        self.day_and_clock(at, now).map_or_else(unknown, |(day, clock)| match (self.language, day) {
            (Language::Ru, Some(day)) => format!("{day} в {clock}"),
            (Language::Ru, None) => format!("в {clock}"),
            (Language::En, Some(day)) => format!("on {day} at {clock}"),
            (Language::En, None) => format!("at {clock}"),
        })
    }

    fn day_and_clock(&self, at: At, now: At) -> Option<(Option<String>, String)> {
        let (at, now) = (self.zoned(at)?, self.zoned(now)?);
        let clock = format!("{} ({})", at.strftime("%H:%M"), self.zone_name(&at));
        if at.date() == now.date() {
            return Some((None, clock));
        }
        let months = match self.language {
            Language::Ru => MONTHS_RU,
            Language::En => MONTHS_EN,
        };
        let month = months.get(usize::from(at.month().unsigned_abs()).saturating_sub(1))?;
        let year = if at.year() == now.year() { String::new() } else { format!(" {}", at.year()) };
        Some((Some(format!("{} {month}{year}", at.day())), clock))
    }

    /// For tables: `14:02:11.338`, with the date when it is not that of `now`.
    pub fn exact(&self, at: At, now: At) -> String {
        let (Some(at), Some(now)) = (self.zoned(at), self.zoned(now)) else { return unknown() };
        let form = if at.date() == now.date() { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
        at.strftime(form).to_string()
    }

    fn zoned(&self, at: At) -> Option<ZonedDateTime> {
        Timestamp::from_microsecond(at.0).ok().map(|at| at.to_zoned_datetime(self.zone.clone()))
    }

    fn zone_name(&self, at: &ZonedDateTime) -> String {
        let name = at.strftime("%Z").to_string();
        match (self.language, name.as_str()) {
            (Language::Ru, "MSK") => "МСК".to_owned(),
            // A zone without letters is shown as its distance.
            _ if name.starts_with(['+', '-']) => format!("UTC{name}"),
            _ => name,
        }
    }
}

/// A time outside the calendar.
fn unknown() -> String {
    "?".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(language: Language) -> Words {
        Words {
            language,
            zone: TimeZone::get("Europe/Moscow").unwrap_or(TimeZone::fixed(jiff::tz::offset(3))),
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (micros, ru, en) in [
            (230_400, "230 мс", "230 ms"),
            (400_000, "400 мс", "400 ms"),
            (1_500_000, "1,5 с", "1.5 s"),
            (40 * SECOND, "40 с", "40 s"),
            (41 * MINUTE, "41 мин", "41 min"),
            (26 * HOUR, "1 день 2 часа", "1 day 2 hours"),
            (2 * DAY + 21 * HOUR + 5 * MINUTE, "2 дня 21 час", "2 days 21 hours"),
            (5 * DAY, "5 дней", "5 days"),
            (-5, "0 мс", "0 ms"),
        ] {
            assert_eq!(words(Language::Ru).duration(micros), ru);
            assert_eq!(words(Language::En).duration(micros), en);
        }
    }

    #[test]
    fn russian_has_three_forms() {
        let ru = words(Language::Ru);
        let forms: Vec<&str> =
            [1, 2, 5, 11, 12, 21, 22, 111, 0].iter().map(|n| ru.plural(*n, "1", "2", "5")).collect();
        assert_eq!(forms, ["1", "2", "5", "5", "5", "1", "2", "5", "5"]);
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (bytes, ru) in [(0, "0 Б"), (999, "999 Б"), (1_000, "1 кБ"), (2_345_678, "2,3 МБ"), (-1, "0 Б")]
        {
            assert_eq!(words(Language::Ru).bytes(bytes), ru);
        }
    }

    #[test]
    fn numbers_have_thin_spaces() {
        assert_eq!(words(Language::Ru).number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(words(Language::Ru).number(-12), "−12");
    }

    #[test]
    fn a_time_says_what_its_reader_does_not_know() {
        // 2026-11-28 11:02:03.456 UTC, and two days, and a year later.
        let at = At(1_795_863_723_456_000);
        let ru = words(Language::Ru);
        assert_eq!(ru.time(at, At(at.0 + HOUR)), "14:02 (МСК)");
        assert_eq!(ru.time(at, At(at.0 + 2 * DAY)), "28 ноября, 14:02 (МСК)");
        assert_eq!(ru.when(at, At(at.0 + HOUR)), "в 14:02 (МСК)");
        assert_eq!(ru.when(at, At(at.0 + 300 * DAY)), "28 ноября 2026 в 14:02 (МСК)");
        assert_eq!(words(Language::En).when(at, At(at.0 + 2 * DAY)), "on 28 November at 14:02 (MSK)");
        assert_eq!(ru.exact(at, at), "14:02:03.456");
    }
}
