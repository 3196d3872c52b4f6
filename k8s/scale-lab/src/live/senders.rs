//! Sends the messages of a trace when they are due, by so many senders at once, and knows
//! which were accepted. What was not accepted is kept and sent again, as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::sqs::{BATCH, Sqs};
use crate::scenario::{Consumer, Scenario, ServiceTime};
use crate::time::Time;

/// Messages that wait for a free sender; the trace waits for them.
const WAITING: usize = 4_096;
/// Between looks at the trace.
const TICK: Duration = Duration::from_millis(5);
/// After a call that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// A message that the queue acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: String,
    /// When the acknowledgement came.
    pub(super) at: Time,
}

/// What became of the trace.
#[derive(Debug, Default)]
pub(super) struct Sending {
    pub(super) sent: Vec<Sent>,
    /// Messages of calls that got no answer: sent again, so perhaps twice in the queue.
    pub(super) unclear: u64,
    /// The longest that a message waited for its acknowledgement, after it was due.
    pub(super) late: Duration,
}

/// The text of a message: how long its handler takes, and whether it then fails.
#[derive(Debug)]
pub(super) struct Bodies {
    random: fastrand::Rng,
    service: ServiceTime,
    poison_share: f64,
    speed: f64,
}

impl Bodies {
    pub(super) fn new(consumer: &Consumer, seed: u64, speed: f64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            service: consumer.service_time,
            poison_share: consumer.poison_share,
            speed,
        }
    }

    pub(super) fn next(&mut self) -> String {
        let seconds = match self.service {
            ServiceTime::Fixed(time) => time.as_secs_f64(),
            ServiceTime::Exponential(mean) => -(1.0 - self.random.f64()).ln() * mean.as_secs_f64(),
        };
        let millis = (seconds * 1e3 / self.speed).round() as u64;
        if self.random.f64() < self.poison_share {
            format!("{millis} poison")
        } else {
            millis.to_string()
        }
    }
}

/// Sends all of the scenario's messages; returns when the last one was acknowledged.
pub(super) async fn send_all(scenario: Scenario, clock: Clock, sqs: Sqs, queue: String) -> Sending {
    let (give, take) = mpsc::channel::<(Time, String)>(WAITING);
    let take = Arc::new(Mutex::new(take));
    let mut senders = JoinSet::new();
    for _ in 0..scenario.live.senders {
        senders.spawn(sender(take.clone(), clock, sqs.clone(), queue.clone()));
    }
    let mut bodies = Bodies::new(&scenario.consumer, scenario.seed, scenario.live.speed);
    let mut given = 0;
    let mut tick = tokio::time::interval(TICK);
    'trace: loop {
        tick.tick().await;
        let now = clock.now().min(scenario.end());
        let due = scenario.trace.total(now);
        while given < due {
            given += 1;
            if give.send((now, bodies.next())).await.is_err() {
                break 'trace;
            }
        }
        if now == scenario.end() {
            break;
        }
    }
    drop(give);
    let mut all = Sending::default();
    while let Some(part) = senders.join_next().await {
        let part = part.unwrap_or_default();
        all.sent.extend(part.sent);
        all.unclear += part.unclear;
        all.late = all.late.max(part.late);
    }
    all
}

async fn sender(
    take: Arc<Mutex<mpsc::Receiver<(Time, String)>>>,
    clock: Clock,
    sqs: Sqs,
    queue: String,
) -> Sending {
    let mut done = Sending::default();
    let mut batch: Vec<(Time, String)> = Vec::with_capacity(BATCH);
    loop {
        // What a failed call left comes first.
        if batch.is_empty() && take.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return done;
        }
        let bodies: Vec<_> = batch.iter().map(|(_, body)| body.clone()).collect();
        match sqs.send(&queue, &bodies).await {
            Ok(ids) => {
                let at = clock.now();
                let mut ids = ids.into_iter();
                batch.retain(|(due, _)| match ids.next().flatten() {
                    Some(id) => {
                        done.late = done.late.max(at.since(*due));
                        done.sent.push(Sent { id, at });
                        false
                    }
                    None => true,
                });
                if !batch.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(_) => {
                done.unclear += batch.len() as u64;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
