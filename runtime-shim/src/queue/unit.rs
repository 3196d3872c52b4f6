//! A unit: messages that share a sandbox or a group, from their receive until each
//! is settled. Nothing of it outlives the future that handles it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;

use super::admission::Fate;
use super::consumer::Running;
use super::handler::{Desk, Handler, Verdict};
use super::lease::{Lease, all_lost, hideable};
use super::message::Received;
use super::settle::{Action, Settled};
use super::slots::Call;
use super::source::DeadLetterError;
use crate::invoker::Outcome;
use crate::metrics::SettlementLabel;

/// The `outcome` of a dead letter that its component refused.
const REJECTED: &str = "rejected";
/// The receive from which on a message has a call of its own: it, or one beside it, has
/// failed twice.
const ALONE_FROM: u32 = 3;

/// What a message became, or nothing where its lease was lost.
type Handled = Option<Outcome<Verdict>>;

/// How a call went that handled messages so.
fn call_of(handled: &[Handled], took: Duration) -> Call {
    let failed = |handled: &&Handled| {
        !matches!(
            handled,
            Some(Outcome::Completed(
                Verdict::Ack | Verdict::Leave | Verdict::DeadLetter(_)
            ))
        )
    };
    Call {
        messages: handled.len(),
        failed: handled.iter().filter(failed).count(),
        throttled: handled.contains(&Some(Outcome::Overloaded)),
        took,
    }
}

/// Groups in which a message failed: what comes after it must wait.
pub(super) struct Order {
    /// Whether order counts.
    fifo: bool,
    blocked: BTreeSet<String>,
}

impl Order {
    pub(super) fn new(fifo: bool) -> Self {
        Self {
            fifo,
            blocked: BTreeSet::new(),
        }
    }

    pub(super) fn block(&mut self, message: &Received) {
        if self.fifo
            && let Some(group) = message.group()
        {
            self.blocked.insert(group.to_owned());
        }
    }

    pub(super) fn is_blocked(&self, message: &Received) -> bool {
        message
            .group()
            .is_some_and(|group| self.blocked.contains(group))
    }
}

/// What became of a message in a call for several.
struct Decided<'a> {
    received: &'a Received,
    lease: &'a Lease<'a>,
    handled: Handled,
}

fn is_ack(outcome: &Outcome<Verdict>) -> bool {
    *outcome == Outcome::Completed(Verdict::Ack)
}

impl Running {
    /// Sees `unit` through. The heartbeats are part of this future: they end with
    /// it, whatever way it ends.
    pub(super) async fn handle(&self, unit: Vec<Received>) {
        let lease = |received| Lease::new(received, self.consumer.visibility);
        let leases: Vec<Lease<'_>> = unit.iter().map(lease).collect();
        let heartbeats = &self.consumer.counters.heartbeats;
        let holding = async {
            join_all(leases.iter().map(|l| l.hold(&self.settler, heartbeats))).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = self.see_through(&unit, &leases) => {}
            () = holding => {}
        }
    }

    async fn see_through<'a>(&'a self, unit: &'a [Received], leases: &'a [Lease<'a>]) {
        let mut fates = self.filtered(unit, leases).await;
        if let Some(dedup) = &self.consumer.dedup {
            self.without_duplicates(dedup, unit, leases, &mut fates)
                .await;
        }
        let mut wanted = self.in_order(unit, leases, &fates).await;
        if wanted.is_empty() {
            return;
        }
        if !self.consumer.source.is_fifo() {
            // Those that may be alone, last.
            wanted.sort_by_key(|(received, _)| received.receive_count >= ALONE_FROM);
        }
        let (unit, leases): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        self.work(&unit, &leases).await;
    }

    async fn work<'a>(&self, unit: &[&'a Received], leases: &[&'a Lease<'a>]) {
        // They were received by a call that was under way when a server went
        // down: they wait here, under their leases, rather than fail.
        let up = tokio::select! {
            biased;
            up = self.dependencies_up() => up,
            () = all_lost(leases) => true,
        };
        if !up {
            let unit = unit.iter().copied();
            self.release_all(unit.zip(leases.iter().copied())).await;
            return;
        }
        match self.consumer.handler {
            Handler::Batch(_) => self.in_one_call(unit, leases).await,
            _ => self.one_by_one(unit, leases).await,
        }
    }

    fn desk(&self) -> Desk<'_> {
        Desk {
            invoker: &self.consumer.invoker,
            trigger: &self.consumer.trigger,
            queue: self.consumer.source.name(),
            timeout: self.consumer.timeout,
        }
    }

    /// One call for all, but for those that have failed often: one that takes others
    /// down with it must not do so until they are dead letters.
    async fn in_one_call<'a>(&self, unit: &[&'a Received], leases: &[&'a Lease<'a>]) {
        let often = |received: &&Received| received.receive_count >= ALONE_FROM;
        let together = match unit.iter().position(often) {
            // The order must hold.
            Some(_) if self.consumer.source.is_fifo() => 0,
            Some(first) => first,
            None => unit.len(),
        };
        let (unit, alone) = unit.split_at(together);
        let (leases, leases_alone) = leases.split_at(together);
        if !unit.is_empty() {
            self.together(unit, leases).await;
        }
        self.alone(alone, leases_alone, unit.is_empty()).await;
    }

    /// One call. Where that traps, each gets a call of its own: a trap costs only the
    /// message that it is for.
    async fn together<'a>(&self, unit: &[&'a Received], leases: &[&'a Lease<'a>]) {
        let handled = self.call(unit, leases).await;
        if let [Some(Outcome::Trap(reason)), _, ..] = handled.as_slice() {
            tracing::warn!(
                component = %self.consumer.trigger.component, messages = unit.len(),
                "a batch trapped, and its messages are handed over one by one: {reason}"
            );
            self.alone(unit, leases, false).await;
        } else {
            self.settle_all(unit, leases, handled).await;
        }
    }

    /// A call for each. Where the host stops, the rest is handed back, but for the
    /// first where nothing of the unit was handled before it.
    async fn alone<'a>(&self, unit: &[&'a Received], leases: &[&'a Lease<'a>], first: bool) {
        let mut order = Order::new(self.consumer.source.is_fifo());
        for (index, (&received, &lease)) in unit.iter().zip(leases).enumerate() {
            let begins = (first && index == 0) || !self.stop.is_cancelled();
            if !begins || order.is_blocked(received) {
                order.block(received);
                self.release_all([(received, lease)]).await;
                continue;
            }
            let one = index..=index;
            let mut handled = self.call(&unit[one.clone()], &leases[one]).await;
            let handled = handled.pop().flatten();
            if self.settle(received, lease, handled).await == Fate::Held {
                order.block(received);
            }
        }
    }

    /// One call to `handle-batch`; something for each message.
    async fn call(&self, unit: &[&Received], leases: &[&Lease<'_>]) -> Vec<Handled> {
        let begun = Instant::now();
        let handled = self.call_batch(unit, leases).await;
        self.slots.ended(&call_of(&handled, begun.elapsed()));
        handled
    }

    async fn call_batch(&self, unit: &[&Received], leases: &[&Lease<'_>]) -> Vec<Handled> {
        let desk = self.desk();
        let outcome = tokio::select! {
            biased;
            // First: nothing begins that is somebody else's already.
            () = all_lost(leases) => None,
            outcome = desk.together(unit) => Some(outcome),
        };
        match outcome {
            Some(Outcome::Completed(verdicts)) => verdicts
                .into_iter()
                .map(|verdict| Some(Outcome::Completed(verdict)))
                .collect(),
            failed => {
                // None is completed, so that the verdict is never asked for.
                let failed =
                    failed.map(|failed| failed.and_then(|_| Outcome::Completed(Verdict::Leave)));
                vec![failed; unit.len()]
            }
        }
    }

    /// Settles what one call decided: where order counts, the messages of each group in
    /// theirs.
    async fn settle_all<'a>(
        &self,
        unit: &[&'a Received],
        leases: &[&'a Lease<'a>],
        handled: Vec<Handled>,
    ) {
        let fifo = self.consumer.source.is_fifo();
        let mut groups: BTreeMap<Option<&str>, Vec<Decided<'a>>> = BTreeMap::new();
        let messages = unit.iter().zip(leases).zip(handled);
        for ((&received, &lease), handled) in messages {
            // One that was lost beside others says nothing of the component. What it has
            // acknowledged is done all the same.
            let handled = handled.filter(|handled| !lease.is_lost() || is_ack(handled));
            let group = received.group().filter(|_| fifo);
            let decided = Decided {
                received,
                lease,
                handled,
            };
            groups.entry(group).or_default().push(decided);
        }
        let settle = async |group: Vec<Decided<'a>>| {
            if fifo {
                self.settle_in_order(group).await;
            } else {
                self.settle_at_once(group).await;
            }
        };
        join_all(groups.into_values().map(settle)).await;
    }

    /// Settles the messages of a group until one stays in the queue; the rest is handed
    /// back. Those acknowledged in a row are deleted together.
    async fn settle_in_order(&self, group: Vec<Decided<'_>>) {
        let acked = |decided: &Decided<'_>| decided.handled.as_ref().is_some_and(is_ack);
        let mut rest = group.into_iter().peekable();
        while let Some(first) = rest.next() {
            let acks = acked(&first);
            let mut row = vec![first];
            while acks && let Some(next) = rest.next_if(acked) {
                row.push(next);
            }
            if self.settle_at_once(row).await.contains(&Fate::Held) {
                break;
            }
        }
        let rest = rest.map(|decided| (decided.received, decided.lease));
        self.release_all(rest.collect::<Vec<_>>()).await;
    }

    async fn settle_at_once(&self, messages: Vec<Decided<'_>>) -> Vec<Fate> {
        let settle = async |decided: Decided<'_>| {
            let Decided {
                received,
                lease,
                handled,
            } = decided;
            self.settle(received, lease, handled).await
        };
        join_all(messages.into_iter().map(settle)).await
    }

    /// One after the other, each settled as soon as it is handled.
    async fn one_by_one<'a>(&self, unit: &[&'a Received], leases: &[&'a Lease<'a>]) {
        let Running { consumer, .. } = self;
        let desk = self.desk();
        let mut session = match consumer.handler {
            Handler::Session(_) => {
                let limit = consumer.timeout.saturating_mul(unit.len() as u32);
                let component = &consumer.trigger.component;
                consumer.invoker.queue_session(component, limit).await
            }
            _ => None,
        };
        let mut order = Order::new(consumer.source.is_fifo());
        let mut settling = FuturesUnordered::new();
        let mut waiting = Vec::new();
        for (index, (&received, &lease)) in unit.iter().zip(leases).enumerate() {
            let begins = index == 0 || !self.stop.is_cancelled();
            if !begins || order.is_blocked(received) {
                waiting.push((received, lease));
                continue;
            }
            let handling = async {
                tokio::select! {
                    biased;
                    () = lease.lost() => None,
                    outcome = desk.one(&consumer.handler, received, session.as_mut()) => {
                        Some(outcome)
                    }
                }
            };
            let begun = Instant::now();
            let mut handling = std::pin::pin!(handling);
            let handled = loop {
                tokio::select! {
                    biased;
                    handled = &mut handling => break handled,
                    Some(_) = settling.next() => {}
                }
            };
            let took = begun.elapsed();
            self.slots
                .ended(&call_of(std::slice::from_ref(&handled), took));
            let settled = self.settle(received, lease, handled);
            if order.fifo {
                // One that is done and still there comes again, before the rest.
                if settled.await == Fate::Held {
                    order.block(received);
                }
            } else if settling.is_empty() && index + 1 == unit.len() {
                settled.await;
            } else {
                settling.push(settled);
            }
        }
        while settling.next().await.is_some() {}
        self.release_all(waiting).await;
    }

    /// Hands messages back that were not handled.
    pub(super) async fn release_all<'a>(
        &self,
        messages: impl IntoIterator<Item = (&'a Received, &'a Lease<'a>)>,
    ) {
        let release = async |(received, lease): (&'a Received, &'a Lease<'a>)| {
            if let Some(dedup) = &self.consumer.dedup {
                dedup.forget(received).await;
            }
            lease.release();
            lease.quiet().await;
            if let Some(group) = received.group().filter(|_| self.consumer.source.is_fifo()) {
                let until = self.bystanders_until();
                self.bystanders.handed_back(group, &received.id, until);
            }
            let now = Action::Hide(Duration::ZERO);
            let label = match self.apply(received, now, lease.end()).await {
                SettlementLabel::Retried => SettlementLabel::Released,
                other => other,
            };
            self.count(received, label);
        };
        join_all(messages.into_iter().map(release)).await;
    }

    /// When whoever waits for a message that failed has had the chance to go on.
    fn bystanders_until(&self) -> Instant {
        Instant::now() + self.consumer.trigger.backoff.cap + self.consumer.visibility * 2
    }

    /// Settles a message, and counts how.
    async fn settle(&self, received: &Received, lease: &Lease<'_>, handled: Handled) -> Fate {
        if let Some(dedup) = &self.consumer.dedup {
            match &handled {
                Some(Outcome::Completed(Verdict::Ack)) => dedup.done(received).await,
                // Somebody else may have begun it by now.
                None => {}
                Some(_) => dedup.forget(received).await,
            }
        }
        lease.release();
        if !matches!(handled, Some(Outcome::Completed(Verdict::Ack))) {
            lease.quiet().await;
        }
        let label = match handled {
            Some(outcome) => self.settle_as(received, outcome, lease.end()).await,
            None => {
                tracing::warn!(
                    component = %self.consumer.trigger.component, message_id = received.id,
                    "the lease was lost and the component stopped: the message comes again"
                );
                SettlementLabel::Expired
            }
        };
        let fate = self.count(received, label);
        if let Some(group) = received.group().filter(|_| self.consumer.source.is_fifo()) {
            match fate {
                Fate::Gone => self.bystanders.gone(group, &received.id),
                _ => self.bystanders.failed(group, self.bystanders_until()),
            }
        }
        fate
    }

    /// Counts what was done with `received`. When it was held at its last receive, says
    /// so: the queue then moves it, and tells nobody.
    pub(super) fn count(&self, received: &Received, settlement: SettlementLabel) -> Fate {
        let counters = &self.consumer.counters;
        let settled = &counters.settled;
        if let Some((_, counter)) = settled.iter().find(|(label, _)| *label == settlement) {
            counter.inc();
        }
        let fate = settlement.into();
        let redrive = self.consumer.source.facts().redrive.as_ref();
        let exhausted = redrive.filter(|it| received.receive_count >= it.max_receives);
        if let (Fate::Held, Some(redrive)) = (fate, exhausted) {
            counters.exhausted.inc();
            tracing::error!(
                component = %self.consumer.trigger.component, message_id = received.id,
                receive_count = received.receive_count,
                "the message had its last try: the queue moves it to `{}`", redrive.target
            );
        }
        fate
    }

    async fn settle_as(
        &self,
        received: &Received,
        outcome: Outcome<Verdict>,
        until: Instant,
    ) -> SettlementLabel {
        let (reason, delay) = match outcome {
            Outcome::Completed(Verdict::Ack) => {
                return self.apply(received, Action::Delete, until).await;
            }
            Outcome::Completed(Verdict::Leave) => return SettlementLabel::Left,
            Outcome::Completed(Verdict::DeadLetter(reason)) => {
                return self.dead_letter(received, REJECTED, &reason, until).await;
            }
            Outcome::Completed(Verdict::Retry(delay)) => {
                ("the component asks for a retry".to_owned(), delay)
            }
            Outcome::GuestError(reason) => (format!("error: {reason}"), None),
            Outcome::Trap(reason) => (format!("trap: {reason}"), None),
            Outcome::TimedOut(limit) => {
                (format!("no answer within {} s", limit.as_secs_f64()), None)
            }
            Outcome::Overloaded => ("no sandbox was free".to_owned(), None),
        };
        let delay = delay.unwrap_or_else(|| self.backoff(received));
        tracing::warn!(
            component = %self.consumer.trigger.component, message_id = received.id,
            receive_count = received.receive_count, retry_in_secs = delay.as_secs(),
            "message failed: {reason}"
        );
        let delay = hideable(received, delay, Instant::now());
        self.apply(received, Action::Hide(delay), until).await
    }

    /// Hides it for a back-off.
    pub(super) fn later(&self, received: &Received) -> Action {
        Action::Hide(hideable(received, self.backoff(received), Instant::now()))
    }

    /// Hides it for a visibility timeout, or longer.
    pub(super) fn after_a_lease(&self, received: &Received) -> Action {
        let delay = self.backoff(received).max(self.consumer.visibility);
        Action::Hide(hideable(received, delay, Instant::now()))
    }

    fn backoff(&self, received: &Received) -> Duration {
        let backoff = &self.consumer.trigger.backoff;
        backoff.delay(received.receive_count, fastrand::f64())
    }

    pub(super) async fn apply(
        &self,
        received: &Received,
        action: Action,
        until: Instant,
    ) -> SettlementLabel {
        match self.settler.settle(&received.receipt, action, until).await {
            Settled::Done if action == Action::Delete => SettlementLabel::Deleted,
            Settled::Done => SettlementLabel::Retried,
            Settled::Expired => {
                tracing::warn!(
                    message_id = received.id,
                    "the receipt expired before it was settled"
                );
                SettlementLabel::Expired
            }
            Settled::GaveUp => {
                tracing::error!(
                    queue = self.consumer.source.name(),
                    message_id = received.id,
                    "could not settle the message before its lease ran out: it comes again"
                );
                SettlementLabel::Failed
            }
        }
    }

    /// Sends the message to the dead-letter queue with the reason, then removes
    /// it. Where that can't be done, the queue's redrive policy decides.
    pub(super) async fn dead_letter(
        &self,
        received: &Received,
        outcome: &str,
        reason: &str,
        until: Instant,
    ) -> SettlementLabel {
        let component = &self.consumer.trigger.component;
        let note = serde_json::json!({
            "component": component.as_str(),
            "outcome": outcome,
            "error": reason,
            "receive_count": received.receive_count,
            "first_received_at": received.system("ApproximateFirstReceiveTimestamp"),
        });
        tracing::warn!(
            %component, message_id = received.id, receive_count = received.receive_count,
            "message {outcome}: {reason}"
        );
        let note = note.to_string();
        let send = self.consumer.source.dead_letter(received, &note);
        let sent = match tokio::time::timeout_at(until.into(), send).await {
            Ok(sent) => sent,
            Err(_) => Err(DeadLetterError::TooLate),
        };
        match sent {
            Ok(()) => match self.apply(received, Action::Delete, until).await {
                SettlementLabel::Deleted => SettlementLabel::DeadLettered,
                other => other,
            },
            Err(error) => {
                let what = match &error {
                    DeadLetterError::Send(_) | DeadLetterError::TooLate => "could not be sent",
                    DeadLetterError::NoQueue | DeadLetterError::DoesNotFit => "is left to redrive",
                };
                tracing::warn!(message_id = received.id, "dead letter {what}: {error}");
                match self.apply(received, self.later(received), until).await {
                    SettlementLabel::Retried => SettlementLabel::DeadLetterRefused,
                    other => other,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Receipt;
    use super::*;

    fn message(group: &str) -> Received {
        Received {
            id: String::new(),
            receipt: Receipt(String::new()),
            body: String::new(),
            system: vec![("MessageGroupId".to_owned(), group.to_owned())],
            custom: Vec::new(),
            receive_count: 1,
            at: Instant::now(),
        }
    }

    #[test]
    fn a_failed_message_holds_up_its_group_alone() {
        for fifo in [true, false] {
            let mut order = Order::new(fifo);
            order.block(&message("b"));
            let blocked = ["a", "b"].map(|group| order.is_blocked(&message(group)));
            assert_eq!(blocked, [false, fifo]);
        }
    }

    #[test]
    fn what_comes_again_has_failed() {
        let handled = [
            Some(Outcome::Completed(Verdict::Ack)),
            Some(Outcome::Completed(Verdict::Retry(None))),
            Some(Outcome::Overloaded),
            None,
        ];
        let call = call_of(&handled, Duration::ZERO);
        assert_eq!((call.messages, call.failed, call.throttled), (4, 3, true));
    }
}
