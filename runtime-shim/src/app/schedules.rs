//! The cron triggers of an application: what is called when, and for how long.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::Deserialize;

use super::{AppError, Selection, TriggerKind, queues};
use crate::manifest::{self, Manifest};
use crate::names::ComponentId;

/// How long a call may take, unless configured.
const DEFAULT_TIMEOUT_SECS: u64 = 60;
const MAX_TIMEOUT_SECS: u64 = 86_400;

/// One component on one schedule.
#[derive(Clone, Debug)]
pub struct CronTrigger {
    /// What is called.
    pub component: ComponentId,
    /// When.
    pub schedule: Schedule,
    /// How long it may take.
    pub timeout: Duration,
}

/// `[application.trigger.cron.<component>]`: Gristmill's own options. The stock
/// trigger ignores them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CronOptions {
    timeout_secs: Option<u64>,
}

/// `sec min hour day-of-month month day-of-week [year]`, in UTC.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    text: String,
}

impl Schedule {
    fn parse(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Optional)
            .build();
        let cron = parser.parse(text).map_err(|error| error.to_string())?;
        let schedule = Self {
            cron,
            text: text.to_owned(),
        };
        match schedule.next_after(SystemTime::now()) {
            Some(_) => Ok(schedule),
            None => Err("that time never comes".to_owned()),
        }
    }

    /// When it is due next, later than `time`.
    pub fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        let time: DateTime<Utc> = time.into();
        let next = self.cron.find_next_occurrence(&time, false).ok()?;
        Some(next.into())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) fn resolve_schedules(
    manifest: &Manifest,
    triggers: Vec<manifest::CronTrigger>,
    selection: &Selection,
) -> Result<Vec<CronTrigger>, AppError> {
    let mut options: BTreeMap<ComponentId, CronOptions> = manifest.trigger_defaults("cron")?;
    let mut schedules = Vec::with_capacity(triggers.len());
    for trigger in triggers {
        let schedule =
            Schedule::parse(&trigger.cron_expression).map_err(|reason| AppError::Schedule {
                component: trigger.component.clone(),
                expression: trigger.cron_expression.clone(),
                reason,
            })?;
        let timeout = options
            .get(&trigger.component)
            .and_then(|own| own.timeout_secs);
        let timeout = queues::in_range(
            "cron",
            &trigger.component,
            "timeout_secs",
            timeout.unwrap_or(DEFAULT_TIMEOUT_SECS),
            1..=MAX_TIMEOUT_SECS,
        )?;
        schedules.push(CronTrigger {
            component: trigger.component,
            schedule,
            timeout: Duration::from_secs(timeout),
        });
    }
    options.retain(|id, _| !schedules.iter().any(|cron| cron.component == *id));
    match options
        .into_keys()
        .find(|id| selection.has(TriggerKind::Cron, id))
    {
        Some(component) => Err(AppError::OrphanOptions {
            kind: "cron",
            component,
        }),
        None => Ok(schedules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let schedule = Schedule::parse(expression).expect(expression);
        let after: DateTime<Utc> = after.parse().expect("a time");
        let next = schedule.next_after(after.into()).expect("it comes");
        DateTime::<Utc>::from(next).to_rfc3339()
    }

    #[test]
    fn seconds_come_first_and_times_are_utc() {
        let after = "2026-02-27T23:59:59.5Z";
        for (expression, expected) in [
            ("* * * * * *", "2026-02-28T00:00:00+00:00"),
            ("*/15 * * * * *", "2026-02-28T00:00:00+00:00"),
            ("30 0 12 * * *", "2026-02-28T12:00:30+00:00"),
            ("0 0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
            ("0 0 9 * * MON", "2026-03-02T09:00:00+00:00"),
            ("0 0 0 1 1 * 2030", "2030-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(next(expression, after), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_due_is_due_once() {
        assert_eq!(
            next("0 * * * * *", "2026-01-01T00:00:00Z"),
            "2026-01-01T00:01:00+00:00"
        );
    }

    #[test]
    fn refuses_what_is_not_a_schedule() {
        for expression in [
            "",
            "* * * * *",
            "61 * * * * *",
            "0 0 0 30 2 *",
            "0 0 0 1 1 * 1999",
        ] {
            assert!(Schedule::parse(expression).is_err(), "{expression}");
        }
    }
}
