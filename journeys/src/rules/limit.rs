//! Texts such as `30m`, `usual * 3`, `5%` → limits; and what is learned → what they are now.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::model::{Model, Times, Usual, What, parse_limit};

/// So many times must be known before a limit is learned from them.
const ENOUGH: u64 = 50;
/// And the limit is what so many in a hundred of them did not exceed.
const PERCENT: u64 = 99;

/// A multiple of what is usual, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    pub fn of(self, usual: i64) -> i64 {
        usual.saturating_mul(i64::from(self.0)) / 100
    }

    /// `usual`, `usual * 3`, `usual / 3`.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("usual")?.trim();
        if rest.is_empty() {
            return Some(Self(100));
        }
        let number = |text: &str| -> Option<f64> {
            text.trim().parse().ok().filter(|number: &f64| *number >= 0.01 && *number <= 1_000.0)
        };
        let hundredths = match (rest.strip_prefix('*'), rest.strip_prefix('/')) {
            (Some(by), _) => number(by)? * 100.0,
            (_, Some(by)) => 100.0 / number(by)?,
            _ => return None,
        };
        format!("{hundredths:.0}").parse().ok().filter(|hundredths| *hundredths > 0).map(Self)
    }
}

/// How long is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    Micros(i64),
    /// Learned.
    Usual(Factor),
    /// What the model says of the stage, where it says anything.
    Stage,
}

/// What a limit is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Micros(i64),
    /// Too little is known.
    NotYet,
    /// There is none.
    None,
}

impl Limited {
    pub fn is_learned(self) -> bool {
        matches!(self, Limited::Usual(_))
    }

    /// The limit for a stage.
    pub(super) fn at_stage(self, stage: Option<&str>, model: &Model, usual: &Usual) -> Known {
        match (self, stage) {
            (Limited::Micros(micros), _) => Known::Micros(micros),
            (Limited::Usual(factor), Some(stage)) => {
                let stage = model.in_clear(stage);
                learned(usual, factor, |what| what.kind == crate::model::Kind::Stage && what.of == stage)
            }
            (Limited::Usual(_), None) => Known::NotYet,
            (Limited::Stage, stage) => {
                let stage = model.stages.iter().find(|known| Some(known.name.as_str()) == stage);
                stage.and_then(|stage| stage.limit).map_or(Known::None, |limit| Known::Micros(limit.0))
            }
        }
    }

    /// The limit for what takes its time in `times`.
    pub(super) fn of(self, usual: &Usual, is_of: impl Fn(&What) -> bool) -> Known {
        match self {
            Limited::Micros(micros) => Known::Micros(micros),
            Limited::Usual(factor) => learned(usual, factor, is_of),
            Limited::Stage => Known::None,
        }
    }
}

fn learned(usual: &Usual, factor: Factor, is_of: impl Fn(&What) -> bool) -> Known {
    let times = together(usual.times.iter().map(|(what, times)| (what, times.as_ref())), is_of);
    if times.count() < ENOUGH {
        return Known::NotYet;
    }
    Known::Micros(factor.of(times.percentile(PERCENT)))
}

/// The times of all that are meant.
pub(super) fn together<'a>(
    times: impl Iterator<Item = (&'a What, &'a Times)>,
    is_of: impl Fn(&What) -> bool,
) -> Times {
    let mut all = Times::default();
    times.filter(|(what, _)| is_of(what)).for_each(|(_, times)| all.merge(times));
    all
}

impl<'de> Deserialize<'de> for Limited {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.trim() == "stage" {
            return Ok(Limited::Stage);
        }
        let exact = parse_limit(&text).map(|limit| Limited::Micros(limit.0));
        exact.or_else(|| Factor::parse(&text).map(Limited::Usual)).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no limit: write a time such as 30m, `usual`, `usual * 3`, or `stage` for the model's own limit"
            ))
        })
    }
}

/// How many are too many or too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Count(u64),
    Usual(Factor),
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(from)? {
            NumberOrText::Number(count) => Ok(Level::Count(count)),
            NumberOrText::Text(text) => Factor::parse(&text)
                .map(Level::Usual)
                .ok_or_else(|| D::Error::custom(format!("`{text}` is no number and not like `usual / 3`"))),
        }
    }
}

/// Hundredths of a per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// So many of so many; 0 of none.
    pub fn of(part: u64, all: u64) -> Self {
        let share = part.min(all).saturating_mul(10_000).checked_div(all).unwrap_or(0);
        Self(u32::try_from(share).unwrap_or(10_000))
    }

    fn parse(text: &str) -> Option<Self> {
        let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
        let share: u32 = format!("{:.0}", number * 100.0).parse().ok()?;
        (share <= 10_000).then_some(Self(share))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        };
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no share: write one such as 5% or 0.1%")))
    }
}

/// As YAML reads what may be either.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum NumberOrText {
    Number(u64),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, class};
    use crate::time::{HOUR, MINUTE};

    #[test]
    fn limits_are_times_or_multiples_of_what_is_usual() {
        let read = |text: &str| serde_json::from_value::<Limited>(text.into()).ok();
        for (text, expected) in [
            ("30m", Some(Limited::Micros(30 * MINUTE))),
            ("usual", Some(Limited::Usual(Factor(100)))),
            ("usual * 3", Some(Limited::Usual(Factor(300)))),
            ("usual*1.5", Some(Limited::Usual(Factor(150)))),
            ("usual / 4", Some(Limited::Usual(Factor(25)))),
            ("stage", Some(Limited::Stage)),
            ("usually", None),
            ("usual * -1", None),
            ("usual * 0", None),
            ("usual / 1e9", None),
            ("usual * NaN", None),
            ("0m", None),
            ("30", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn shares_are_hundredths_of_a_per_cent() {
        for (text, expected) in
            [("5%", Some(500)), ("0.1 %", Some(10)), ("100%", Some(10_000)), ("101%", None), ("5", None)]
        {
            assert_eq!(Share::parse(text).map(|share| share.0), expected, "{text}");
        }
        assert_eq!((Share::of(1, 3).0, Share::of(0, 0).0, Share::of(u64::MAX, 1).0), (3_333, 0, 10_000));
    }

    #[test]
    fn a_limit_is_learned_from_enough_orders_only() {
        let usual = |count| {
            let mut times = Times::default();
            times.add(class(HOUR), count, 0);
            let what = What { kind: Kind::Stage, of: "priced".to_owned(), with: "started".to_owned() };
            Usual { times: [(what, times.into())].into(), ..Usual::default() }
        };
        let limit =
            |count| Limited::Usual(Factor(300)).at_stage(Some("priced"), &Model::default(), &usual(count));
        assert_eq!(limit(49), Known::NotYet);
        let Known::Micros(micros) = limit(50) else { panic!("enough") };
        assert!((micros - 3 * HOUR).abs() < HOUR / 5, "{micros}");
    }
}
