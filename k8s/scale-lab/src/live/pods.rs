//! The pods of one Deployment: what the ReplicaSet's controller and the kubelet do, with
//! processes. Each pod is a task of its own, which starts its process after a delay, says
//! when it consumes, and stops it when told to.

use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::process::{Plan, Process, ProcessError};
use crate::time::Time;

/// What pods tell; each at most four things.
const TOLD: usize = 256;

/// What a pod is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    /// SIGTERM, and SIGKILL when the grace period is over.
    Stop,
    /// SIGKILL now.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Draining,
    Gone,
}

/// How one pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, after SIGTERM.
    Drained,
    /// By SIGKILL: because it was told to.
    Killed,
    /// Because its grace period was over, or it gave up work at its own.
    CutOff,
    /// It crashed.
    Crashed,
}

/// One pod, from its creation to its end.
#[derive(Debug)]
pub(super) struct Pod {
    state: State,
    order: watch::Sender<Order>,
    pub(super) created: Time,
    pub(super) ready: Option<Time>,
    pub(super) ended: Option<(Time, End)>,
}

#[derive(Debug)]
enum News {
    Ready,
    Ended(End),
    Failed(ProcessError),
}

/// How pods are started and stopped.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// `{pod}` in it is the pod's number.
    pub(super) plan: Plan,
    /// From SIGTERM to SIGKILL, in real time.
    pub(super) grace: Duration,
    /// How long a process takes to become ready, in real time: that much earlier it is
    /// started.
    pub(super) process_start: Duration,
}

impl Template {
    /// The plan of that pod.
    pub(super) fn plan_of(&self, pod: usize) -> Plan {
        let fill = |text: &str| text.replace("{pod}", &pod.to_string());
        Plan {
            arguments: self.plan.arguments.iter().map(|one| fill(one)).collect(),
            log: fill(&self.plan.log.to_string_lossy()).into(),
            ..self.plan.clone()
        }
    }
}

/// All pods there ever were.
pub(super) struct Pods {
    pub(super) all: Vec<Pod>,
    clock: Clock,
    template: Template,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<(usize, News)>,
    told: mpsc::Receiver<(usize, News)>,
}

impl Pods {
    pub(super) fn new(clock: Clock, template: Template) -> Self {
        let (tell, told) = mpsc::channel(TOLD);
        Self {
            all: Vec::new(),
            clock,
            template,
            tasks: JoinSet::new(),
            tell,
            told,
        }
    }

    /// From now on, moments are of this clock.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        for pod in &mut self.all {
            pod.created = Time::ZERO;
            pod.ready = pod.ready.map(|_| Time::ZERO);
        }
    }

    fn count(&self, state: State) -> u32 {
        self.all.iter().filter(|pod| pod.state == state).count() as u32
    }

    /// Pods that exist and are not terminating.
    pub(super) fn running(&self) -> u32 {
        self.count(State::Starting) + self.count(State::Ready)
    }

    pub(super) fn ready(&self) -> u32 {
        self.count(State::Ready)
    }

    pub(super) fn draining(&self) -> u32 {
        self.count(State::Draining)
    }

    /// Creates a pod that consumes after so long, in real time.
    pub(super) fn start(&mut self, after: Duration) {
        let number = self.all.len();
        let (order, orders) = watch::channel(Order::Run);
        let delay = after.saturating_sub(self.template.process_start);
        let plan = self.template.plan_of(number);
        let life = Life {
            number,
            orders,
            tell: self.tell.clone(),
            grace: self.template.grace,
        };
        self.tasks.spawn(life.run(plan, delay));
        self.all.push(Pod {
            state: State::Starting,
            order,
            created: self.clock.now(),
            ready: None,
            ended: None,
        });
    }

    /// Stops so many, in the order of the ReplicaSet's controller
    /// (`pkg/controller/controller_utils.go`, `ActivePodsWithRanks`): those that are not
    /// ready first, then the youngest.
    pub(super) fn stop(&mut self, count: u32) {
        let mut active: Vec<_> = self
            .all
            .iter_mut()
            .filter(|pod| matches!(pod.state, State::Starting | State::Ready))
            .collect();
        active.sort_by_key(|pod| {
            let ready = pod.state == State::Ready;
            (ready, std::cmp::Reverse((pod.ready, pod.created)))
        });
        for pod in active.into_iter().take(count as usize) {
            pod.state = State::Draining;
            pod.order.send_replace(Order::Stop);
        }
    }

    /// Kills so many: the oldest of those that consume. Their numbers.
    pub(super) fn kill(&mut self, count: u32) -> Vec<usize> {
        let ready = self.all.iter_mut().enumerate();
        ready
            .filter(|(_, pod)| pod.state == State::Ready)
            .take(count as usize)
            .map(|(number, pod)| {
                pod.state = State::Gone;
                pod.ended = Some((self.clock.now(), End::Killed));
                pod.order.send_replace(Order::Kill);
                number
            })
            .collect()
    }

    /// Waits for something to happen to a pod, and notes it. An error when a process could
    /// not be started; a pod that crashed is gone.
    pub(super) async fn changed(&mut self) -> Result<(), ProcessError> {
        // Never `None`: this holds a sender, too.
        let Some((number, news)) = self.told.recv().await else {
            return Ok(());
        };
        let now = self.clock.now();
        let Some(pod) = self.all.get_mut(number) else {
            return Ok(());
        };
        match news {
            News::Ready => {
                pod.ready = Some(now);
                if pod.state == State::Starting {
                    pod.state = State::Ready;
                }
            }
            News::Ended(end) => {
                pod.state = State::Gone;
                pod.ended.get_or_insert((now, end));
            }
            News::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits until every process has ended.
    pub(super) async fn gone(&mut self) -> Result<(), ProcessError> {
        while self.all.iter().any(|pod| pod.state != State::Gone) {
            self.changed().await?;
        }
        // Those that were killed are gone before their processes are.
        while self.tasks.join_next().await.is_some() {}
        Ok(())
    }
}

/// One pod's task.
struct Life {
    number: usize,
    orders: watch::Receiver<Order>,
    tell: mpsc::Sender<(usize, News)>,
    grace: Duration,
}

impl Life {
    async fn run(mut self, plan: Plan, delay: Duration) {
        let end = match self.live(plan, delay).await {
            Ok(end) => News::Ended(end),
            Err(error) => News::Failed(error),
        };
        self.say(end).await;
    }

    async fn say(&self, news: News) {
        // Nobody listens any more: the run is over.
        let _ = self.tell.send((self.number, news)).await;
    }

    /// The next order that is not to go on.
    async fn order(&mut self) -> Order {
        let order = self.orders.wait_for(|order| *order != Order::Run).await;
        // Whoever gives orders is gone.
        order.map_or(Order::Kill, |order| *order)
    }

    /// Returns when it is to be killed.
    async fn killed(&mut self) {
        // Whoever gives orders is gone: the same.
        let _ = self.orders.wait_for(|order| *order == Order::Kill).await;
    }

    async fn live(&mut self, plan: Plan, delay: Duration) -> Result<End, ProcessError> {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // What was not started has nothing to drain.
            _ = self.order() => return Ok(End::Drained),
        }
        let mut process = Process::start(&plan)?;
        let first = tokio::select! {
            ready = process.line("Ready") => { ready?; None }
            order = self.order() => Some(order),
        };
        let order = match first {
            Some(order) => order,
            None => {
                self.say(News::Ready).await;
                tokio::select! {
                    _ = process.ended() => return Ok(End::Crashed),
                    order = self.order() => order,
                }
            }
        };
        if order == Order::Stop {
            process.terminate()?;
            let grace = self.grace;
            tokio::select! {
                ended = process.ended() => {
                    let done = |status: ExitStatus| if status.success() { End::Drained } else { End::CutOff };
                    return ended.map(done);
                }
                () = self.killed() => {}
                () = tokio::time::sleep(grace) => {
                    process.kill()?;
                    process.ended().await?;
                    return Ok(End::CutOff);
                }
            }
        }
        process.kill()?;
        process.ended().await?;
        Ok(End::Killed)
    }
}
