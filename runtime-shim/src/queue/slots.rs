//! Rights to a sandbox: as many as may be used at once. Where that adapts, the
//! limit follows what `adapt` makes of the time that handling takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

use super::adapt::{Controller, Window};

/// How often the limit is looked at.
const WINDOW: Duration = Duration::from_secs(1);
/// Durations of a window that its median is taken of.
const SAMPLES: usize = 256;

/// The rights of one consumer.
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    adaptive: bool,
    state: Mutex<State>,
}

struct State {
    controller: Controller,
    /// Permits to be taken out of use as soon as they come back.
    surplus: usize,
    window: Sampled,
}

/// What the window under way has brought.
#[derive(Default)]
struct Sampled {
    handled: u32,
    failed: u32,
    throttled: bool,
    saturated: bool,
    durations: Vec<Duration>,
    seen: usize,
}

impl Sampled {
    /// Keeps a fair choice of all durations. Vitter, "Random Sampling with a
    /// Reservoir", 1985, algorithm R; `random` is below its argument.
    fn duration(&mut self, took: Duration, random: impl FnOnce(usize) -> usize) {
        self.seen += 1;
        if self.durations.len() < SAMPLES {
            self.durations.push(took);
        } else if let Some(slot) = self.durations.get_mut(random(self.seen)) {
            *slot = took;
        }
    }

    fn end(mut self) -> Window {
        let middle = self.durations.len() / 2;
        let median = if self.durations.is_empty() {
            Duration::ZERO
        } else {
            *self.durations.select_nth_unstable(middle).1
        };
        Window {
            handled: self.handled,
            failed: self.failed,
            throttled: self.throttled,
            median,
            saturated: self.saturated,
        }
    }
}

/// How one call went.
pub(super) struct Call {
    /// The messages that it was for.
    pub(super) messages: usize,
    /// Those of them that are to be retried.
    pub(super) failed: usize,
    /// Whether there was no sandbox for it.
    pub(super) throttled: bool,
    /// How long it took.
    pub(super) took: Duration,
}

/// One consumer's part of a gauge that several may share; gone with it.
struct Shown<'a> {
    gauge: &'a Gauge,
    part: i64,
}

impl<'a> Shown<'a> {
    fn new(gauge: &'a Gauge, part: u32) -> Self {
        gauge.inc_by(part.into());
        Self {
            gauge,
            part: part.into(),
        }
    }

    fn set(&mut self, part: u32) {
        self.gauge.inc_by(i64::from(part) - self.part);
        self.part = part.into();
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.gauge.dec_by(self.part);
    }
}

impl Slots {
    /// From `min` up to `max` at once: always `max` where both are the same.
    pub(super) fn new(min: u32, max: u32) -> Self {
        let controller = Controller::new(min, max);
        Self {
            permits: Arc::new(Semaphore::new(controller.limit() as usize)),
            adaptive: min < max,
            state: Mutex::new(State {
                controller,
                surplus: 0,
                window: Sampled::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many as may be used at once, as things stand.
    pub(super) fn limit(&self) -> u32 {
        self.state().controller.limit()
    }

    /// The rights themselves.
    pub(super) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// Tells that a unit begins, as one of `running`.
    pub(super) fn begun(&self, running: usize) {
        let mut state = self.state();
        state.window.saturated |= running >= state.controller.limit() as usize;
    }

    /// Tells how a call went.
    pub(super) fn ended(&self, call: &Call) {
        if !self.adaptive || call.messages == 0 {
            return;
        }
        let window = &mut self.state().window;
        window.handled = window.handled.saturating_add(call.messages as u32);
        window.failed = window.failed.saturating_add(call.failed as u32);
        window.throttled |= call.throttled;
        // Batches of all sizes are measured alike.
        let each = call.took / call.messages as u32;
        window.duration(each, |below| fastrand::usize(..below));
    }

    /// Takes a right back.
    pub(super) fn give_back(&self, permit: OwnedSemaphorePermit) {
        let mut state = self.state();
        if state.surplus > 0 {
            state.surplus -= 1;
            permit.forget();
        }
    }

    /// Adapts for as long as it is polled. `limit` shows what came of it.
    pub(super) async fn adapt(&self, limit: &Gauge) {
        let mut shown = Shown::new(limit, self.limit());
        if !self.adaptive {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(WINDOW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            shown.set(self.tick().1);
        }
    }

    /// Ends the window; the limit before and after.
    fn tick(&self) -> (u32, u32) {
        let mut state = self.state();
        let before = state.controller.limit();
        let window = std::mem::take(&mut state.window).end();
        let after = state.controller.adjust(&window);
        if after < before {
            state.surplus += (before - after) as usize;
        } else {
            let mut more = (after - before) as usize;
            // What is still to be taken out of use stays in use instead.
            let kept = more.min(state.surplus);
            state.surplus -= kept;
            more -= kept;
            self.permits.add_permits(more);
        }
        // Those that nobody uses go at once, the rest as they come back.
        let gone = self.permits.forget_permits(state.surplus);
        state.surplus -= gone;
        (before, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(slots: &Slots, failed: usize) {
        slots.begun(1000);
        for _ in 0..10 {
            slots.ended(&Call {
                messages: 1,
                failed,
                throttled: false,
                took: Duration::from_millis(20),
            });
        }
    }

    #[test]
    fn permits_follow_the_limit() {
        let slots = Slots::new(4, 64);
        assert_eq!(slots.permits.available_permits(), 4);
        for limit in [8, 16, 32, 64] {
            busy(&slots, 0);
            assert_eq!(slots.tick().1, limit);
            assert_eq!(slots.permits.available_permits(), limit as usize);
        }
        // All are in use while the limit shrinks: they go as they come back.
        let mut used: Vec<_> = (0..64)
            .map(|_| {
                Arc::clone(&slots.permits)
                    .try_acquire_owned()
                    .expect("free")
            })
            .collect();
        busy(&slots, 1);
        let (_, after) = slots.tick();
        assert!(after < 64, "{after}");
        for permit in used.drain(..) {
            slots.give_back(permit);
        }
        assert_eq!(slots.permits.available_permits(), after as usize);
    }

    #[test]
    fn a_fixed_limit_stays() {
        let slots = Slots::new(10, 10);
        busy(&slots, 1);
        assert_eq!(slots.tick(), (10, 10));
        assert_eq!(slots.permits.available_permits(), 10);
    }

    #[test]
    fn the_median_is_of_a_fair_choice() {
        let mut sampled = Sampled::default();
        for n in 1..=10_000u64 {
            // Replaces a slot each time, in turn.
            sampled.duration(Duration::from_micros(n), |_| n as usize % SAMPLES);
        }
        assert_eq!(sampled.durations.len(), SAMPLES);
        assert_eq!(sampled.seen, 10_000);
        assert!(sampled.end().median > Duration::from_millis(9));
        assert_eq!(Sampled::default().end().median, Duration::ZERO);
    }
}
