//! Every message for itself, to the microsecond. Exact, and for up to some millions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::{Arrivals, Count, Messages, PodId, backoff_ceiling, exponential, lease_end, outage_at};
use crate::scenario::{Consumer, Outage, Scenario, ServiceTime};
use crate::time::Time;

/// Microseconds since the start.
type Micros = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    /// When it was, or becomes, visible.
    visible: Micros,
    sent: Micros,
    receives: u32,
    poison: bool,
}

/// A message in a pod.
#[derive(Clone, Copy, Debug)]
struct Flight {
    message: Message,
    pod: PodId,
    received: Micros,
    /// When it is settled, or has failed.
    done: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A hidden message becomes visible.
    Visible(Message),
    /// A flight is done.
    Done(u64),
    /// A place in a pod is free.
    Free(PodId),
    /// A stopped pod has ended.
    Ended(PodId),
}

/// A pod that consumes.
#[derive(Clone, Copy, Debug, Default)]
struct Consuming {
    /// Free places.
    free: u32,
    /// When it may begin the next message, by its highest rate; microseconds.
    next: f64,
}

pub(crate) struct Single {
    now: Micros,
    arrivals: Arrivals,
    next_arrival: Option<Micros>,
    /// Never received, in order.
    fresh: VecDeque<Message>,
    /// Received before, in order of `visible`.
    again: VecDeque<Message>,
    flights: BTreeMap<u64, Flight>,
    next_flight: u64,
    /// Messages that are hidden and in no pod.
    hidden: BTreeMap<Message, u64>,
    hidden_count: u64,
    events: BinaryHeap<Reverse<(Micros, u64, Due)>>,
    next_event: u64,
    consuming: BTreeMap<PodId, Consuming>,
    /// The sum of their free places.
    free: u64,
    /// Who received last: the next message is the next one's.
    turn: PodId,
    ended: Vec<PodId>,
    count: Count,
    outages: Vec<Outage>,
    /// The first of them that was not yet seen.
    next_outage: usize,
    consumer: Consumer,
    /// Messages that one pod begins in a second at most.
    highest_rate: f64,
    call: Micros,
    visibility: Micros,
    max_receives: u32,
    in_flight_max: u64,
    /// Microseconds for one message by the quota of requests, and when it allows the next.
    quota: Option<(f64, f64)>,
    rng: fastrand::Rng,
}

impl Single {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let sqs = &scenario.sqs;
        let arrivals = Arrivals::new(scenario);
        Self {
            now: 0,
            next_arrival: arrivals.next(Time::ZERO).map(micros_at),
            arrivals,
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            flights: BTreeMap::new(),
            next_flight: 0,
            hidden: BTreeMap::new(),
            hidden_count: 0,
            events: BinaryHeap::new(),
            next_event: 0,
            consuming: BTreeMap::new(),
            free: 0,
            turn: 0,
            ended: Vec::new(),
            count: Count::default(),
            outages: super::outages(scenario),
            next_outage: 0,
            consumer: scenario.consumer.clone(),
            highest_rate: scenario.highest_rate().0,
            call: micros(scenario.consumer.call),
            visibility: micros(sqs.visibility_timeout),
            max_receives: sqs.max_receive_count,
            in_flight_max: sqs.in_flight_max,
            quota: sqs
                .requests_per_second
                .map(|calls| (1e6 / (calls * f64::from(sqs.receive_batch)), 0.0)),
            rng: fastrand::Rng::with_seed(scenario.seed ^ 0x0073_696e_676c_6500),
        }
    }

    fn at(&mut self, when: Micros, due: Due) {
        self.events.push(Reverse((when, self.next_event, due)));
        self.next_event += 1;
    }

    /// What comes next, and when: an arrival, an event, the beginning of an outage.
    fn next(&self) -> Option<Micros> {
        let event = self.events.peek().map(|Reverse((when, ..))| *when);
        let outage = self
            .outages
            .get(self.next_outage)
            .map(|outage| micros_at(outage.from));
        let over = self.waits_for();
        [event, self.next_arrival, outage, over]
            .into_iter()
            .flatten()
            .min()
    }

    /// With messages and places: when the quota or an outage allows the next receive.
    fn waits_for(&self) -> Option<Micros> {
        if self.free == 0 || (self.fresh.is_empty() && self.again.is_empty()) {
            return None;
        }
        if let Some(outage) = self.outage() {
            return Some(micros_at(outage.to));
        }
        let (_, allowed) = self.quota?;
        (allowed > self.now as f64).then_some(allowed.ceil() as Micros)
    }

    fn outage(&self) -> Option<Outage> {
        outage_at(&self.outages, Time::from_millis(self.now / 1000))
    }

    fn step(&mut self) {
        if let Some(outage) = self.outages.get(self.next_outage).copied()
            && micros_at(outage.from) <= self.now
        {
            self.next_outage += 1;
            self.begin_outage(outage);
        }
        if self.next_arrival.is_some_and(|at| at <= self.now) {
            self.arrive();
        }
        while let Some(Reverse((when, _, due))) = self.events.peek().copied()
            && when <= self.now
        {
            self.events.pop();
            match due {
                Due::Visible(message) => self.reappear(message),
                Due::Done(flight) => self.settle(flight),
                Due::Free(pod) => {
                    if let Some(consuming) = self.consuming.get_mut(&pod) {
                        consuming.free += 1;
                        self.free += 1;
                    }
                }
                Due::Ended(pod) => self.ended.push(pod),
            }
        }
        self.receive();
    }

    fn arrive(&mut self) {
        let now = Time::from_millis(self.now / 1000);
        for _ in 0..self.arrivals.take(now) {
            let share = self.consumer.poison_share;
            let poison = share > 0.0 && self.rng.f64() < share;
            self.count.sent += 1;
            self.fresh.push_back(Message {
                visible: self.now,
                sent: self.now,
                receives: 0,
                poison,
            });
        }
        self.next_arrival = self.arrivals.next(now).map(micros_at);
    }

    fn hide(&mut self, mut message: Message, until: Micros) {
        message.visible = until;
        *self.hidden.entry(message).or_default() += 1;
        self.hidden_count += 1;
        self.at(until, Due::Visible(message));
    }

    fn reappear(&mut self, message: Message) {
        if let Some(left) = self.hidden.get_mut(&message) {
            *left -= 1;
            if *left == 0 {
                self.hidden.remove(&message);
            }
            self.hidden_count -= 1;
            self.again.push_back(message);
        }
    }

    /// Hands out what there is, as far as places and limits go.
    fn receive(&mut self) {
        if self.free == 0 || self.outage().is_some() {
            return;
        }
        while self.free > 0 {
            let in_flight = self.flights.len() as u64 + self.hidden_count;
            if in_flight >= self.in_flight_max {
                return;
            }
            if self
                .quota
                .is_some_and(|(_, allowed)| allowed > self.now as f64)
            {
                return;
            }
            let Some(message) = self.first_visible() else {
                return;
            };
            if let Some((each, allowed)) = &mut self.quota {
                // What was not used within a second is lost.
                *allowed = allowed.max(self.now as f64 - 1e6) + *each;
            }
            if message.receives >= self.max_receives {
                self.count.dead += 1;
                continue;
            }
            self.hand_out(message);
        }
    }

    fn first_visible(&mut self) -> Option<Message> {
        match (self.fresh.front(), self.again.front()) {
            (Some(fresh), Some(again)) if again.visible < fresh.visible => self.again.pop_front(),
            (None, _) => self.again.pop_front(),
            _ => self.fresh.pop_front(),
        }
    }

    fn hand_out(&mut self, mut message: Message) {
        let later = self.consuming.range(self.turn + 1..);
        let around = later.chain(self.consuming.range(..=self.turn));
        let Some(pod) = around
            .filter(|(_, at)| at.free > 0)
            .map(|(pod, _)| *pod)
            .next()
        else {
            // Not reached: the sum says that there is a free place.
            self.again.push_front(message);
            self.free = 0;
            return;
        };
        self.turn = pod;
        let service = self.service_time();
        let Some(consuming) = self.consuming.get_mut(&pod) else {
            return;
        };
        consuming.free -= 1;
        self.free -= 1;
        let begin = consuming.next.max(self.now as f64);
        consuming.next = begin + 1e6 / self.highest_rate;
        message.receives += 1;
        let done = begin.ceil() as Micros + service + self.call;
        let flight = Flight {
            message,
            pod,
            received: self.now,
            done,
        };
        self.flights.insert(self.next_flight, flight);
        self.at(done, Due::Done(self.next_flight));
        self.next_flight += 1;
    }

    fn service_time(&mut self) -> Micros {
        match self.consumer.service_time {
            ServiceTime::Fixed(time) => micros(time),
            ServiceTime::Exponential(mean) => {
                let drawn = exponential(&mut self.rng) * mean.as_secs_f64();
                (drawn * 1e6).round() as Micros
            }
        }
    }

    /// A flight is done, unless its pod was lost or its settlement put off.
    fn settle(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number).copied() else {
            return;
        };
        if flight.done > self.now {
            return;
        }
        self.flights.remove(&number);
        if self.consuming.contains_key(&flight.pod) {
            self.at(self.now + self.call, Due::Free(flight.pod));
        }
        let share = self.consumer.error_share;
        let message = flight.message;
        if message.poison || (share > 0.0 && self.rng.f64() < share) {
            let Consumer {
                backoff_base,
                backoff_cap,
                ..
            } = self.consumer;
            let ceiling = backoff_ceiling(backoff_base, backoff_cap, message.receives);
            let seconds = (self.rng.f64() * ceiling).ceil().max(1.0);
            self.hide(message, self.now + (seconds * 1e6) as Micros);
        } else {
            self.count.processed += 1;
        }
    }

    /// Neither heartbeats nor deletes come through: what is done later is settled at the end
    /// if its lease holds until then, and lost if not.
    fn begin_outage(&mut self, outage: Outage) {
        let end = micros_at(outage.to);
        let under_way: Vec<_> = self
            .flights
            .iter()
            .map(|(number, at)| (*number, *at))
            .collect();
        for (number, flight) in under_way {
            let lease = lease_end(flight.received, self.now, self.visibility);
            if lease < end {
                self.flights.remove(&number);
                self.hide(flight.message, lease);
                self.at(lease, Due::Free(flight.pod));
            } else if flight.done < end {
                if let Some(flight) = self.flights.get_mut(&number) {
                    flight.done = end;
                }
                self.at(end, Due::Done(number));
            }
        }
    }

    /// Takes from a pod what is done later than `deadline`, hidden until its lease ends.
    /// Returns when the rest is done.
    fn cut_off(&mut self, pod: PodId, deadline: Micros) -> Micros {
        if let Some(consuming) = self.consuming.remove(&pod) {
            self.free -= u64::from(consuming.free);
        }
        let of_pod = self.flights.iter().filter(|(_, flight)| flight.pod == pod);
        let of_pod: Vec<_> = of_pod.map(|(number, flight)| (*number, *flight)).collect();
        let mut last = self.now;
        for (number, flight) in of_pod {
            last = last.max(flight.done.min(deadline));
            if flight.done > deadline {
                self.flights.remove(&number);
                let lease = lease_end(flight.received, deadline, self.visibility);
                self.hide(flight.message, lease);
            }
        }
        last
    }
}

impl Messages for Single {
    fn advance(&mut self, to: Time) {
        let to = micros_at(to);
        while let Some(next) = self.next()
            && next <= to
        {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = to;
    }

    fn start(&mut self, pod: PodId) {
        let free = self.consumer.concurrency;
        self.consuming.insert(pod, Consuming { free, next: 0.0 });
        self.free += u64::from(free);
        self.receive();
    }

    fn stop(&mut self, pod: PodId, deadline: Time) {
        let end = self.cut_off(pod, micros_at(deadline).max(self.now));
        self.at(end, Due::Ended(pod));
    }

    fn kill(&mut self, pod: PodId) {
        self.cut_off(pod, self.now);
    }

    fn ended(&mut self) -> Vec<PodId> {
        std::mem::take(&mut self.ended)
    }

    fn count(&self) -> Count {
        Count {
            visible: (self.fresh.len() + self.again.len()) as u64,
            in_flight: self.flights.len() as u64 + self.hidden_count,
            ..self.count
        }
    }

    fn recount(&self) -> Count {
        let hidden: u64 = self.hidden.values().sum();
        let in_flight = self.flights.len() as u64 + hidden;
        Count {
            in_flight,
            ..self.count()
        }
    }

    fn oldest(&self) -> Option<Time> {
        let fresh = self.fresh.front().map(|message| message.sent);
        let again = self.again.iter().map(|message| message.sent).min();
        let flights = self
            .flights
            .values()
            .map(|flight| flight.message.sent)
            .min();
        let hidden = self.hidden.keys().map(|message| message.sent).min();
        let oldest = [fresh, again, flights, hidden].into_iter().flatten().min();
        oldest.map(|sent| Time::from_millis(sent / 1000))
    }
}

fn micros(length: Duration) -> Micros {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn micros_at(at: Time) -> Micros {
    at.millis().saturating_mul(1000)
}
