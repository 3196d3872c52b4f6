//! Messages of one tick as one cohort: the same rules as one by one, for millions a second.
//! Pods are alike, so those that consume are one pool; what a pod takes with it when it stops
//! is its share. Numbers stay whole: what a share rounds off is carried on to the next.

use std::collections::{BTreeMap, VecDeque};

use super::{Arrivals, Carry, Count, Messages, PodId, backoff_ceiling, lease_end, outage_at};
use crate::scenario::{Consumer, Outage, Scenario, ServiceTime};
use crate::time::Time;

/// Ticks since the start.
type Tick = u64;

/// Lengths of a tick, in milliseconds; each divides a second.
const TICKS: [u64; 6] = [100, 50, 25, 20, 10, 5];
/// A message's time in a pod has so many ticks at least, where the shortest tick allows.
const TICKS_OF_A_MESSAGE: u64 = 4;
/// Rounding to ticks changes a fixed time by a part of so many at most, where a tick does that.
const ROUNDING: u64 = 50;
/// Parts that an exponential distribution, or a random back-off, is cut into.
const SLICES: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Cohort {
    /// When it was, or becomes, visible.
    visible: Tick,
    sent: Tick,
    receives: u32,
    poison: bool,
    count: u64,
}

/// Messages in pods, by the tick in which they are done.
#[derive(Clone, Copy, Debug)]
struct Flight {
    cohort: Cohort,
    received: Tick,
    /// When its places are free.
    free: Tick,
    /// The pool's, or of a stopped pod.
    pooled: bool,
}

/// How long a slice of messages takes, in ticks.
#[derive(Clone, Copy, Debug)]
struct Slice {
    done: Tick,
    free: Tick,
}

pub(crate) struct Cohorts {
    now: Tick,
    tick_millis: u64,
    arrivals: Arrivals,
    fresh: VecDeque<Cohort>,
    again: VecDeque<Cohort>,
    visible: u64,
    flights: BTreeMap<Tick, Vec<Flight>>,
    hidden: BTreeMap<Tick, Vec<Cohort>>,
    /// Places of the pool whose message was settled, by the tick in which they are free.
    frees: BTreeMap<Tick, u64>,
    /// Messages in flight: in pods, and hidden.
    in_flight: u64,
    /// Places of the pool that are taken.
    occupied: u64,
    /// Pods that consume.
    open: u64,
    stopped: BTreeMap<PodId, Tick>,
    slices: Vec<Slice>,
    /// Which slice gets the odd message next.
    next_slice: usize,
    /// Places of a pod, so that rounded times give the exact rate.
    places: f64,
    /// Messages that pods may begin, and requests that the quota allows, saved up.
    begin: Allowance,
    quota: Option<Allowance>,
    errors: Carry,
    poisons: Carry,
    count: Count,
    outages: Vec<Outage>,
    next_outage: usize,
    consumer: Consumer,
    visibility: Tick,
    max_receives: u32,
    in_flight_max: u64,
}

/// So many a tick; what is not used is kept for a tick at least.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    each_tick: f64,
    left: f64,
}

impl Allowance {
    fn refill(&mut self, times: f64) {
        let more = self.each_tick * times;
        self.left = (self.left + more).min((2.0 * more).max(1.0));
    }
}

impl Cohorts {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let tick_millis = tick_millis(scenario);
        let tick = tick_millis as f64 / 1e3;
        let slices = slices(scenario, tick);
        let mean = slices.iter().map(|slice| slice.free as f64).sum::<f64>() / slices.len() as f64;
        let stretched = mean * tick / scenario.occupancy().as_secs_f64();
        let sqs = &scenario.sqs;
        Self {
            now: 0,
            tick_millis,
            arrivals: Arrivals::new(scenario),
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            visible: 0,
            flights: BTreeMap::new(),
            hidden: BTreeMap::new(),
            frees: BTreeMap::new(),
            in_flight: 0,
            occupied: 0,
            open: 0,
            stopped: BTreeMap::new(),
            slices,
            next_slice: 0,
            places: f64::from(scenario.consumer.concurrency) * stretched,
            begin: Allowance {
                each_tick: scenario.highest_rate().0 * tick,
                left: 0.0,
            },
            quota: sqs.requests_per_second.map(|calls| Allowance {
                each_tick: calls * f64::from(sqs.receive_batch) * tick,
                left: 0.0,
            }),
            errors: Carry::new(scenario.consumer.error_share),
            poisons: Carry::new(scenario.consumer.poison_share),
            count: Count::default(),
            outages: super::outages(scenario),
            next_outage: 0,
            consumer: scenario.consumer.clone(),
            visibility: sqs.visibility_timeout.as_millis() as u64 / tick_millis,
            max_receives: sqs.max_receive_count,
            in_flight_max: sqs.in_flight_max,
        }
    }

    fn time(&self) -> Time {
        Time::from_millis(self.now * self.tick_millis)
    }

    /// The first tick at that moment or later.
    fn tick_at(&self, at: Time) -> Tick {
        at.millis().div_ceil(self.tick_millis)
    }

    fn tick(&mut self) {
        if let Some(outage) = self.outages.get(self.next_outage).copied()
            && outage.from <= self.time()
        {
            self.next_outage += 1;
            self.begin_outage(outage);
        }
        while let Some(free) = self.frees.first_entry()
            && *free.key() <= self.now
        {
            self.occupied -= free.remove();
        }
        while let Some(done) = self.flights.first_entry()
            && *done.key() <= self.now
        {
            for flight in done.remove() {
                self.settle(flight);
            }
        }
        while let Some(visible) = self.hidden.first_entry()
            && *visible.key() <= self.now
        {
            for cohort in visible.remove() {
                self.in_flight -= cohort.count;
                self.visible += cohort.count;
                self.again.push_back(cohort);
            }
        }
        self.arrive();
        self.receive();
    }

    fn arrive(&mut self) {
        let arrived = self.arrivals.take(self.time());
        if arrived == 0 {
            return;
        }
        let poison = self.poisons.take(arrived);
        for (count, poison) in [(arrived - poison, false), (poison, true)] {
            if count > 0 {
                let (visible, sent) = (self.now, self.now);
                self.fresh.push_back(Cohort {
                    visible,
                    sent,
                    receives: 0,
                    poison,
                    count,
                });
            }
        }
        self.count.sent += arrived;
        self.visible += arrived;
    }

    fn receive(&mut self) {
        self.begin.refill(self.open as f64);
        if let Some(quota) = &mut self.quota {
            quota.refill(1.0);
        }
        if outage_at(&self.outages, self.time()).is_some() {
            return;
        }
        let places = (self.open as f64 * self.places + 1e-9).floor() as u64;
        let mut room = places
            .saturating_sub(self.occupied)
            .min(self.begin.left.floor() as u64)
            .min(self.in_flight_max.saturating_sub(self.in_flight));
        if let Some(quota) = &self.quota {
            room = room.min(quota.left.floor() as u64);
        }
        while room > 0
            && let Some(mut cohort) = self.first_visible()
        {
            let count = cohort.count.min(room);
            if count < cohort.count {
                let rest = Cohort {
                    count: cohort.count - count,
                    ..cohort
                };
                let queue = if rest.receives == 0 {
                    &mut self.fresh
                } else {
                    &mut self.again
                };
                queue.push_front(rest);
                cohort.count = count;
            }
            self.visible -= count;
            room -= count;
            if let Some(quota) = &mut self.quota {
                quota.left -= count as f64;
            }
            if cohort.receives >= self.max_receives {
                self.count.dead += count;
                continue;
            }
            self.begin.left -= count as f64;
            cohort.receives += 1;
            self.hand_out(cohort);
        }
    }

    fn first_visible(&mut self) -> Option<Cohort> {
        match (self.fresh.front(), self.again.front()) {
            (Some(fresh), Some(again)) if again.visible < fresh.visible => self.again.pop_front(),
            (None, _) => self.again.pop_front(),
            _ => self.fresh.pop_front(),
        }
    }

    fn hand_out(&mut self, cohort: Cohort) {
        self.in_flight += cohort.count;
        self.occupied += cohort.count;
        let parts = self.slices.len();
        let (each, odd) = (cohort.count / parts as u64, cohort.count % parts as u64);
        for index in 0..parts {
            let slice = self.slices[(self.next_slice + index) % parts];
            let count = each + u64::from((index as u64) < odd);
            if count > 0 {
                let flight = Flight {
                    cohort: Cohort { count, ..cohort },
                    received: self.now,
                    free: self.now + slice.free,
                    pooled: true,
                };
                self.flights
                    .entry(self.now + slice.done)
                    .or_default()
                    .push(flight);
            }
        }
        self.next_slice = (self.next_slice + odd as usize) % parts;
    }

    fn settle(&mut self, flight: Flight) {
        let cohort = flight.cohort;
        if flight.pooled {
            self.free_at(flight.free, cohort.count);
        }
        let failed = if cohort.poison {
            cohort.count
        } else {
            self.errors.take(cohort.count)
        };
        let processed = cohort.count - failed;
        self.count.processed += processed;
        self.in_flight -= processed;
        self.back_off(Cohort {
            count: failed,
            ..cohort
        });
    }

    /// Places of the pool, from then on.
    fn free_at(&mut self, at: Tick, count: u64) {
        if at <= self.now {
            self.occupied -= count;
        } else {
            *self.frees.entry(at).or_default() += count;
        }
    }

    /// Hides failed messages for a back-off: evenly spread, in whole seconds.
    fn back_off(&mut self, failed: Cohort) {
        let Consumer {
            backoff_base,
            backoff_cap,
            ..
        } = self.consumer;
        let ceiling = backoff_ceiling(backoff_base, backoff_cap, failed.receives);
        let slices = SLICES as u64;
        for slice in 0..slices {
            // The odd ones go to slices over the whole range.
            let upto = |slice: u64| failed.count * slice / slices;
            let count = upto(slice + 1) - upto(slice);
            let seconds = ((slice as f64 + 0.5) / slices as f64 * ceiling)
                .ceil()
                .max(1.0);
            let until = self.now + (seconds * 1e3) as u64 / self.tick_millis;
            self.hide(Cohort { count, ..failed }, until);
        }
    }

    fn hide(&mut self, mut cohort: Cohort, until: Tick) {
        if cohort.count > 0 {
            cohort.visible = until;
            self.hidden.entry(until).or_default().push(cohort);
        }
    }

    /// As for single messages: neither heartbeats nor deletes come through.
    fn begin_outage(&mut self, outage: Outage) {
        let end = self.tick_at(outage.to);
        for (done, flights) in std::mem::take(&mut self.flights) {
            for mut flight in flights {
                let lease = lease_end(flight.received, self.now, self.visibility);
                if lease < end {
                    self.hide(flight.cohort, lease);
                    if flight.pooled {
                        self.free_at(lease, flight.cohort.count);
                    }
                    continue;
                }
                let later = end.saturating_sub(done);
                flight.free += later;
                self.flights.entry(done + later).or_default().push(flight);
            }
        }
    }

    /// One pod leaves the pool with its share. What of that is done later than `deadline` is
    /// hidden until its lease ends. Returns when the rest is done.
    fn leave(&mut self, deadline: Tick) -> Tick {
        let Some(others) = self.open.checked_sub(1) else {
            return self.now;
        };
        let mut share = Carry::new(1.0 / self.open as f64);
        let mut last = self.now;
        let mut lost = Vec::new();
        for (done, flights) in &mut self.flights {
            let mut kept = Vec::new();
            for flight in flights.iter_mut().filter(|flight| flight.pooled) {
                let count = share.take(flight.cohort.count);
                if count == 0 {
                    continue;
                }
                flight.cohort.count -= count;
                self.occupied -= count;
                last = last.max((*done).min(deadline));
                let cohort = Cohort {
                    count,
                    ..flight.cohort
                };
                if *done > deadline {
                    lost.push((
                        cohort,
                        lease_end(flight.received, deadline, self.visibility),
                    ));
                } else {
                    kept.push(Flight {
                        cohort,
                        pooled: false,
                        ..*flight
                    });
                }
            }
            flights.retain(|flight| flight.cohort.count > 0);
            flights.append(&mut kept);
        }
        self.flights.retain(|_, flights| !flights.is_empty());
        for (cohort, lease) in lost {
            self.hide(cohort, lease);
        }
        for free in self.frees.values_mut() {
            let count = share.take(*free);
            *free -= count;
            self.occupied -= count;
        }
        self.open = others;
        last
    }
}

/// The longest tick that is short enough for a message's time in a pod, and that this time is
/// a multiple of, or nearly.
fn tick_millis(scenario: &Scenario) -> u64 {
    let occupancy = scenario.occupancy().as_millis() as u64;
    let wanted = occupancy / TICKS_OF_A_MESSAGE;
    let mut short = TICKS.into_iter().filter(|tick| *tick <= wanted);
    let consumer = &scenario.consumer;
    let until_done = (consumer.service_time.mean() + consumer.call).as_millis() as u64;
    let near = |tick: &u64| {
        let rest = until_done % tick;
        rest.min(tick - rest) * ROUNDING <= until_done
    };
    let found = match consumer.service_time {
        ServiceTime::Fixed(_) => short.find(near),
        ServiceTime::Exponential(_) => short.next(),
    };
    found.unwrap_or(TICKS[TICKS.len() - 1])
}

/// The times that messages take, as equally likely slices.
fn slices(scenario: &Scenario, tick: f64) -> Vec<Slice> {
    let consumer = &scenario.consumer;
    let slice = |service: f64| {
        let ticks = |time: f64| (time / tick).round() as Tick;
        let call = consumer.call.as_secs_f64();
        let done = ticks(service + call).max(1);
        Slice {
            done,
            free: ticks(service + 2.0 * call).max(done),
        }
    };
    match consumer.service_time {
        ServiceTime::Fixed(time) => vec![slice(time.as_secs_f64())],
        ServiceTime::Exponential(mean) => {
            // The mean of each slice: the integral of the quantile function, −ln(1−u).
            let integral = |u: f64| {
                let rest = 1.0 - u;
                if rest > 0.0 {
                    rest.mul_add(rest.ln(), u)
                } else {
                    1.0
                }
            };
            let count = SLICES as f64;
            let bounds =
                (0..SLICES).map(|index| (index as f64 / count, (index + 1) as f64 / count));
            let means = bounds.map(|(low, high)| (integral(high) - integral(low)) * count);
            means
                .map(|of_mean| slice(of_mean * mean.as_secs_f64()))
                .collect()
        }
    }
}

impl Messages for Cohorts {
    fn advance(&mut self, to: Time) {
        while (self.now + 1) * self.tick_millis <= to.millis() {
            self.now += 1;
            self.tick();
        }
    }

    fn start(&mut self, _: PodId) {
        self.open += 1;
    }

    fn stop(&mut self, pod: PodId, deadline: Time) {
        let deadline = self.tick_at(deadline);
        let end = self.leave(deadline);
        self.stopped.insert(pod, end);
    }

    fn kill(&mut self, _: PodId) {
        self.leave(self.now);
    }

    fn ended(&mut self) -> Vec<PodId> {
        let ended = self.stopped.iter().filter(|(_, end)| **end <= self.now);
        let ended: Vec<_> = ended.map(|(pod, _)| *pod).collect();
        self.stopped.retain(|_, end| *end > self.now);
        ended
    }

    fn count(&self) -> Count {
        let (visible, in_flight) = (self.visible, self.in_flight);
        Count {
            visible,
            in_flight,
            ..self.count
        }
    }

    fn recount(&self) -> Count {
        let sum =
            |cohorts: &VecDeque<Cohort>| cohorts.iter().map(|cohort| cohort.count).sum::<u64>();
        let flights = self
            .flights
            .values()
            .flatten()
            .map(|flight| flight.cohort.count);
        let hidden = self.hidden.values().flatten().map(|cohort| cohort.count);
        Count {
            visible: sum(&self.fresh) + sum(&self.again),
            in_flight: flights.chain(hidden).sum(),
            ..self.count
        }
    }

    fn oldest(&self) -> Option<Time> {
        let fresh = self.fresh.front().map(|cohort| cohort.sent);
        let again = self.again.iter().map(|cohort| cohort.sent).min();
        let flights = self
            .flights
            .values()
            .flatten()
            .map(|flight| flight.cohort.sent)
            .min();
        let hidden = self
            .hidden
            .values()
            .flatten()
            .map(|cohort| cohort.sent)
            .min();
        let oldest = [fresh, again, flights, hidden].into_iter().flatten().min();
        oldest.map(|sent| Time::from_millis(sent * self.tick_millis))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    /// Places that are taken are those of messages in the pool, and of calls after them:
    /// none leaks, whoever leaves and whenever.
    #[test]
    fn places_do_not_leak() {
        let text = "duration_seconds = 60
            trace = { kind = 'constant', rate = 700 }
            consumer = { concurrency = 9, call_seconds = 0.3, service_time = { fixed_seconds = 0.4 } }";
        let scenario = Scenario::parse(text, Path::new(".")).unwrap();
        let mut model = Cohorts::new(&scenario);
        let mut now = Time::ZERO;
        for pod in 0..60 {
            model.start(pod);
            now = now + Duration::from_millis(330);
            model.advance(now);
            match pod % 3 {
                0 => model.stop(pod, now + Duration::from_millis(200)),
                1 => model.kill(pod),
                _ => {}
            }
            let pooled = model
                .flights
                .values()
                .flatten()
                .filter(|flight| flight.pooled);
            let taken: u64 = pooled.map(|flight| flight.cohort.count).sum();
            assert_eq!(
                model.occupied,
                taken + model.frees.values().sum::<u64>(),
                "{now}"
            );
        }
        assert!(model.occupied > 100);
    }
}
