//! What one queue's messages are doing, counted in memory: leases, delays, totals.
//! Owns the arithmetic of time (milliseconds since the Unix epoch, handed in); refuses to know
//! SQL. Memory is bounded by messages in flight, by lapsed leases that are still remembered, and
//! by distinct delay ends (at most one for each millisecond of 15 minutes), never by depth.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::groups::Groups;
use crate::limits;
use crate::model::Depth;

/// A message that was received: until when it is hidden, and by which receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) visible_at: u64,
    pub(crate) nonce: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    total: u64,
    /// In flight, and lapsed ones still remembered, by sequence number.
    leases: HashMap<i64, Lease>,
    /// In flight only, by the end of the visibility timeout.
    in_flight: BTreeSet<(u64, i64)>,
    /// Lapsed leases, oldest first; entries whose message was received again are skipped later.
    lapsed: VecDeque<(i64, i64)>,
    /// How many messages become visible for the first time at a moment.
    delays: BTreeMap<u64, u64>,
    delayed: u64,
    /// Of FIFO queues.
    groups: Option<Groups>,
}

impl Schedule {
    /// The schedule of a FIFO queue.
    pub(crate) fn fifo() -> Self {
        Self {
            groups: Some(Groups::default()),
            ..Self::default()
        }
    }

    /// The message groups, of a FIFO queue.
    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// The message groups, of a FIFO queue.
    pub(crate) fn groups_mut(&mut self) -> Option<&mut Groups> {
        self.groups.as_mut()
    }

    /// Whether anything could be received now; call [`Self::advance`] first.
    pub(crate) fn has_available(&self) -> bool {
        let unblocked = |groups: &Groups| groups.next_free(i64::MIN).is_some();
        self.depth().visible > 0 && self.groups.as_ref().is_none_or(unblocked)
    }

    fn landed(&mut self, seq: i64) {
        if let Some(groups) = &mut self.groups {
            groups.end(seq);
        }
    }

    /// Lets time pass: ends delays and visibility timeouts that are over at `now`.
    pub(crate) fn advance(&mut self, now: u64) {
        while let Some((&due, &count)) = self.delays.first_key_value() {
            if due > now {
                break;
            }
            self.delays.pop_first();
            self.delayed -= count;
        }
        while let Some(&(due, seq)) = self.in_flight.first() {
            if due > now {
                break;
            }
            self.in_flight.pop_first();
            self.lapse(seq);
        }
    }

    fn lapse(&mut self, seq: i64) {
        self.landed(seq);
        if let Some(lease) = self.leases.get(&seq) {
            self.lapsed.push_back((seq, lease.nonce));
        }
        while self.lapsed.len() > limits::MAX_LAPSED_LEASES {
            let Some((seq, nonce)) = self.lapsed.pop_front() else {
                break;
            };
            let lease = self.leases.get(&seq);
            if lease
                .is_some_and(|l| l.nonce == nonce && !self.in_flight.contains(&(l.visible_at, seq)))
            {
                self.leases.remove(&seq);
            }
        }
    }

    /// The counts; call [`Self::advance`] first.
    pub(crate) fn depth(&self) -> Depth {
        let in_flight = self.in_flight.len() as u64;
        Depth {
            visible: self.total.saturating_sub(in_flight + self.delayed),
            in_flight,
            delayed: self.delayed,
        }
    }

    /// When the next message becomes visible by itself.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let lease = self.in_flight.first().map(|(due, _)| *due);
        let delay = self.delays.first_key_value().map(|(due, _)| *due);
        lease.into_iter().chain(delay).min()
    }

    /// A message came in that becomes visible at `visible_at`.
    pub(crate) fn add(&mut self, visible_at: u64, now: u64) {
        self.total += 1;
        if visible_at > now {
            *self.delays.entry(visible_at).or_default() += 1;
            self.delayed += 1;
        }
    }

    /// A visible or leased message is hidden under a new or changed lease.
    pub(crate) fn lease(&mut self, seq: i64, lease: Lease) {
        if let Some(old) = self.leases.insert(seq, lease) {
            self.in_flight.remove(&(old.visible_at, seq));
        }
        self.in_flight.insert((lease.visible_at, seq));
    }

    /// The lease by which a message was received last, in flight or lapsed.
    pub(crate) fn lease_of(&self, seq: i64) -> Option<Lease> {
        self.leases.get(&seq).copied()
    }

    /// Whether a lease still hides its message.
    pub(crate) fn is_in_flight(&self, seq: i64, lease: Lease) -> bool {
        self.in_flight.contains(&(lease.visible_at, seq))
    }

    /// A receive that nobody got is undone: the message is visible again, without a lease.
    pub(crate) fn unlease(&mut self, seq: i64) {
        self.landed(seq);
        if let Some(lease) = self.leases.remove(&seq) {
            self.in_flight.remove(&(lease.visible_at, seq));
        }
    }

    /// A message left the queue. `visible_at` is the stored one; a message without a lease
    /// whose moment is still to come was delayed.
    pub(crate) fn remove(&mut self, seq: i64, visible_at: u64) {
        self.total -= 1;
        self.landed(seq);
        if let Some(lease) = self.leases.remove(&seq) {
            self.in_flight.remove(&(lease.visible_at, seq));
        } else if let Some(count) = self.delays.get_mut(&visible_at) {
            *count -= 1;
            self.delayed -= 1;
            if *count == 0 {
                self.delays.remove(&visible_at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(visible: u64, in_flight: u64, delayed: u64) -> Depth {
        Depth {
            visible,
            in_flight,
            delayed,
        }
    }

    #[test]
    fn a_message_passes_through_every_state() {
        let mut schedule = Schedule::default();
        schedule.add(100, 0);
        assert_eq!(
            (schedule.depth(), schedule.next_due()),
            (depth(0, 0, 1), Some(100))
        );
        schedule.advance(100);
        assert_eq!(
            (schedule.depth(), schedule.next_due()),
            (depth(1, 0, 0), None)
        );
        let lease = Lease {
            visible_at: 130,
            nonce: 7,
        };
        schedule.lease(1, lease);
        assert_eq!(
            (schedule.depth(), schedule.next_due()),
            (depth(0, 1, 0), Some(130))
        );
        schedule.advance(129);
        assert!(schedule.is_in_flight(1, lease));
        schedule.advance(130);
        assert!(!schedule.is_in_flight(1, lease));
        assert_eq!(
            (schedule.depth(), schedule.lease_of(1)),
            (depth(1, 0, 0), Some(lease))
        );
        schedule.lease(
            1,
            Lease {
                visible_at: 160,
                nonce: 8,
            },
        );
        schedule.remove(1, 160);
        assert_eq!(
            (schedule.depth(), schedule.next_due()),
            (depth(0, 0, 0), None)
        );
    }

    #[test]
    fn a_delayed_message_can_leave_before_its_time() {
        let mut schedule = Schedule::default();
        schedule.add(100, 0);
        schedule.add(100, 0);
        schedule.remove(1, 100);
        assert_eq!(schedule.depth(), depth(0, 0, 1));
        schedule.advance(100);
        schedule.remove(2, 100);
        assert_eq!(schedule.depth(), depth(0, 0, 0));
    }

    #[test]
    fn lapsed_leases_are_forgotten_beyond_the_bound() {
        let mut schedule = Schedule::default();
        let count = limits::MAX_LAPSED_LEASES as i64 + 10;
        for seq in 0..count {
            schedule.add(0, 0);
            schedule.lease(
                seq,
                Lease {
                    visible_at: seq as u64 + 1,
                    nonce: seq,
                },
            );
            schedule.advance(seq as u64 + 1);
        }
        assert_eq!(schedule.leases.len(), limits::MAX_LAPSED_LEASES);
        assert_eq!(schedule.lease_of(9), None);
        assert!(schedule.lease_of(10).is_some());
    }
}
