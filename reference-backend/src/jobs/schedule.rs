//! When a job is due: the instants of a cron pattern, in UTC, and which of those that were missed are made up for. Pure.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Direction};
use serde::{Deserialize, Serialize};

/// A cron pattern of five fields, or of six with seconds first. In UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// A text that is no cron pattern, or one that never comes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "schedule {0:?}: {1}; expected cron fields like \"*/15 * * * *\", with seconds first if there are six"
)]
pub struct ScheduleError(String, String);

/// What is made up for when instants have passed without a run: nobody was there, or the run before took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// None of them.
    Skip,
    /// The latest.
    Latest,
    /// The latest so many, the oldest first.
    Each(usize),
}

/// What becomes of a run whose process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfDied {
    /// Another process takes it over, once.
    TakeOver,
    /// It has failed; the next instant is soon enough.
    GiveUp,
}

impl Schedule {
    /// The first instant after a moment.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_next_occurrence(&moment, false).ok()
    }

    /// The instants after `last` up to `now` that are to run, the oldest first. One that is no older than `misfire` is on time,
    /// not missed.
    pub(crate) fn due(
        &self,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
        catch_up: CatchUp,
        misfire: Duration,
    ) -> Vec<DateTime<Utc>> {
        let passed = self.cron.iter_from(now, Direction::Backward);
        let passed = passed.take_while(|instant| *instant > last);
        let mut due: Vec<_> = match catch_up {
            CatchUp::Skip => passed.take(1).filter(|instant| *instant + misfire >= now).collect(),
            CatchUp::Latest => passed.take(1).collect(),
            CatchUp::Each(most) => passed.take(most).collect(),
        };
        due.reverse();
        due
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason: String| ScheduleError(text.to_owned(), reason);
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed);
        let cron = parser.build().parse(text).map_err(|error| wrong(error.to_string()))?;
        let schedule = Self { text: text.to_owned(), cron };
        // 31 February parses.
        let comes = schedule.next_after(DateTime::UNIX_EPOCH).is_some();
        if comes { Ok(schedule) } else { Err(wrong("it never comes".to_owned())) }
    }
}

impl TryFrom<String> for Schedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.text
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}Z").parse().unwrap()
    }

    fn due(last: &str, now: &str, catch_up: CatchUp) -> Vec<String> {
        let schedule: Schedule = "*/10 * * * *".parse().unwrap();
        let due = schedule.due(at(last), at(now), catch_up, Duration::from_secs(60));
        due.iter().map(|instant| instant.format("%dT%H:%M:%S").to_string()).collect()
    }

    #[test]
    fn an_instant_on_time_runs_whatever_the_policy() {
        for catch_up in [CatchUp::Skip, CatchUp::Latest, CatchUp::Each(3)] {
            assert_eq!(due("23T10:00:00", "23T10:09:59.999", catch_up), [""; 0]);
            assert_eq!(due("23T10:00:00", "23T10:10:00", catch_up), ["23T10:10:00"]);
            assert_eq!(due("23T10:00:00", "23T10:11:00", catch_up), ["23T10:10:00"]);
            assert_eq!(due("23T10:10:00", "23T10:11:00", catch_up), [""; 0], "it has run");
        }
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_the_policy_says() {
        let missed = |catch_up| due("20T10:00:00", "23T10:35:00", catch_up);
        assert_eq!(missed(CatchUp::Skip), [""; 0]);
        assert_eq!(missed(CatchUp::Latest), ["23T10:30:00"]);
        assert_eq!(missed(CatchUp::Each(3)), ["23T10:10:00", "23T10:20:00", "23T10:30:00"]);
    }

    #[test]
    fn patterns_have_five_fields_or_six_with_seconds_and_do_come() {
        for good in ["0 2 * * *", "*/5 * * * * *", "0 3 1 * *", "30 4 * * SUN"] {
            assert_eq!(good.parse::<Schedule>().map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "daily", "* * * *", "0 0 31 2 *", "61 * * * *", "0 0 2 * * * 2030"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn seconds_come_first() {
        let schedule: Schedule = "*/5 * * * * *".parse().unwrap();
        assert_eq!(schedule.next_after(at("23T10:00:01.5")), Some(at("23T10:00:05")));
    }
}
