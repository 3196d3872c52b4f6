//! How many messages are handled at once, where that is not fixed: it grows while
//! latency holds, and shrinks when handlers fail or slow down. Pure: it is told
//! what a window of time brought, and answers with the next limit.
//!
//! Growth doubles at first (as TCP's slow start, RFC 5681) until the first trouble,
//! and goes by tenths from then on. The limit at which there was trouble is
//! remembered for a while: near it, growth goes by single steps, few and far
//! between. Latency has a wide middle, in which nothing changes. So the limit comes
//! to rest rather than swing.
//!
//! The best latency is not forgotten while the limit is above its minimum: it would
//! become that of a crowd. At the minimum, there is none, and it is learnt anew.

use std::time::Duration;

/// What one window brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// Messages that were handled, whatever became of them.
    pub(super) handled: u32,
    /// Those of them that are to be retried.
    pub(super) failed: u32,
    /// Whether something said that it was too much: no sandbox was free.
    pub(super) throttled: bool,
    /// The median time for a message.
    pub(super) median: Duration,
    /// Whether the limit was reached: otherwise, it is not what holds things up.
    pub(super) saturated: bool,
}

/// Of failed messages among the handled, what is trouble.
const FAILED_SHARE: f64 = 0.2;
/// Times the best latency up to which there is room to grow.
const ROOM: f64 = 1.2;
/// Times the best latency from which on there is too much at once. What is between
/// the two changes nothing.
const CROWDED: f64 = 1.5;
/// After failures.
const AFTER_FAILURES: f64 = 0.7;
/// After slow handling.
const AFTER_SLOWNESS: f64 = 0.85;
/// Windows without a change after a shrink: what it did must show first.
const REST: u32 = 3;
/// Windows between single steps beyond where trouble was.
const PROBE: u32 = 10;
/// Windows after which where trouble was is forgotten: the world has changed.
const MEMORY: u32 = 60;

/// Decides on the limit.
#[derive(Debug)]
pub(super) struct Controller {
    min: u32,
    max: u32,
    limit: f64,
    /// Seconds; none before the first window with messages.
    best: Option<f64>,
    /// The limit at which trouble was met last, and how many windows ago.
    trouble: Option<(f64, u32)>,
    /// Whether growth still doubles.
    starting: bool,
    resting: u32,
    since_probe: u32,
}

impl Controller {
    /// Begins at `min`, and stays within `min` and `max`.
    pub(super) fn new(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            limit: f64::from(min),
            best: None,
            trouble: None,
            starting: true,
            resting: 0,
            since_probe: 0,
        }
    }

    /// Messages that may be handled at once.
    pub(super) fn limit(&self) -> u32 {
        (self.limit as u32).clamp(self.min, self.max)
    }

    /// The limit after `window`.
    pub(super) fn adjust(&mut self, window: &Window) -> u32 {
        self.age();
        if window.handled == 0 {
            return self.limit();
        }
        let latency = window.median.as_secs_f64();
        let best = match self.best {
            Some(best) => best.min(latency),
            None => latency,
        };
        self.best = Some(best);
        if self.resting > 0 {
            self.resting -= 1;
            return self.limit();
        }
        let failed = f64::from(window.failed) / f64::from(window.handled);
        if window.throttled || failed > FAILED_SHARE {
            self.shrink(AFTER_FAILURES);
        } else if window.saturated && latency > best * CROWDED {
            if self.limit() == self.min {
                // Nothing crowds here: the work itself takes longer than it did.
                self.best = Some(latency);
            }
            self.shrink(AFTER_SLOWNESS);
        } else if window.saturated && latency <= best * ROOM {
            self.grow();
        }
        self.limit()
    }

    fn age(&mut self) {
        self.since_probe = self.since_probe.saturating_add(1);
        self.trouble = match self.trouble {
            Some((limit, age)) if age < MEMORY => Some((limit, age + 1)),
            _ => None,
        };
    }

    fn shrink(&mut self, factor: f64) {
        self.trouble = Some((self.limit, 0));
        self.starting = false;
        self.limit = (self.limit * factor).max(self.min.into());
        self.resting = REST;
    }

    fn grow(&mut self) {
        let tenth = self.limit + (self.limit / 10.0).max(1.0);
        let grown = match self.trouble {
            _ if self.starting => self.limit * 2.0,
            None => tenth,
            Some((trouble, _)) if tenth < trouble * 0.9 => tenth,
            Some(_) if self.since_probe >= PROBE => {
                self.since_probe = 0;
                self.limit + 1.0
            }
            Some(_) => self.limit,
        };
        self.limit = grown.min(self.max.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handler that takes 20 ms, and longer in proportion as soon as more than
    /// `capacity` run at once.
    fn loaded(limit: u32, capacity: u32) -> Window {
        let crowding = (f64::from(limit) / f64::from(capacity)).max(1.0);
        Window {
            handled: 100,
            failed: 0,
            throttled: false,
            median: Duration::from_millis(20).mul_f64(crowding),
            saturated: true,
        }
    }

    /// The limits of so many windows at this capacity.
    fn run(controller: &mut Controller, capacity: u32, windows: usize) -> Vec<u32> {
        (0..windows)
            .map(|_| {
                let window = loaded(controller.limit(), capacity);
                controller.adjust(&window)
            })
            .collect()
    }

    fn range(limits: &[u32]) -> (u32, u32) {
        let least = limits.iter().copied().min().unwrap_or_default();
        (least, limits.iter().copied().max().unwrap_or_default())
    }

    #[test]
    fn it_grows_while_latency_holds_up_to_its_bound() {
        let mut controller = Controller::new(2, 50);
        let limits = run(&mut controller, 1000, 10);
        assert_eq!(limits[..6], [4, 8, 16, 32, 50, 50]);
    }

    #[test]
    fn an_idle_consumer_changes_nothing() {
        let mut controller = Controller::new(2, 50);
        run(&mut controller, 1000, 3);
        let before = controller.limit();
        let idle = Window {
            handled: 0,
            median: Duration::ZERO,
            saturated: false,
            ..loaded(1, 1)
        };
        let unsaturated = Window {
            saturated: false,
            ..loaded(before * 10, before)
        };
        for window in [idle, unsaturated, idle, unsaturated] {
            assert_eq!(controller.adjust(&window), before);
        }
    }

    #[test]
    fn failures_and_throttles_shrink_it_to_its_bound() {
        for (failed, throttled) in [(50, false), (0, true)] {
            let mut controller = Controller::new(3, 64);
            run(&mut controller, 1000, 10);
            assert_eq!(controller.limit(), 64);
            let trouble = Window {
                failed,
                throttled,
                ..loaded(1, 1)
            };
            assert_eq!(controller.adjust(&trouble), 44);
            for _ in 0..60 {
                controller.adjust(&trouble);
            }
            assert_eq!(controller.limit(), 3);
        }
        // A poison message among many is no trouble.
        let mut controller = Controller::new(3, 64);
        run(&mut controller, 1000, 10);
        let few = Window {
            failed: 15,
            ..loaded(1, 1)
        };
        assert_eq!(controller.adjust(&few), 64);
    }

    /// A step down and up again: it follows, and then it rests.
    #[test]
    fn it_follows_a_step_and_does_not_swing() {
        let mut controller = Controller::new(1, 400);
        for capacity in [100, 40, 100] {
            let limits = run(&mut controller, capacity, 400);
            let (least, most) = range(&limits[300..]);
            assert!(
                least >= capacity * 8 / 10,
                "{capacity}: {least}..{most} {limits:?}"
            );
            assert!(
                most <= capacity * 2,
                "{capacity}: {least}..{most} {limits:?}"
            );
            assert!(
                most - least <= (capacity / 4).max(2),
                "{capacity}: {least}..{most} {limits:?}"
            );
        }
    }

    #[test]
    fn a_steady_load_is_left_alone() {
        let mut controller = Controller::new(1, 400);
        let limits = run(&mut controller, 100, 1000);
        let changes = limits[200..].windows(2).filter(|pair| pair[1] != pair[0]);
        assert_eq!(changes.count(), 0, "{limits:?}");
    }

    /// Work that takes longer by itself does not hold the limit down for good.
    #[test]
    fn slower_work_is_learnt() {
        let mut controller = Controller::new(1, 64);
        run(&mut controller, 1000, 10);
        let slower = Window {
            median: Duration::from_millis(200),
            ..loaded(1, 1)
        };
        for _ in 0..400 {
            controller.adjust(&slower);
        }
        assert_eq!(controller.limit(), 64);
    }
}
