//! Of FIFO queues: messages that were handed back because an earlier one of their
//! group failed. They were received, which the queue's redrive policy counts, and it
//! must not make dead letters of them for what another did: as long as there are
//! some, the consumer receives one message with each call, so that the one that
//! fails comes back alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Messages remembered: beyond, calls are for one message anyway.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Bystanders {
    groups: Mutex<HashMap<String, Group>>,
}

struct Group {
    messages: HashSet<String>,
    /// Other consumers may have seen to them by then.
    until: Instant,
}

impl Bystanders {
    fn groups(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Message `id` of `group` was handed back.
    pub(super) fn handed_back(&self, group: &str, id: &str, until: Instant) {
        let mut groups = self.groups();
        let held: usize = groups.values().map(|group| group.messages.len()).sum();
        if held >= MOST {
            return;
        }
        let group = groups.entry(group.to_owned()).or_insert_with(|| Group {
            messages: HashSet::new(),
            until,
        });
        group.messages.insert(id.to_owned());
        group.until = until;
    }

    /// A message of `group` failed again: the others still wait for it.
    pub(super) fn failed(&self, group: &str, until: Instant) {
        if let Some(group) = self.groups().get_mut(group) {
            group.until = until;
        }
    }

    /// Message `id` of `group` is gone from the queue.
    pub(super) fn gone(&self, group: &str, id: &str) {
        let mut groups = self.groups();
        if let Some(waiting) = groups.get_mut(group) {
            waiting.messages.remove(id);
            if waiting.messages.is_empty() {
                groups.remove(group);
            }
        }
    }

    /// Whether there are any at `now`.
    pub(super) fn any(&self, now: Instant) -> bool {
        let mut groups = self.groups();
        groups.retain(|_, group| group.until > now);
        !groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn they_are_known_until_they_are_gone_or_time_is_over() {
        let bystanders = Bystanders::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        assert!(!bystanders.any(now));
        bystanders.handed_back("a", "2", later);
        bystanders.handed_back("a", "3", later);
        bystanders.gone("a", "2");
        bystanders.gone("b", "3");
        assert!(bystanders.any(now));
        bystanders.gone("a", "3");
        assert!(!bystanders.any(now));
        bystanders.handed_back("a", "2", later);
        let last = later + Duration::from_secs(10);
        bystanders.failed("a", last);
        assert!(bystanders.any(later));
        assert!(!bystanders.any(last));
    }
}
