//! Which messages of a unit their component gets: not those that no filter matches, nor
//! those that were handled before, nor what must wait for an earlier one.

use std::time::Instant;

use futures::future::join_all;

use super::consumer::Running;
use super::dedup::{Begun, Dedup, Turn};
use super::message::Received;
use super::settle::Action;
use super::unit::Order;
use crate::app::Mismatch;
use crate::metrics::SettlementLabel;

/// The `outcome` and the `error` of a dead letter that was never handed to its component.
const FILTERED: &str = "filtered";
const NO_FILTER_MATCHES: &str = "no filter matches";

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
    /// When `received` is somebody else's, before its first heartbeat.
    fn first_end(&self, received: &Received) -> Instant {
        received.at + self.consumer.visibility
    }

    /// Settles what no filter of the component matches.
    pub(super) async fn filtered(&self, unit: &[Received]) -> Vec<Fate> {
        let Some((filters, mismatch)) = &self.consumer.trigger.filter else {
            return vec![Fate::Wanted; unit.len()];
        };
        let settle = async |received: &Received| {
            if filters.matches(received) {
                return Fate::Wanted;
            }
            self.consumer.counters.filtered.inc();
            let until = self.first_end(received);
            let label = match mismatch {
                Mismatch::Ack => self.apply(received, Action::Delete, until).await,
                Mismatch::Keep => SettlementLabel::Left,
                Mismatch::DeadLetter => {
                    self.dead_letter(received, FILTERED, NO_FILTER_MATCHES, until)
                        .await
                }
            };
            self.count(label)
        };
        join_all(unit.iter().map(settle)).await
    }

    /// Settles what was done before, or is being done; what is to be done is so for
    /// as long as the turns are kept.
    pub(super) async fn without_duplicates<'a>(
        &self,
        dedup: &'a Dedup,
        unit: &[Received],
        fates: &mut [Fate],
    ) -> Vec<Turn<'a>> {
        let asked: Vec<_> = unit
            .iter()
            .zip(fates)
            .filter(|(_, fate)| **fate == Fate::Wanted)
            .collect();
        let messages: Vec<&Received> = asked.iter().map(|(received, _)| *received).collect();
        let begun = dedup.begin(&messages, self.consumer.visibility).await;
        let settle = async |((received, fate), begun): ((&Received, &mut Fate), _)| {
            let until = self.first_end(received);
            let label = match begun {
                Ok(Begun::Fresh(turn)) => return Some(turn),
                Ok(Begun::Done) => match self.apply(received, Action::Delete, until).await {
                    SettlementLabel::Deleted => SettlementLabel::Duplicate,
                    other => other,
                },
                Ok(Begun::Busy) => {
                    tracing::info!(
                        message_id = received.id,
                        "the same message is being handled: this one comes again"
                    );
                    self.apply(received, self.later(received), until).await
                }
                Err(error) => {
                    tracing::warn!(
                        component = %self.consumer.trigger.component, message_id = received.id,
                        "the de-duplication store does not answer, and the message is retried: {error}"
                    );
                    self.apply(received, self.later(received), until).await
                }
            };
            *fate = self.count(label);
            None
        };
        let turns = join_all(asked.into_iter().zip(begun).map(settle)).await;
        turns.into_iter().flatten().collect()
    }

    /// Those of `unit` that are wanted. What must wait for an earlier one of its
    /// group is handed back.
    pub(super) async fn in_order(&self, unit: Vec<Received>, fates: &[Fate]) -> Vec<Received> {
        let mut order = Order::new(self.consumer.source.is_fifo());
        let (mut wanted, mut waiting) = (Vec::with_capacity(unit.len()), Vec::new());
        for (received, fate) in unit.into_iter().zip(fates) {
            match fate {
                Fate::Gone => {}
                Fate::Held => order.block(&received),
                Fate::Wanted if order.is_blocked(&received) => waiting.push(received),
                Fate::Wanted => wanted.push(received),
            }
        }
        let leases = self.leases(&waiting);
        self.release_all(waiting.iter().zip(&leases)).await;
        wanted
    }
}
