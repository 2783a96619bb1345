//! A working week in a time zone, without its holidays → how much of a span of time was worked, and when so much will be.
//!
//! *Spec*: IANA time zones through jiff: a shift that a change of the clocks makes longer or shorter is as long as it was.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::facts::At;
use crate::time::{DAY, MINUTE};

/// Longest span that is walked through day by day: what is longer ends in the year 290000.
const MAX_DAYS: usize = 3_700;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// When people work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub name: String,
    zone: TimeZone,
    /// Minutes of the day from and to, in order, for each day from Monday on.
    week: [Vec<(i64, i64)>; 7],
    /// First and last day on which nobody works.
    except: Vec<(Date, Date)>,
}

/// As a file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CalendarText {
    zone: String,
    /// `Mon-Fri 09:00-18:00, Sat 10:00-14:00`.
    hours: String,
    /// Days, or `first/last`.
    #[serde(default)]
    except: Vec<String>,
}

impl CalendarText {
    pub(super) fn read(&self, name: &str) -> Result<Calendar, String> {
        let zone = TimeZone::get(&self.zone).map_err(|_| format!("`{}` is no time zone", self.zone))?;
        let mut week: [Vec<(i64, i64)>; 7] = Default::default();
        for part in self.hours.split(',') {
            let wrong = || format!("`{}` are no hours: write such as `Mon-Fri 09:00-18:00`", part.trim());
            let (days, hours) = part.trim().split_once(' ').ok_or_else(wrong)?;
            let shift = shift(hours).ok_or_else(wrong)?;
            let (first, last) = days.split_once('-').unwrap_or((days, days));
            let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
            let (first, last) = (day(first).ok_or_else(wrong)?, day(last).ok_or_else(wrong)?);
            let of = week.get_mut(first..=last).ok_or_else(wrong)?;
            of.iter_mut().for_each(|shifts| shifts.push(shift));
        }
        for shifts in &mut week {
            shifts.sort_unstable();
            if shifts.windows(2).any(|two| matches!(two, [(_, end), (begin, _)] if begin < end)) {
                return Err("two shifts of one day overlap".to_owned());
            }
        }
        let except = self.except.iter().map(|text| {
            let (first, last) = text.split_once('/').unwrap_or((text, text));
            let date = |text: &str| text.trim().parse::<Date>().ok();
            date(first).zip(date(last)).filter(|(first, last)| first <= last).ok_or_else(|| {
                format!("`{text}` are no days: write such as 2027-01-01 or 2027-01-01/2027-01-08")
            })
        });
        let except = except.collect::<Result<_, _>>()?;
        Ok(Calendar { name: name.to_owned(), zone, week, except })
    }
}

/// `09:00-18:00` ⇒ minutes of the day.
fn shift(text: &str) -> Option<(i64, i64)> {
    let minute = |text: &str| -> Option<i64> {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
        let at = hour * 60 + minute;
        ((0..=24).contains(&hour) && (0..60).contains(&minute) && at <= 24 * 60).then_some(at)
    };
    let (from, to) = text.split_once('-')?;
    minute(from).zip(minute(to)).filter(|(from, to)| from < to)
}

impl Calendar {
    /// The first moment at which `work` microseconds have been worked since `since`.
    pub fn after(&self, since: At, work: i64) -> At {
        let mut left = work.max(0);
        for (from, to) in self.shifts_from(since) {
            let from = from.max(since);
            let worked = to.since(from);
            if worked >= left && to > since {
                return from.after(left);
            }
            left -= worked;
        }
        At(i64::MAX)
    }

    /// Microseconds that are worked from `from` to `to`.
    pub fn between(&self, from: At, to: At) -> i64 {
        let shifts = self.shifts_from(from).take_while(|(begin, _)| *begin < to);
        shifts.map(|(begin, end)| end.min(to).since(begin.max(from))).fold(0, i64::saturating_add)
    }

    /// Shifts in order, from the day on that `since` lies in.
    fn shifts_from(&self, since: At) -> impl Iterator<Item = (At, At)> {
        let first = Timestamp::from_microsecond(since.0).ok();
        let first = first.map(|at| at.to_zoned_datetime(self.zone.clone()).date());
        let days = std::iter::successors(first, |day| day.tomorrow().ok()).take(MAX_DAYS);
        days.flat_map(|day| self.of_day(day))
    }

    fn of_day(&self, day: Date) -> Vec<(At, At)> {
        if self.except.iter().any(|(first, last)| (first..=last).contains(&&day)) {
            return Vec::new();
        }
        let of = usize::from(day.weekday().to_monday_zero_offset().unsigned_abs());
        let shifts = self.week.get(of).map(Vec::as_slice).unwrap_or_default();
        shifts.iter().filter_map(|(from, to)| Some((self.at(day, *from)?, self.at(day, *to)?))).collect()
    }

    /// A minute of a day. Twenty-four o'clock is the next day's beginning.
    fn at(&self, day: Date, minute: i64) -> Option<At> {
        let day = if minute * MINUTE >= DAY { day.tomorrow().ok()? } else { day };
        let (hour, minute) = (minute / 60 % 24, minute % 60);
        let at = day.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
        let zoned = at.to_zoned_datetime(self.zone.clone()).ok()?;
        Some(At(zoned.timestamp().as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::HOUR;

    fn calendar(hours: &str, except: &[&str]) -> Result<Calendar, String> {
        let except = except.iter().map(|day| (*day).to_owned()).collect();
        CalendarText { zone: "Europe/Berlin".to_owned(), hours: hours.to_owned(), except }.read("workshop")
    }

    fn at(text: &str) -> At {
        At(text.parse::<Timestamp>().expect("a time").as_microsecond())
    }

    #[test]
    fn a_night_and_a_weekend_are_no_working_time() {
        let workshop = calendar("Mon-Fri 09:00-18:00", &["2026-12-24/2026-12-26"]).expect("a calendar");
        // Friday 17:00 in Berlin, and two hours of work later it is Monday 10:00.
        assert_eq!(workshop.after(at("2026-11-27T16:00:00Z"), 2 * HOUR), at("2026-11-30T09:00:00Z"));
        assert_eq!(workshop.after(at("2026-11-28T12:00:00Z"), 0), at("2026-11-30T08:00:00Z"));
        // At closing time nothing is left of the day, and what was worked exactly by then is done by then.
        assert_eq!(workshop.after(at("2026-11-27T16:00:00Z"), HOUR), at("2026-11-27T17:00:00Z"));
        assert_eq!(workshop.between(at("2026-11-27T16:00:00Z"), at("2026-11-30T09:00:00Z")), 2 * HOUR);
        assert_eq!(workshop.between(at("2026-12-23T17:00:00Z"), at("2026-12-28T08:30:00Z")), HOUR / 2);
    }

    #[test]
    fn a_shift_when_clocks_change_is_as_long_as_it_was() {
        // On 2026-10-25 the hour from 2 to 3 is there twice, on 2026-03-29 it is not.
        let always = calendar("Mon-Sun 00:00-24:00", &[]).expect("a calendar");
        assert_eq!(always.between(at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z")), 25 * HOUR);
        assert_eq!(always.between(at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z")), 23 * HOUR);
    }

    #[test]
    fn what_is_no_calendar_says_why() {
        for (hours, except, named) in [
            ("Mon-Fri", &[][..], "no hours"),
            ("Fri-Mon 09:00-18:00", &[], "no hours"),
            ("Mon-Fri 18:00-09:00", &[], "no hours"),
            ("Mon 09:00-12:00, Mon 11:00-13:00", &[], "overlap"),
            ("Mon-Fri 09:00-18:00", &["Christmas"], "no days"),
            ("Mon-Fri 09:00-25:00", &[], "no hours"),
        ] {
            let error = calendar(hours, except).expect_err(hours);
            assert!(error.contains(named), "{hours}: {error}");
        }
        assert!(CalendarText { zone: "Europe/Atlantis".to_owned(), ..Default::default() }.read("x").is_err());
    }

    proptest! {
        /// Counted minute by minute, as nobody would in earnest.
        #[test]
        fn working_time_is_what_a_count_of_minutes_gives(
            start in 1_790_000_000_i64..1_830_000_000, minutes in 0_i64..6_000, work in 0_i64..2_000,
        ) {
            let shop = calendar("Mon-Thu 09:00-12:30, Mon-Thu 13:00-18:15, Sat 22:00-24:00", &["2026-12-30"])
                .expect("a calendar");
            let start = At(start / 60 * MINUTE);
            let works = |at: At| shop.shifts_from(at).next().is_some_and(|_| {
                let zoned = Timestamp::from_microsecond(at.0).expect("a time").to_zoned_datetime(shop.zone.clone());
                let minute = i64::from(zoned.hour()) * 60 + i64::from(zoned.minute());
                let holiday = zoned.date() == "2026-12-30".parse::<Date>().expect("a day");
                !holiday && match zoned.date().weekday().to_monday_zero_offset() {
                    0..=3 => (540..750).contains(&minute) || (780..1_095).contains(&minute),
                    5 => (1_320..1_440).contains(&minute),
                    _ => false,
                }
            });
            let counted = (0..minutes).filter(|n| works(start.after(n * MINUTE))).count() as i64;
            prop_assert_eq!(shop.between(start, start.after(minutes * MINUTE)), counted * MINUTE);
            // And the other way round: so much was worked by then, and not before.
            let done = shop.after(start, work * MINUTE);
            prop_assert_eq!(shop.between(start, done), work * MINUTE);
            if work > 0 {
                prop_assert!(shop.between(start, done.after(-MINUTE)) < work * MINUTE);
            }
        }
    }
}
