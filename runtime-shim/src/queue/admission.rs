//! Which messages of a unit their component gets: not those that no filter matches, nor
//! those that were handled before, nor what must wait for an earlier one.

use futures::future::join_all;

use super::consumer::Running;
use super::dedup::{Begun, Dedup};
use super::lease::Lease;
use super::message::Received;
use super::settle::Action;
use super::unit::Order;
use crate::app::Mismatch;
use crate::metrics::SettlementLabel;

/// The `outcome` and the `error` of a dead letter that was never handed to its component.
const FILTERED: &str = "filtered";
const NO_FILTER_MATCHES: &str = "no filter matches";

/// A message that the de-duplication store is asked about.
type Asked<'a> = ((&'a Received, &'a Lease<'a>), &'a mut Fate);

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its component gets it.
    Wanted,
    /// It is out of the queue.
    Gone,
    /// It comes again.
    Held,
}

impl From<SettlementLabel> for Fate {
    fn from(settlement: SettlementLabel) -> Self {
        match settlement {
            SettlementLabel::Deleted
            | SettlementLabel::DeadLettered
            | SettlementLabel::Duplicate => Self::Gone,
            SettlementLabel::Left
            | SettlementLabel::Retried
            | SettlementLabel::DeadLetterRefused
            | SettlementLabel::Expired
            | SettlementLabel::Failed
            | SettlementLabel::Released => Self::Held,
        }
    }
}

impl Running {
    /// Settles what no filter of the component matches.
    pub(super) async fn filtered(&self, unit: &[Received], leases: &[Lease<'_>]) -> Vec<Fate> {
        let Some((filters, mismatch)) = &self.consumer.trigger.filter else {
            return vec![Fate::Wanted; unit.len()];
        };
        let settle = async |(received, lease): (&Received, &Lease<'_>)| {
            if filters.matches(received) {
                return Fate::Wanted;
            }
            self.consumer.counters.filtered.inc();
            lease.release();
            let until = lease.end();
            let label = match mismatch {
                Mismatch::Ack => self.apply(received, Action::Delete, until).await,
                Mismatch::Keep => SettlementLabel::Left,
                Mismatch::DeadLetter => {
                    self.dead_letter(received, FILTERED, NO_FILTER_MATCHES, until)
                        .await
                }
            };
            self.count(received, label)
        };
        join_all(unit.iter().zip(leases).map(settle)).await
    }

    /// Settles what was done before, or is being done; the turn of what is to be done
    /// goes with its lease.
    pub(super) async fn without_duplicates(
        &self,
        dedup: &Dedup,
        unit: &[Received],
        leases: &[Lease<'_>],
        fates: &mut [Fate],
    ) {
        let asked: Vec<_> = unit
            .iter()
            .zip(leases)
            .zip(fates)
            .filter(|(_, fate)| **fate == Fate::Wanted)
            .collect();
        let messages: Vec<&Received> = asked.iter().map(|((received, _), _)| *received).collect();
        let begun = dedup.begin(&messages, self.consumer.visibility).await;
        let settle = async |(((received, lease), fate), begun): (Asked<'_>, _)| {
            let until = lease.end();
            let action = match begun {
                Ok(Begun::Fresh(turn)) => return lease.keep_turn(turn),
                Ok(Begun::Done) => Action::Delete,
                Ok(Begun::Busy) => {
                    tracing::info!(
                        message_id = received.id,
                        "the same message is being handled: this one comes again"
                    );
                    // Not before the other had time to end: each receive counts.
                    self.after_a_lease(received)
                }
                Err(error) => {
                    tracing::warn!(
                        component = %self.consumer.trigger.component, message_id = received.id,
                        "the de-duplication store does not answer, and the message is retried: {error}"
                    );
                    self.later(received)
                }
            };
            lease.release();
            lease.quiet().await;
            let label = match self.apply(received, action, until).await {
                SettlementLabel::Deleted => SettlementLabel::Duplicate,
                other => other,
            };
            *fate = self.count(received, label);
        };
        join_all(asked.into_iter().zip(begun).map(settle)).await;
    }

    /// Those of `unit` that are wanted. What must wait for an earlier one of its
    /// group is handed back.
    pub(super) async fn in_order<'a>(
        &self,
        unit: &'a [Received],
        leases: &'a [Lease<'a>],
        fates: &[Fate],
    ) -> Vec<(&'a Received, &'a Lease<'a>)> {
        let mut order = Order::new(self.consumer.source.is_fifo());
        let (mut wanted, mut waiting) = (Vec::with_capacity(unit.len()), Vec::new());
        for ((received, lease), fate) in unit.iter().zip(leases).zip(fates) {
            match fate {
                Fate::Gone => {}
                Fate::Held => order.block(received),
                Fate::Wanted if order.is_blocked(received) => waiting.push((received, lease)),
                Fate::Wanted => wanted.push((received, lease)),
            }
        }
        self.release_all(waiting).await;
        wanted
    }
}
