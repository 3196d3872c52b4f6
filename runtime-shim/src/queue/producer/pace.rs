//! When the next message is due, at so many a second.

use std::time::Duration;

use tokio::time::Instant;

/// How far behind its time a message may be without shifting those after it.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Evenly spaced from its start. What was held up is caught up with for a second at
/// most: a pause is not followed by a flood.
pub(super) struct Pace {
    start: Instant,
    rate: Option<u32>,
    taken: u64,
}

impl Pace {
    /// This many a second; as fast as can be, where there is none.
    pub(super) fn new(rate: Option<u32>) -> Self {
        Self {
            start: Instant::now(),
            rate,
            taken: 0,
        }
    }

    /// When the next one may go.
    pub(super) fn due(&self) -> Instant {
        let Some(rate) = self.rate else {
            return self.start;
        };
        let rate = u64::from(rate);
        let rest = (self.taken % rate) * 1_000_000_000 / rate;
        self.start + Duration::from_secs(self.taken / rate) + Duration::from_nanos(rest)
    }

    /// So many have gone.
    pub(super) fn take(&mut self, count: u64) {
        let late = Instant::now().saturating_duration_since(self.due());
        self.start += late.saturating_sub(CATCH_UP);
        self.taken += count;
    }

    /// How many may go at once without a burst above the rate of a second.
    pub(super) fn burst(&self, most: usize) -> usize {
        self.rate
            .map_or(most, |rate| most.min(rate.max(1) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_evenly_spaced() {
        let mut pace = Pace::new(Some(4));
        assert_eq!(pace.due(), pace.start);
        pace.take(1);
        assert_eq!(pace.due() - pace.start, Duration::from_millis(250));
        pace.take(4_000_002);
        assert_eq!(
            pace.due() - pace.start,
            Duration::from_millis(1_000_000_750)
        );
        assert_eq!(pace.burst(10), 4);
        let mut late = Pace::new(Some(2));
        late.start = Instant::now()
            .checked_sub(Duration::from_mins(1))
            .expect("a past");
        late.take(1);
        let behind = Instant::now() - late.due();
        assert!(behind < Duration::from_secs(1), "{behind:?}");
        let mut free = Pace::new(None);
        free.take(1000);
        assert!(free.due() <= Instant::now());
        assert_eq!(free.burst(10), 10);
    }
}
