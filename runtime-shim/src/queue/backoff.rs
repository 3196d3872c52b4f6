//! How long a failed message waits. Exponential with full jitter:
//! `random(0, min(cap, base × 2^(n−1)))` for the n-th receive (Marc Brooker,
//! "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

use crate::app::Backoff;

impl Backoff {
    /// The longest delay after the `receives`-th failed receive.
    pub fn ceiling(&self, receives: u32) -> Duration {
        let doublings = receives.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// The delay after the `receives`-th failed receive, in whole seconds as
    /// visibility timeouts are; `random` is in 0..1. At least one second, so
    /// that a message that always fails never spins.
    pub fn delay(&self, receives: u32, random: f64) -> Duration {
        let secs = self.ceiling(receives).as_secs_f64() * random;
        Duration::from_secs((secs.ceil() as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(2),
        cap: Duration::from_mins(15),
    };

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let ceilings: Vec<u64> = [1, 2, 3, 9, 10, 11, u32::MAX]
            .into_iter()
            .map(|receives| BACKOFF.ceiling(receives).as_secs())
            .collect();
        assert_eq!(ceilings, [2, 4, 8, 512, 900, 900, 900]);
    }

    #[test]
    fn the_delay_is_jittered_between_a_second_and_the_ceiling() {
        for receives in 1..20 {
            let ceiling = BACKOFF.ceiling(receives);
            assert_eq!(BACKOFF.delay(receives, 0.0), Duration::from_secs(1));
            assert_eq!(BACKOFF.delay(receives, 0.999_999), ceiling);
            let middle = BACKOFF.delay(receives, 0.5);
            assert!(middle >= ceiling / 2 && middle <= ceiling, "{middle:?}");
        }
    }
}
