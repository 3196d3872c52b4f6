//! Pods and the nodes they run on: what a ReplicaSet, the scheduler, the kubelet and a cluster
//! autoscaler make of a number of replicas. Knows when a pod works, not what it does.

use std::time::Duration;

use super::PodId;
use crate::scaled_object::Pod as Template;
use crate::scenario::{Nodes, Pods, Scenario, SlowStart};
use crate::time::Time;

/// What happened to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It works from now on.
    Ready(PodId),
    /// SIGTERM: it takes nothing more, and is cut off at the deadline.
    Stop(PodId, Time),
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is no room for it.
    Pending,
    /// It is scheduled, its image pulled, its container started, until then.
    Starting(Time),
    /// It works, since then.
    Ready(Time),
    /// It is terminating; with the moment of SIGTERM, if `preStop` still sleeps.
    Terminating(Option<Time>),
    /// It is gone.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) stage: Stage,
    /// When its container's image was pulled and it started; of the first pods the start.
    pub(crate) started: Time,
    node: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    pods: u32,
    /// When it has the image; nothing before the first pod.
    image: Option<Time>,
    /// When it takes pods.
    ready: Time,
    /// Since when it is empty.
    empty: Option<Time>,
    gone: bool,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Population {
    /// They exist and are not terminating.
    pub(crate) running: u32,
    /// They work.
    pub(crate) ready: u32,
    /// They are terminating.
    pub(crate) draining: u32,
}

pub(crate) struct Kube {
    pods: Vec<Pod>,
    /// Those that are not gone, by the order of starts.
    alive: Vec<PodId>,
    nodes: Vec<Node>,
    desired: u32,
    times: Pods,
    room: Option<Nodes>,
    slow_starts: Vec<SlowStart>,
    /// The first probe of a container, and how often it is probed: it works when a probe
    /// found it well. Consumers need none.
    probes: Option<(Duration, Duration)>,
    pre_stop: Duration,
    /// From SIGTERM until it is cut off.
    drain: Duration,
    rng: fastrand::Rng,
}

/// What `gristmill` keeps of its `--grace-period` for settling (docs/queues.md, Stopping).
const SETTLING: Duration = Duration::from_secs(3);

impl Kube {
    pub(crate) fn new(scenario: &Scenario, template: &Template) -> Self {
        let after_signal = template.grace_period.saturating_sub(template.pre_stop);
        let drain = template
            .drain
            .map_or(after_signal, |drain| drain.saturating_sub(SETTLING));
        let mut room = scenario.nodes.clone();
        if let Some(room) = &mut room
            && template.one_per_node
        {
            room.pods_per_node = 1;
        }
        let initial = room.as_ref().map_or(0, |room| room.initial);
        Self {
            pods: Vec::new(),
            alive: Vec::new(),
            nodes: (0..initial).map(|_| Node::new(Time::ZERO)).collect(),
            desired: 0,
            times: scenario.pods.clone(),
            room,
            slow_starts: scenario.faults.slow_starts.clone(),
            probes: None,
            pre_stop: template.pre_stop,
            drain: drain.min(after_signal),
            rng: fastrand::Rng::with_seed(scenario.seed ^ 0x6b75_6265),
        }
    }

    /// Pods that get work by a Service: only once a probe has found them well.
    pub(crate) fn behind_probes(scenario: &Scenario, template: &Template) -> Self {
        let probe = template.startup.or(template.readiness);
        let probes = probe.map(|probe| (probe.initial_delay, probe.period));
        Self {
            probes,
            ..Self::new(scenario, template)
        }
    }

    /// `spec.replicas` is this from now on.
    pub(crate) fn scale(&mut self, desired: u32) {
        self.desired = desired;
    }

    /// Pods that work from the start, however long others take; nodes grow for them.
    pub(crate) fn begin(&mut self, pods: u32) -> Vec<Turn> {
        self.desired = pods;
        for pod in 0..pods as usize {
            let node = self
                .free_node(Time::ZERO)
                .or_else(|| self.add_node(Time::ZERO));
            self.place(node, Time::ZERO);
            self.pods.push(Pod {
                stage: Stage::Ready(Time::ZERO),
                started: Time::ZERO,
                node,
            });
            self.alive.push(pod);
        }
        self.alive.iter().copied().map(Turn::Ready).collect()
    }

    /// What is due now: pods are made and stopped until there are as many as desired, and
    /// those whose time has come work, or get their signal.
    pub(crate) fn advance(&mut self, now: Time) -> Vec<Turn> {
        let mut turns = Vec::new();
        self.replicate(now, &mut turns);
        self.schedule(now);
        for id in self.alive.clone() {
            match self.pods[id].stage {
                Stage::Starting(until) if until <= now => {
                    self.pods[id].stage = Stage::Ready(now);
                    turns.push(Turn::Ready(id));
                }
                Stage::Terminating(Some(signal)) if signal <= now => {
                    self.pods[id].stage = Stage::Terminating(None);
                    turns.push(Turn::Stop(id, signal + self.drain));
                }
                _ => {}
            }
        }
        turns
    }

    /// When [`Self::advance`] has something to do next, as far as it is known.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let pods = self
            .alive
            .iter()
            .filter_map(|id| match self.pods[*id].stage {
                Stage::Starting(at) | Stage::Terminating(Some(at)) => Some(at),
                _ => None,
            });
        let nodes = self
            .nodes
            .iter()
            .filter(|node| node.pods == 0 && !node.gone);
        let pending = self
            .alive
            .iter()
            .any(|id| self.pods[*id].stage == Stage::Pending);
        let nodes = nodes.map(|node| node.ready).filter(|_| pending);
        pods.chain(nodes).min()
    }

    /// As the ReplicaSet: what is missing is made, what is too much is stopped, first what is
    /// not scheduled, then what does not work yet, then what has worked for the shortest time
    /// (`ActivePodsWithRanks`, `pkg/controller/controller_utils.go` of Kubernetes).
    fn replicate(&mut self, now: Time, turns: &mut Vec<Turn>) {
        let active = |pod: &Pod| !matches!(pod.stage, Stage::Terminating(_) | Stage::Gone);
        let mut there = self.alive.clone();
        there.retain(|id| active(&self.pods[*id]));
        for _ in there.len()..self.desired as usize {
            self.alive.push(self.pods.len());
            self.pods.push(Pod {
                stage: Stage::Pending,
                started: now,
                node: None,
            });
        }
        let surplus = there.len().saturating_sub(self.desired as usize);
        if surplus == 0 {
            return;
        }
        there.sort_by_key(|id| {
            let (stage, since) = match self.pods[*id].stage {
                Stage::Pending => (0, Time::ZERO),
                Stage::Starting(_) => (1, Time::ZERO),
                Stage::Ready(since) => (2, since),
                Stage::Terminating(_) | Stage::Gone => (3, Time::ZERO),
            };
            (stage, std::cmp::Reverse(since), std::cmp::Reverse(*id))
        });
        for id in there.into_iter().take(surplus) {
            if matches!(self.pods[id].stage, Stage::Ready(_)) {
                let signal = now + self.pre_stop;
                if self.pre_stop.is_zero() {
                    self.pods[id].stage = Stage::Terminating(None);
                    turns.push(Turn::Stop(id, signal + self.drain));
                } else {
                    self.pods[id].stage = Stage::Terminating(Some(signal));
                }
            } else {
                self.remove(id, now);
            }
        }
    }

    /// Gives pods without a node one, and asks for as many nodes as they would fill.
    fn schedule(&mut self, now: Time) {
        self.reap(now);
        let pending = self.alive.iter().copied();
        let pending: Vec<_> = pending
            .filter(|id| self.pods[*id].stage == Stage::Pending)
            .collect();
        let mut left = pending.len();
        for id in pending {
            let node = self.free_node(now);
            if node.is_none() && self.room.is_some() {
                break;
            }
            left -= 1;
            let pull = self.place(node, Time::ZERO);
            let slow = self
                .slow_starts
                .iter()
                .filter(|slow| (slow.from..slow.to).contains(&now));
            let slow: Duration = slow.map(|slow| slow.extra).sum();
            let varies = self.times.jitter * (2.0 * self.rng.f64() - 1.0);
            let before = (self.times.schedule + pull).mul_f64(1.0 + varies);
            let start = self.times.start.mul_f64(1.0 + varies) + slow;
            let until = now + before + self.probed(start);
            let pod = &mut self.pods[id];
            pod.node = node;
            pod.started = now;
            pod.stage = Stage::Starting(until);
        }
        if let Some(room) = &self.room {
            let (each, start) = (room.pods_per_node as usize, room.start);
            let coming = self
                .nodes
                .iter()
                .filter(|node| node.ready > now && !node.gone)
                .count();
            for _ in coming..left.div_ceil(each) {
                if self.add_node(now + start).is_none() {
                    break;
                }
            }
        }
    }

    /// When a container that needs so long is found well.
    fn probed(&self, start: Duration) -> Duration {
        let Some((first, period)) = self.probes else {
            return start;
        };
        let late = start.saturating_sub(first).as_millis();
        let probes = late.div_ceil(period.as_millis().max(1));
        first + period * u32::try_from(probes).unwrap_or(u32::MAX)
    }

    /// Counts a pod in on its node. Returns how long it waits for the image, which the first
    /// pod there has pulled.
    fn place(&mut self, node: Option<usize>, now: Time) -> Duration {
        let Some(node) = node.map(|node| &mut self.nodes[node]) else {
            return Duration::ZERO;
        };
        node.pods += 1;
        node.empty = None;
        let scheduled = now + self.times.schedule;
        let pulled = node.image.get_or_insert(scheduled + self.times.image_pull);
        pulled.since(scheduled)
    }

    /// The node with the fewest pods that has room: pods are spread.
    fn free_node(&self, now: Time) -> Option<usize> {
        let each = self.room.as_ref()?.pods_per_node;
        let nodes = self.nodes.iter().enumerate();
        let free = nodes.filter(|(_, node)| !node.gone && node.ready <= now && node.pods < each);
        free.min_by_key(|(_, node)| node.pods)
            .map(|(index, _)| index)
    }

    fn add_node(&mut self, ready: Time) -> Option<usize> {
        let max = self.room.as_ref()?.max as usize;
        if self.nodes.iter().filter(|node| !node.gone).count() >= max {
            return None;
        }
        self.nodes.push(Node::new(ready));
        Some(self.nodes.len() - 1)
    }

    /// Takes away nodes that are empty for too long, down to the first ones.
    fn reap(&mut self, now: Time) {
        let Some(room) = &self.room else { return };
        let mut there = self.nodes.iter().filter(|node| !node.gone).count();
        for node in self
            .nodes
            .iter_mut()
            .rev()
            .filter(|node| !node.gone && node.ready <= now)
        {
            let empty = if node.pods == 0 {
                *node.empty.get_or_insert(now)
            } else {
                continue;
            };
            if there > room.initial as usize && now.since(empty) >= room.idle {
                node.gone = true;
                there -= 1;
            }
        }
    }

    /// A pod is gone: it was killed, or has ended.
    pub(crate) fn remove(&mut self, id: PodId, now: Time) {
        let pod = &mut self.pods[id];
        pod.stage = Stage::Gone;
        if let Some(node) = pod.node.take() {
            self.nodes[node].pods -= 1;
            if self.nodes[node].pods == 0 {
                self.nodes[node].empty = Some(now);
            }
        }
        self.alive.retain(|alive| *alive != id);
    }

    /// The oldest pods that work.
    pub(crate) fn oldest_ready(&self, pods: u32) -> Vec<PodId> {
        let ready = self.alive.iter().copied();
        let ready = ready.filter(|id| matches!(self.pods[*id].stage, Stage::Ready(_)));
        ready.take(pods as usize).collect()
    }

    /// Pods that are not gone.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (PodId, &Pod)> {
        self.alive.iter().map(|id| (*id, &self.pods[*id]))
    }

    pub(crate) fn population(&self) -> Population {
        let mut found = Population::default();
        for (_, pod) in self.alive() {
            match pod.stage {
                Stage::Pending | Stage::Starting(_) => found.running += 1,
                Stage::Ready(_) => {
                    found.running += 1;
                    found.ready += 1;
                }
                Stage::Terminating(_) => found.draining += 1,
                Stage::Gone => {}
            }
        }
        found
    }
}

impl Node {
    const fn new(ready: Time) -> Self {
        Self {
            pods: 0,
            image: None,
            ready,
            empty: None,
            gone: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn kube() -> Kube {
        let text = "duration_seconds = 60
            pods = { schedule_seconds = 0, start_seconds = 10 }
            trace = { kind = 'constant', rate = 1 }";
        let scenario = Scenario::parse(text, Path::new(".")).unwrap();
        let template = Template {
            replicas: None,
            grace_period: Duration::from_secs(50),
            pre_stop: Duration::from_secs(5),
            drain: Some(Duration::from_secs(40)),
            min_ready: Duration::ZERO,
            startup: None,
            readiness: None,
            liveness: None,
            cpu_request_millis: 0,
            cpu_limit_millis: None,
            memory_request_bytes: 0,
            memory_limit_bytes: None,
            one_per_node: false,
            args: Vec::new(),
        };
        Kube::new(&scenario, &template)
    }

    /// As a ReplicaSet: what does not work yet goes first, then what works for the shortest
    /// time. `preStop` comes before SIGTERM; the drain is gristmill's, less what it keeps.
    #[test]
    fn the_newest_pods_go_first() {
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        let mut kube = kube();
        kube.begin(1);
        for (seconds, replicas) in [(0, 1), (5, 2), (15, 3), (25, 4), (30, 5)] {
            kube.scale(replicas);
            kube.advance(at(seconds));
        }
        // Pods 0 to 2 work since 0, 15 and 25 s; 3 and 4 do not yet.
        assert_eq!(
            kube.population(),
            Population {
                running: 5,
                ready: 3,
                draining: 0
            }
        );
        assert_eq!(kube.oldest_ready(2), [0, 1]);
        kube.scale(2);
        assert_eq!(kube.advance(at(31)), []);
        assert_eq!(
            kube.population(),
            Population {
                running: 2,
                ready: 2,
                draining: 1
            }
        );
        let gone = [2, 3, 4].map(|id: PodId| kube.pods[id].stage);
        assert_eq!(
            gone,
            [Stage::Terminating(Some(at(36))), Stage::Gone, Stage::Gone]
        );
        assert_eq!(kube.advance(at(36)), [Turn::Stop(2, at(36 + 37))]);
        kube.remove(2, at(50));
        assert_eq!(
            kube.population(),
            Population {
                running: 2,
                ready: 2,
                draining: 0
            }
        );
    }
}
