//! How far two runs are apart.

use crate::time::Time;
use crate::timeline::Timeline;

/// How far a run is from the live one: the mean of the difference of their backlogs over the
/// samples of the live one, as a share of its highest backlog. 0 for two empty queues.
#[must_use]
pub fn compare(live: &Timeline, other: &Timeline) -> f64 {
    let peak = live
        .samples
        .iter()
        .map(|sample| sample.depth.backlog())
        .fold(0.0, f64::max);
    let differences = live.samples.iter().filter_map(|sample| {
        let backlog = backlog_at(other, sample.time)?;
        Some((sample.depth.backlog() - backlog).abs())
    });
    let differences: Vec<f64> = differences.collect();
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    if mean == 0.0 { 0.0 } else { mean / peak }
}

/// The backlog at that moment, on the line between two samples; nothing after the last.
fn backlog_at(timeline: &Timeline, time: Time) -> Option<f64> {
    let after = timeline
        .samples
        .partition_point(|sample| sample.time < time);
    let next = timeline.samples.get(after)?;
    let before = after
        .checked_sub(1)
        .and_then(|index| timeline.samples.get(index))
        .unwrap_or(next);
    let span = next.time.since(before.time).as_secs_f64();
    let part = if span > 0.0 {
        time.since(before.time).as_secs_f64() / span
    } else {
        0.0
    };
    let (from, to) = (before.depth.backlog(), next.depth.backlog());
    Some(from + (to - from) * part)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use crate::timeline::{Depth, Sample};

    fn timeline(backlogs: &[(u64, f64)]) -> Timeline {
        let samples = backlogs.iter().map(|(second, visible)| Sample {
            time: Time::from_millis(second * 1_000),
            depth: Depth {
                visible: *visible,
                ..Depth::default()
            },
            ..Sample::default()
        });
        Timeline {
            samples: samples.collect(),
            events: Vec::new(),
        }
    }

    #[test]
    fn the_error_is_the_mean_difference_over_the_peak() {
        let live = timeline(&[(0, 0.0), (10, 100.0), (20, 0.0), (30, 0.0)]);
        assert_eq!(compare(&live, &live), 0.0);
        // Samples at other moments are on the same lines.
        let finer = timeline(&[
            (0, 0.0),
            (5, 50.0),
            (10, 100.0),
            (15, 50.0),
            (20, 0.0),
            (30, 0.0),
        ]);
        assert_eq!(compare(&live, &finer), 0.0);
        let higher = timeline(&[(0, 10.0), (10, 110.0), (20, 10.0), (30, 10.0)]);
        assert!((compare(&live, &higher) - 0.1).abs() < 1e-9);
        // What the other does not cover does not count.
        let shorter = timeline(&[(0, 20.0), (10, 100.0)]);
        assert!((compare(&live, &shorter) - 0.1).abs() < 1e-9);
        assert!(compare(&timeline(&[(0, 0.0)]), &higher).is_infinite());
        assert_eq!(compare(&timeline(&[(0, 0.0)]), &timeline(&[(0, 0.0)])), 0.0);
    }
}
