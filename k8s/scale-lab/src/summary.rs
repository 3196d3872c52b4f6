//! A run in a few numbers. Everything is computed from the timeline, so that a simulated and a
//! live run are summed up alike.

use std::fmt;

use serde::Serialize;

use crate::scenario::Costs;
use crate::time::Time;
use crate::timeline::{EventKind, Timeline};

/// A change of replicas against the direction of the one before, within so many seconds of it,
/// is a flap: the HorizontalPodAutoscaler's default stabilization window.
pub const FLAP_SECONDS: f64 = 300.0;
/// The queue is drained when no more of its largest backlog waits than this share.
const DRAINED: f64 = 0.01;
/// Ages are looked at so often between two samples.
const STEPS: u32 = 8;

/// What [`Summary::of`] finds. Ages, lengths and moments are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How long it was watched.
    pub seconds: f64,
    /// Messages sent.
    pub sent: f64,
    /// Messages settled.
    pub processed: f64,
    /// Messages that are neither settled nor in the queue: dead letters.
    pub dead: f64,
    /// Messages in the queue at the end.
    pub left: f64,
    /// The largest backlog: visible, in flight, delayed.
    pub max_backlog: f64,
    /// When that was.
    pub max_backlog_at: f64,
    /// The most messages that waited.
    pub max_waiting: f64,
    /// The most messages in flight.
    pub max_in_flight: f64,
    /// Half of the messages were in the queue no longer than this, from the send until they
    /// left it. Messages are taken to leave in the order in which they came; to the distance
    /// of the samples. Those left at the end count with what they have waited.
    pub age_p50: f64,
    /// 99 of 100 messages.
    pub age_p99: f64,
    /// The oldest message there was.
    pub age_max: f64,
    /// The mean.
    pub age_mean: f64,
    /// From the moment when most messages waited until a hundredth of these waits; none if
    /// that is not reached, or nothing ever waits.
    pub drained_after: Option<f64>,
    /// The most pods that were wanted.
    pub max_replicas: u32,
    /// Pods that existed, terminating ones too, times hours.
    pub pod_hours: f64,
    /// Changes of replicas upwards.
    pub scaled_up: usize,
    /// Changes of replicas downwards.
    pub scaled_down: usize,
    /// Changes against the one before, within [`FLAP_SECONDS`].
    pub flaps: usize,
    /// Pods that were killed.
    pub killed: usize,
    /// What it cost.
    pub cost: Cost,
}

/// What a run cost, in the currency of the scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// The currency.
    pub currency: String,
    /// Pods.
    pub pods: f64,
    /// Requests to the queue, and their number.
    pub requests: f64,
    /// The number of requests.
    pub request_count: f64,
    /// What messages cost elsewhere.
    pub messages: f64,
    /// The sum.
    pub total: f64,
    /// The sum, for a million settled messages; none without a settled one.
    pub per_million: Option<f64>,
}

impl Summary {
    /// Sums up a run.
    #[must_use]
    pub fn of(timeline: &Timeline, costs: &Costs) -> Self {
        let mut found = Self::default();
        let (mut pod_seconds, mut ready_seconds) = (0.0, 0.0);
        let mut before: Option<Time> = None;
        for sample in &timeline.samples {
            let backlog = sample.depth.backlog();
            if backlog > found.max_backlog {
                found.max_backlog = backlog;
                found.max_backlog_at = sample.time.seconds();
            }
            found.max_waiting = found.max_waiting.max(sample.depth.visible);
            found.max_in_flight = found.max_in_flight.max(sample.depth.in_flight);
            found.age_max = found.age_max.max(sample.oldest_age);
            found.max_replicas = found.max_replicas.max(sample.desired);
            let span = before.map_or(0.0, |before| (sample.time - before).as_secs_f64());
            pod_seconds += f64::from(sample.running + sample.draining) * span;
            ready_seconds += f64::from(sample.ready) * span;
            before = Some(sample.time);
        }
        if let Some(last) = timeline.samples.last() {
            found.seconds = last.time.seconds();
            found.sent = last.sent;
            found.processed = last.processed;
            found.left = last.depth.backlog();
            found.dead = (last.sent - last.processed - found.left).max(0.0);
        }
        found.pod_hours = pod_seconds / 3600.0;
        found.ages(timeline);
        found.events(timeline);
        found.drained_after = drained_after(timeline);
        found.cost = Cost::of(&found, ready_seconds, costs);
        found
    }

    fn ages(&mut self, timeline: &Timeline) {
        let mut ages = ages(timeline);
        ages.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        let all: f64 = ages.iter().map(|(_, messages)| messages).sum();
        if all <= 0.0 {
            return;
        }
        let weighted = ages.iter().map(|(age, messages)| age * messages);
        self.age_mean = weighted.sum::<f64>() / all;
        let quantile = |share: f64| {
            let mut left = share * all;
            let found = ages.iter().find(|(_, messages)| {
                left -= messages;
                left <= 0.0
            });
            found.or(ages.last()).map_or(0.0, |(age, _)| *age)
        };
        self.age_p50 = quantile(0.5);
        self.age_p99 = quantile(0.99);
        self.age_max = self.age_max.max(quantile(1.0));
    }

    fn events(&mut self, timeline: &Timeline) {
        let mut last: Option<(Time, bool)> = None;
        for event in &timeline.events {
            match &event.kind {
                EventKind::Scaled { from, to, .. } => {
                    let up = to > from;
                    if up {
                        self.scaled_up += 1;
                    } else {
                        self.scaled_down += 1;
                    }
                    if last.is_some_and(|(then, was_up)| {
                        was_up != up && event.time.since(then).as_secs_f64() <= FLAP_SECONDS
                    }) {
                        self.flaps += 1;
                    }
                    last = Some((event.time, up));
                }
                EventKind::Killed { .. } => self.killed += 1,
            }
        }
    }
}

impl Cost {
    fn of(summary: &Summary, ready_seconds: f64, costs: &Costs) -> Self {
        let polls = ready_seconds / costs.idle_poll.as_secs_f64();
        let request_count = summary.sent.mul_add(costs.requests_per_message, polls);
        let pods = summary.pod_hours * costs.pod_hour;
        let requests = request_count / 1e6 * costs.million_requests;
        let messages = summary.processed / 1e6 * costs.million_messages;
        let total = pods + requests + messages;
        Self {
            currency: costs.currency.clone(),
            pods,
            requests,
            request_count,
            messages,
            total,
            per_million: (summary.processed > 0.0).then(|| total / summary.processed * 1e6),
        }
    }
}

/// Ages at which messages left, with how many did; then of those that are left.
fn ages(timeline: &Timeline) -> Vec<(f64, f64)> {
    let samples = &timeline.samples;
    let mut found = Vec::new();
    // Where on the curve of what was sent the next message that leaves is.
    let mut at = 0;
    let mut sent_at = |number: f64| {
        while samples.get(at + 1).is_some_and(|next| next.sent < number) {
            at += 1;
        }
        let (Some(low), Some(high)) = (samples.get(at), samples.get(at + 1)) else {
            return samples.last().map_or(0.0, |last| last.time.seconds());
        };
        let (from, to) = (low.time.seconds(), high.time.seconds());
        let between = (number - low.sent) / (high.sent - low.sent).max(f64::MIN_POSITIVE);
        (to - from).mul_add(between.clamp(0.0, 1.0), from)
    };
    for pair in samples.windows(2) {
        let [low, high] = pair else { continue };
        let gone = |sample: &crate::timeline::Sample| sample.sent - sample.depth.backlog();
        let (from, to) = (gone(low), gone(high));
        if to <= from {
            continue;
        }
        for step in 0..STEPS {
            let share = (f64::from(step) + 0.5) / f64::from(STEPS);
            let now = low.time.seconds() * (1.0 - share) + high.time.seconds() * share;
            let age = (now - sent_at((to - from).mul_add(share, from))).max(0.0);
            found.push((age, (to - from) / f64::from(STEPS)));
        }
    }
    if let Some(last) = samples.last() {
        let left = last.depth.backlog();
        for step in 0..STEPS {
            let share = (f64::from(step) + 0.5) / f64::from(STEPS);
            let age = last.time.seconds() - sent_at(left.mul_add(share - 1.0, last.sent));
            found.push((age.max(0.0), left / f64::from(STEPS)));
        }
    }
    found
}

fn drained_after(timeline: &Timeline) -> Option<f64> {
    let mut most = timeline.samples.first()?;
    for sample in &timeline.samples {
        if sample.depth.visible > most.depth.visible {
            most = sample;
        }
    }
    if most.depth.visible < 1.0 {
        return None;
    }
    let later = timeline
        .samples
        .iter()
        .filter(|sample| sample.time > most.time);
    let mut drained = later.filter(|sample| sample.depth.visible <= most.depth.visible * DRAINED);
    drained
        .next()
        .map(|sample| (sample.time - most.time).as_secs_f64())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: String| {
            writeln!(f, "{name:<24}{value}")
        };
        let messages = format!(
            "{} sent, {} settled, {} dead, {} left after {:.0} s",
            grouped(self.sent),
            grouped(self.processed),
            grouped(self.dead),
            grouped(self.left),
            self.seconds
        );
        line(f, "messages", messages)?;
        let backlog = format!(
            "{} at {:.0} s; at most {} waited, {} were in flight",
            grouped(self.max_backlog),
            self.max_backlog_at,
            grouped(self.max_waiting),
            grouped(self.max_in_flight)
        );
        line(f, "largest backlog", backlog)?;
        let drained = match self.drained_after {
            Some(after) => format!("{after:.0} s after most messages waited"),
            None if self.max_waiting < 1.0 => "nothing waited".to_owned(),
            None => "not until the end".to_owned(),
        };
        line(f, "drained", drained)?;
        let ages = format!(
            "median {:.1} s, 99th percentile {:.1} s, oldest {:.1} s",
            self.age_p50, self.age_p99, self.age_max
        );
        line(f, "age when settled", ages)?;
        let pods = format!(
            "at most {}, {:.2} pod-hours",
            self.max_replicas, self.pod_hours
        );
        line(f, "pods", pods)?;
        let scaling = format!(
            "{} up, {} down, {} of them flaps; {} killed",
            self.scaled_up, self.scaled_down, self.flaps, self.killed
        );
        line(f, "changes of replicas", scaling)?;
        let cost = &self.cost;
        let per_million = cost.per_million.map_or_else(String::new, |per| {
            format!(", {per:.3} for a million messages")
        });
        let cost = format!(
            "{:.4} {} (pods {:.4}, {} requests {:.4}, elsewhere {:.4}){per_million}",
            cost.total,
            cost.currency,
            cost.pods,
            grouped(cost.request_count),
            cost.requests,
            cost.messages
        );
        line(f, "cost", cost)
    }
}

/// A whole number with a comma after each three digits.
#[must_use]
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", &*digits), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Depth, Event, Sample};

    /// 10 messages/s for 100 s; 5 a second leave from the start on: the n-th leaves at n/5 and
    /// was sent at n/10.
    fn slow() -> Timeline {
        let samples = (0..=200_u32).map(|second| {
            let sent = f64::from(second.min(100)) * 10.0;
            let processed = f64::from(second) * 5.0;
            Sample {
                time: Time::from_millis(u64::from(second) * 1000),
                sent,
                processed,
                depth: Depth {
                    visible: sent - processed,
                    ..Depth::default()
                },
                desired: 3,
                running: 3,
                ready: 2,
                draining: 1,
                ..Sample::default()
            }
        });
        Timeline {
            samples: samples.collect(),
            events: Vec::new(),
        }
    }

    fn scaled(seconds: u64, from: u32, to: u32) -> Event {
        let kind = EventKind::Scaled {
            from,
            to,
            reason: String::new(),
        };
        Event {
            time: Time::from_millis(seconds * 1000),
            kind,
        }
    }

    fn close(value: f64, wanted: f64, by: f64) {
        assert!((value - wanted).abs() <= by, "{value} is not {wanted}");
    }

    #[test]
    fn ages_are_those_of_two_straight_curves() {
        let costs = Costs {
            pod_hour: 0.5,
            million_requests: 100.0,
            ..Costs::default()
        };
        let found = Summary::of(&slow(), &costs);
        // The age of the n-th is n/10, evenly up to 100 s.
        close(found.age_p50, 50.0, 0.2);
        close(found.age_p99, 99.0, 0.2);
        close(found.age_mean, 50.0, 0.1);
        close(found.age_max, 100.0, 0.2);
        close(found.max_backlog, 500.0, 0.0);
        close(found.max_backlog_at, 100.0, 0.0);
        // 5 of 500 wait when another 495 have left, at 5 a second.
        assert_eq!(found.drained_after, Some(99.0));
        // Four pods for 200 s; two of them poll each 20 s; 300 requests for 1000 messages.
        close(found.pod_hours, 4.0 * 200.0 / 3600.0, 1e-9);
        close(found.cost.request_count, 320.0, 1e-9);
        close(found.cost.total, 0.5 * 4.0 * 200.0 / 3600.0 + 0.032, 1e-9);
    }

    #[test]
    fn what_is_left_counts_with_what_it_has_waited() {
        let mut timeline = slow();
        timeline.samples.truncate(101);
        let found = Summary::of(&timeline, &Costs::default());
        close(found.left, 500.0, 0.0);
        // Sent at 0 to 50 s and gone: ages 0 to 50; sent at 50 to 100 s and left: 50 to 0.
        close(found.age_p99, 49.5, 3.5);
        close(found.age_mean, 25.0, 0.5);
    }

    #[test]
    fn a_change_back_within_five_minutes_is_a_flap() {
        let timeline = Timeline {
            samples: slow().samples,
            events: vec![
                scaled(10, 1, 4),
                scaled(20, 4, 6),
                scaled(320, 6, 3),
                scaled(621, 3, 4),
                scaled(700, 4, 2),
                Event {
                    time: Time::ZERO,
                    kind: EventKind::Killed { pod: 0 },
                },
            ],
        };
        let found = Summary::of(&timeline, &Costs::default());
        assert_eq!((found.scaled_up, found.scaled_down), (3, 2));
        // At 320 s, 300 s after the one before; not at 621 s; again at 700 s.
        assert_eq!((found.flaps, found.killed), (2, 1));
    }

    #[test]
    fn an_empty_timeline_has_a_summary() {
        let found = Summary::of(&Timeline::default(), &Costs::default());
        assert_eq!(found.drained_after, None);
        assert!(found.to_string().contains("0 sent"));
    }

    #[test]
    fn digits_are_grouped() {
        let texts = [0.0, 999.0, 1000.0, 1_234_567.4, -12_345.0].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "-12,345"]);
    }
}
