//! What this machine adds to a scenario, measured before the run on a queue of its own: how
//! long a process takes until it consumes, and how long a message keeps its place in a pod
//! beyond its service time.

use std::time::{Duration, Instant, SystemTime};

use super::account::{self, Attempts};
use super::pods::Template;
use super::process::Process;
use super::sqs::{BATCH, Sqs};
use super::{LiveError, clock::Clock};
use crate::scenario::Consumer;

/// A run of so many seconds is enough to see a rate.
const ENOUGH: f64 = 3.0;
/// Between looks at the queue.
const LOOK: Duration = Duration::from_millis(20);
/// Starts before the one that counts: the first of them compiles the handler.
const WARM_UP: usize = 2;

/// In real time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    pub(super) process_start: Duration,
    /// One call to the queue: half of what a message costs beyond its service time.
    pub(super) call: Duration,
}

/// Starts a pod by that template, whose queue is `queue`, and lets it work for a while.
pub(super) async fn measure(
    template: &Template,
    sqs: &Sqs,
    queue: &str,
    consumer: &Consumer,
    clock: &Clock,
) -> Result<Calibration, LiveError> {
    let mut process_start = Duration::ZERO;
    let service = clock.real(consumer.service_time.mean());
    let mut worked = None;
    for pod in 0..=WARM_UP {
        let plan = template.plan_of(pod);
        let begun = Instant::now();
        let mut process = Process::start(&plan)?;
        process.line("Ready").await?;
        process_start = begun.elapsed();
        if pod == WARM_UP {
            let waves = (ENOUGH / service.as_secs_f64().max(1e-3)).clamp(5.0, 20.0) as usize;
            work(sqs, queue, service, waves * consumer.concurrency as usize).await?;
            worked = Some((plan.log, waves));
        }
        process.terminate()?;
        process.ended().await?;
    }
    let call = match worked {
        None => Duration::ZERO,
        Some((log, waves)) => {
            let mut attempts = Attempts::new();
            let ends = |at: SystemTime| clock.at(at);
            account::read_log(&log, 0, ends, &mut attempts)?;
            let ends = attempts
                .values()
                .flatten()
                .filter_map(|attempt| attempt.ended);
            let mut ends: Vec<_> = ends.collect();
            ends.sort_unstable();
            // From the middle of the first wave to that of the last but one.
            let wave = consumer.concurrency as usize;
            let first = ends.get(wave / 2).copied().unwrap_or_default();
            let last = ends
                .get(wave * (waves - 2) + wave / 2)
                .copied()
                .unwrap_or_default();
            let place = clock.real(last.since(first)) / (waves as u32 - 2);
            place.saturating_sub(service) / 2
        }
    };
    Ok(Calibration {
        process_start,
        call,
    })
}

/// Sends so many messages and waits until they are gone.
async fn work(sqs: &Sqs, queue: &str, service: Duration, messages: usize) -> Result<(), LiveError> {
    let body = service.as_millis().to_string();
    for batch in vec![body; messages].chunks(BATCH) {
        sqs.send(queue, batch).await?;
    }
    while sqs.depth(queue).await?.backlog() > 0.0 {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
