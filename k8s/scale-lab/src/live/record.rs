//! The timeline of a live run: what was sampled while it ran, completed by what only the
//! account knows afterwards.

use super::account::Attempts;
use super::senders::Sending;
use crate::time::Time;
use crate::timeline::{Depth, Sample};

/// Fills in what was sent and settled by then, the oldest message, and the depth where nobody
/// answered. A message is settled when its handler ended (its delete follows within
/// milliseconds), or failed for the last time.
pub(super) fn complete(samples: &mut [(Sample, bool)], sending: &Sending, attempts: &Attempts) {
    let mut sent: Vec<(Time, Option<Time>)> = sending
        .sent
        .iter()
        .map(|one| {
            let calls = attempts.get(&one.id).map_or(&[][..], Vec::as_slice);
            // The last one: an earlier one was not followed by its delete.
            let done = calls.iter().filter_map(|call| call.ended).max();
            let failed = || calls.iter().filter_map(|call| call.failed).max();
            (one.at, done.or_else(failed))
        })
        .collect();
    sent.sort_unstable();
    let mut settled: Vec<Time> = sent.iter().filter_map(|(_, settled)| *settled).collect();
    settled.sort_unstable();
    let calls = || attempts.values().flatten();
    let mut begun: Vec<Time> = calls().map(|call| call.begun).collect();
    begun.sort_unstable();
    let mut over: Vec<Time> = calls()
        .filter_map(|call| call.ended.or(call.failed))
        .collect();
    over.sort_unstable();
    let mut oldest = 0;
    for (sample, answered) in samples {
        let now = sample.time;
        let by = |times: &[Time]| times.partition_point(|time| *time <= now) as f64;
        let count = sent.partition_point(|(at, _)| *at <= now);
        sample.sent = count as f64;
        sample.processed = by(&settled);
        while sent
            .get(oldest)
            .is_some_and(|(_, settled)| settled.is_some_and(|at| at <= now))
        {
            oldest += 1;
        }
        let waiting = sent.get(oldest).filter(|(at, _)| *at <= now);
        sample.oldest_age = waiting.map_or(0.0, |(at, _)| now.since(*at).as_secs_f64());
        if !*answered {
            let backlog = (sample.sent - sample.processed).max(0.0);
            let in_flight = (by(&begun) - by(&over)).clamp(0.0, backlog);
            sample.depth = Depth {
                visible: backlog - in_flight,
                in_flight,
                delayed: 0.0,
            };
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "counts")]
mod tests {
    use super::super::account::Attempt;
    use super::super::senders::Sent;
    use super::*;

    #[test]
    fn samples_know_what_was_sent_settled_and_oldest() {
        let at = Time::from_millis;
        let sending = Sending {
            sent: [("a", 1_000), ("b", 2_000), ("c", 8_000)]
                .map(|(id, time)| Sent {
                    id: id.to_owned(),
                    at: at(time),
                })
                .into(),
            ..Sending::default()
        };
        let call = |begun, ended: Option<u64>| Attempt {
            pod: 0,
            begun: at(begun),
            ended: ended.map(at),
            failed: None,
            lease_lost: None,
        };
        let attempts: Attempts = [
            // Killed in its first call.
            (
                "a".to_owned(),
                vec![call(1_500, None), call(6_500, Some(7_000))],
            ),
            ("b".to_owned(), vec![call(2_500, Some(4_000))]),
        ]
        .into();
        let mut samples: Vec<_> = [0, 3_000, 5_000, 7_500, 9_000]
            .map(|time| {
                let sample = Sample {
                    time: at(time),
                    depth: Depth {
                        visible: 42.0,
                        ..Depth::default()
                    },
                    ..Sample::default()
                };
                (sample, time != 3_000)
            })
            .into();
        complete(&mut samples, &sending, &attempts);
        let seen = samples.iter().map(|(sample, _)| {
            (
                sample.sent,
                sample.processed,
                sample.oldest_age,
                sample.depth.visible,
            )
        });
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [
                (0.0, 0.0, 0.0, 42.0),
                // Nobody answered: both are in handlers.
                (2.0, 0.0, 2.0, 0.0),
                (2.0, 1.0, 4.0, 42.0),
                (2.0, 2.0, 0.0, 42.0),
                (3.0, 2.0, 1.0, 42.0),
            ]
        );
        assert_eq!(samples[1].0.depth.in_flight, 2.0);
    }
}
