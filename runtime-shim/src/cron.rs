//! The cron trigger: calls a component when its schedule says so, one call at a
//! time. A tick that comes while the last call runs, or while the host is down,
//! is missed, not made up for: a schedule says when, not how often.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use crate::app::CronTrigger;
use crate::invoker::{Invoker, Outcome};
use crate::metrics::{ComponentLabels, Metrics};

/// How long to sleep without a look at the clock, which may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// How late a tick may be called by whoever took a schedule over.
const HANDOVER: Duration = Duration::from_secs(1);
/// Missed ticks that are counted one by one.
const MOST_MISSED: usize = 100_000;

/// From when on a schedule counts.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Ticks up to here are somebody else's.
    pub since: SystemTime,
    /// Cancelled when the last call of whoever had the schedule before has ended:
    /// calls do not overlap.
    pub after: Option<CancellationToken>,
    /// Set before the job is stopped: ticks after it are somebody else's.
    pub until: Arc<OnceLock<SystemTime>>,
}

/// One component on one schedule.
pub struct CronJob {
    trigger: CronTrigger,
    invoker: Arc<Invoker>,
    missed: Counter,
}

impl CronJob {
    /// A job for `trigger`.
    pub fn new(trigger: CronTrigger, invoker: Arc<Invoker>, metrics: &Metrics) -> Self {
        let labels = ComponentLabels {
            component: trigger.component.to_string(),
        };
        Self {
            missed: metrics.ticks_missed.get_or_create_owned(&labels),
            trigger,
            invoker,
        }
    }

    /// Calls the component at each tick until `stop`, then finishes the call
    /// under way.
    pub async fn run(self, begin: Begin, stop: CancellationToken) {
        let mut last = begin.since;
        if let Some(after) = begin.after.filter(|after| !after.is_cancelled()) {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = after.cancelled() => {}
            }
            // What a long call kept from being called was counted as missed.
            last = last.max(SystemTime::now() - HANDOVER);
        }
        while let Some(due) = self.trigger.schedule.next_after(last) {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // Its time had come, and the timer was late.
                    if begin.until.get().is_some_and(|until| due <= *until) {
                        self.call(due).await;
                    }
                    return;
                }
                () = sleep_until(due) => {}
            }
            self.call(due).await;
            last = SystemTime::now().max(due);
            self.note_missed(due, last);
        }
        tracing::info!(
            component = %self.trigger.component, schedule = %self.trigger.schedule,
            "the schedule has no further tick"
        );
        stop.cancelled().await;
    }

    async fn call(&self, due: SystemTime) {
        let CronTrigger {
            component, timeout, ..
        } = &self.trigger;
        let timestamp = due
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let outcome = self.invoker.cron_event(component, timestamp, *timeout);
        let reason = match outcome.await {
            Outcome::Completed(()) => return,
            Outcome::GuestError(reason) => format!("error: {reason}"),
            Outcome::Trap(reason) => format!("trap: {reason}"),
            Outcome::TimedOut(limit) => format!("no answer within {} s", limit.as_secs_f64()),
            Outcome::Overloaded => "no sandbox was free".to_owned(),
        };
        tracing::warn!(%component, timestamp, "scheduled call failed: {reason}");
    }

    fn note_missed(&self, due: SystemTime, until: SystemTime) {
        let schedule = &self.trigger.schedule;
        let later = |time: &SystemTime| schedule.next_after(*time).filter(|next| *next <= until);
        let missed = std::iter::successors(Some(due), later)
            .skip(1)
            .take(MOST_MISSED)
            .count();
        if missed > 0 {
            self.missed.inc_by(missed as u64);
            tracing::warn!(
                component = %self.trigger.component, missed,
                "ticks were missed while a call ran"
            );
        }
    }
}

/// Returns when the clock shows `due`, also if it is set meanwhile.
async fn sleep_until(due: SystemTime) {
    while let Ok(left) = due.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}
