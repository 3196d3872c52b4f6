//! The HorizontalPodAutoscaler's arithmetic, as in Kubernetes 1.35 with the controller
//! manager's default flags. Pure: no clock, no pods, only numbers; knows nothing of queues
//! and of KEDA.
//!
//! Files and functions named below are those of `pkg/controller/podautoscaler/`.

use std::time::Duration;

use crate::time::Time;

/// `--horizontal-pod-autoscaler-tolerance`: a metric so far from its target, as a ratio,
/// changes nothing.
pub const TOLERANCE: f64 = 0.1;

/// `--horizontal-pod-autoscaler-downscale-stabilization`.
pub const DOWNSCALE_STABILIZATION: Duration = Duration::from_mins(5);

/// `--horizontal-pod-autoscaler-cpu-initialization-period`: for so long after its start a
/// pod's CPU counts only while it is ready, and was for a whole window of the metric.
pub const CPU_INITIALIZATION: Duration = Duration::from_mins(5);

/// `--horizontal-pod-autoscaler-initial-readiness-delay`: a pod whose readiness last
/// changed within so long after its start, and that is unready, has never been ready.
pub const INITIAL_READINESS_DELAY: Duration = Duration::from_secs(30);

/// Replicas are signed 32-bit numbers there; a larger recommendation is cut to this.
const MOST_REPLICAS: u32 = i32::MAX.unsigned_abs();

/// `spec.behavior`, where one was written: `scaleUp` and `scaleDown`, each with the
/// defaults of `pkg/apis/autoscaling/v2/defaults.go` already in it. Without one the
/// controller goes by other rules (`normalizeDesiredReplicas`), which differ at the edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// `scaleUp`.
    pub up: Rules,
    /// `scaleDown`.
    pub down: Rules,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            up: Rules::up(),
            down: Rules::down(),
        }
    }
}

/// One direction of a [`Behavior`].
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// `stabilizationWindowSeconds`, 0 to 3600. `None`: 0 s for `scaleUp`,
    /// [`DOWNSCALE_STABILIZATION`] for `scaleDown`.
    pub stabilization: Option<Duration>,
    /// `selectPolicy`.
    pub select: Select,
    /// `policies`; never empty.
    pub policies: Vec<Policy>,
    /// `tolerance` of this direction; `None`: [`TOLERANCE`].
    pub tolerance: Option<f64>,
}

impl Rules {
    /// The defaults of `scaleUp`: four pods or a doubling in 15 s, whichever is more.
    #[must_use]
    pub fn up() -> Self {
        Self {
            stabilization: Some(Duration::ZERO),
            select: Select::Max,
            policies: vec![
                Policy {
                    change: Step::Pods(4),
                    period: Duration::from_secs(15),
                },
                Policy {
                    change: Step::Percent(100),
                    period: Duration::from_secs(15),
                },
            ],
            tolerance: None,
        }
    }

    /// The defaults of `scaleDown`: all pods in 15 s, stabilized by the controller's flag.
    #[must_use]
    pub fn down() -> Self {
        Self {
            stabilization: None,
            select: Select::Max,
            policies: vec![Policy {
                change: Step::Percent(100),
                period: Duration::from_secs(15),
            }],
            tolerance: None,
        }
    }
}

/// `selectPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The policy that allows the largest change; the default.
    Max,
    /// The policy that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// How much may change within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `type` and `value`.
    pub change: Step,
    /// `periodSeconds`, 1 to 1800.
    pub period: Duration,
}

/// `type` and `value` of a [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many pods.
    Pods(u32),
    /// So many per cent of the pods at the start of the period.
    Percent(u32),
}

/// How far a ratio of metric and target may be from 1 before anything changes
/// (`Tolerances`, `replica_calculator.go`; one for each direction since Kubernetes 1.33,
/// configurable by default since 1.35).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Below 1.
    pub down: f64,
    /// Above 1.
    pub up: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            down: TOLERANCE,
            up: TOLERANCE,
        }
    }
}

impl Tolerances {
    /// `isWithin`: both ends belong to the range. Not a number (no pods, no messages) does not.
    fn hold(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// Replicas for an external metric with a target for each pod, both in thousandths
/// (`GetExternalPerPodMetricReplicas`): within the tolerances as many as there are pods
/// (`status.replicas`), else the metric divided by the target, rounded up.
#[must_use]
pub fn average_value(
    metric_millis: u64,
    target_millis: u64,
    pods: u32,
    tolerances: Tolerances,
) -> u32 {
    let metric = metric_millis as f64;
    let target = target_millis as f64;
    if tolerances.hold(metric / (target * f64::from(pods))) {
        pods
    } else {
        whole((metric / target).ceil())
    }
}

/// A float as replicas; what is not a number, or negative, is none.
fn whole(replicas: f64) -> u32 {
    (replicas as u32).min(MOST_REPLICAS)
}

/// A pod as the controller sees it when it scales by CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPod {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its condition `Ready`.
    pub ready: bool,
    /// When it started (`status.startTime`).
    pub started: Time,
    /// When `ready` last changed.
    pub turned: Time,
    /// What the metrics server knows of it.
    pub usage: Option<CpuUsage>,
    /// Its containers' requests, in thousandths of a core.
    pub request_millis: u64,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not scheduled, or its image is being pulled.
    Pending,
    /// Started.
    Running,
    /// Terminating or failed.
    Gone,
}

/// A pod's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuUsage {
    /// Mean over the window, in thousandths of a core.
    pub millis: u64,
    /// The end of the window.
    pub at: Time,
    /// Its length.
    pub window: Duration,
}

/// Why there is no recommendation; the controller then changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCpu {
    /// No pod at all.
    #[error("no pods")]
    NoPods,
    /// No ready pod has a metric.
    #[error("no metrics of ready pods")]
    NoMetrics,
    /// A pod has no request to take per cent of.
    #[error("a pod without a CPU request")]
    NoRequest,
}

/// Replicas for a target of per cent of the CPU request (`GetResourceReplicas`, `groupPods`
/// of `replica_calculator.go`, `GetResourceUtilizationRatio` of `metrics/utilization.go`).
///
/// Pods without a metric count as working at 100 % where it would scale down, as idle
/// where it would scale up; unready pods count as idle where it would scale up and not at
/// all otherwise; a correction that would turn the direction changes nothing.
///
/// # Errors
///
/// Where there is nothing to compute with.
pub fn cpu_utilization(
    now: Time,
    replicas: u32,
    pods: &[CpuPod],
    target_percent: u32,
    tolerances: Tolerances,
) -> Result<u32, NoCpu> {
    if pods.is_empty() {
        return Err(NoCpu::NoPods);
    }
    let mut ready = Vec::new();
    let (mut unready, mut missing) = (Vec::new(), Vec::new());
    for pod in pods {
        match (pod.phase, pod.usage) {
            (Phase::Gone, _) => {}
            (Phase::Pending, _) => unready.push((0, pod.request_millis)),
            (Phase::Running, None) => missing.push(pod.request_millis),
            (Phase::Running, Some(usage)) if unready_by_cpu(now, pod, usage) => {
                unready.push((0, pod.request_millis));
            }
            (Phase::Running, Some(usage)) => ready.push((usage.millis, pod.request_millis)),
        }
    }
    if ready.is_empty() {
        return Err(NoCpu::NoMetrics);
    }
    if pods.iter().any(|pod| pod.request_millis == 0) {
        return Err(NoCpu::NoRequest);
    }
    let ratio = utilization_ratio(&ready, target_percent);
    let up_with_unready = !unready.is_empty() && ratio > 1.0;
    if !up_with_unready && missing.is_empty() {
        return Ok(if tolerances.hold(ratio) {
            replicas
        } else {
            whole((ratio * ready.len() as f64).ceil())
        });
    }
    let mut counted = ready;
    if ratio < 1.0 {
        let full = u64::from(target_percent.max(100));
        counted.extend(
            missing
                .iter()
                .map(|request| (request * full / 100, *request)),
        );
    } else if ratio > 1.0 {
        counted.extend(missing.iter().map(|request| (0, *request)));
    }
    if up_with_unready {
        counted.extend(unready);
    }
    let corrected = utilization_ratio(&counted, target_percent);
    let turned = (ratio < 1.0 && corrected > 1.0) || (ratio > 1.0 && corrected < 1.0);
    if tolerances.hold(corrected) || turned {
        return Ok(replicas);
    }
    let wanted = whole((corrected * counted.len() as f64).ceil());
    let turned = (corrected < 1.0 && wanted > replicas) || (corrected > 1.0 && wanted < replicas);
    Ok(if turned { replicas } else { wanted })
}

/// Whether a running pod's CPU is not to be counted (`groupPods`): start-up is no load.
fn unready_by_cpu(now: Time, pod: &CpuPod, usage: CpuUsage) -> bool {
    if now < pod.started + CPU_INITIALIZATION {
        !pod.ready || usage.at < pod.turned + usage.window
    } else {
        !pod.ready && pod.turned < pod.started + INITIAL_READINESS_DELAY
    }
}

/// Usage over requests in whole per cent, the rest cut off, over the target.
fn utilization_ratio(pods: &[(u64, u64)], target_percent: u32) -> f64 {
    let usage: u64 = pods.iter().map(|(usage, _)| usage).sum();
    let requests: u64 = pods.iter().map(|(_, request)| request).sum();
    (usage * 100 / requests) as f64 / f64::from(target_percent)
}

/// A change of `spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// The new number.
    pub to: u32,
    /// By which rule.
    pub reason: String,
}

/// A recommendation, with when it was made.
#[derive(Clone, Copy, Debug)]
struct Recommendation {
    at: Time,
    replicas: u32,
}

/// A change that was made, with when and by how many pods.
#[derive(Clone, Copy, Debug)]
struct ScaleEvent {
    at: Time,
    pods: u32,
}

/// One HorizontalPodAutoscaler and what the controller remembers of it.
#[derive(Clone, Debug)]
pub struct Hpa {
    min: u32,
    max: u32,
    behavior: Option<Behavior>,
    /// `None` before the first sync. Bounded by the windows: an hour of syncs.
    recommendations: Option<Vec<Recommendation>>,
    ups: Vec<ScaleEvent>,
    downs: Vec<ScaleEvent>,
}

impl Hpa {
    /// `minReplicas` (1 at least), `maxReplicas` and `behavior`.
    #[must_use]
    pub fn new(min: u32, max: u32, behavior: Option<Behavior>) -> Self {
        Self {
            min: min.max(1),
            max,
            behavior,
            recommendations: None,
            ups: Vec::new(),
            downs: Vec::new(),
        }
    }

    /// Its tolerances, for [`average_value`] and [`cpu_utilization`].
    #[must_use]
    pub fn tolerances(&self) -> Tolerances {
        let of = |rules: fn(&Behavior) -> &Rules| {
            let own = self.behavior.as_ref().and_then(|b| rules(b).tolerance);
            own.unwrap_or(TOLERANCE)
        };
        Tolerances {
            down: of(|b| &b.down),
            up: of(|b| &b.up),
        }
    }

    /// One sync (`reconcileAutoscaler`): `replicas` is `spec.replicas`, `recommend` what the
    /// metric asks for; it is called only where the controller asks for the metric.
    ///
    /// # Errors
    ///
    /// That of `recommend`; nothing changes then, and nothing is remembered.
    pub fn sync<E>(
        &mut self,
        now: Time,
        replicas: u32,
        recommend: impl FnOnce() -> Result<u32, E>,
    ) -> Result<Option<Rescale>, E> {
        let first = Recommendation { at: now, replicas };
        self.recommendations.get_or_insert_with(|| vec![first]);
        let (to, reason) = if replicas == 0 {
            return Ok(None);
        } else if replicas > self.max {
            (self.max, format!("above maxReplicas {}", self.max))
        } else if replicas < self.min {
            (self.min, format!("below minReplicas {}", self.min))
        } else {
            let wanted = recommend()?;
            let (to, limit) = match self.behavior.clone() {
                None => self.legacy(now, replicas, wanted),
                Some(behavior) => self.behave(&behavior, now, replicas, wanted),
            };
            (to, format!("the metric asks for {wanted}{limit}"))
        };
        if to == replicas {
            return Ok(None);
        }
        self.remember_change(now, replicas, to);
        Ok(Some(Rescale { to, reason }))
    }

    /// `normalizeDesiredReplicas`: without `behavior`. The largest recommendation that is
    /// not older than the window, then at most twice the replicas, or 4.
    fn legacy(&mut self, now: Time, replicas: u32, wanted: u32) -> (u32, &'static str) {
        let window = DOWNSCALE_STABILIZATION;
        let past = self.recommendations.get_or_insert_default();
        past.retain(|made| now.since(made.at) <= window);
        let highest = past.iter().map(|made| made.replicas).max();
        let stable = wanted.max(highest.unwrap_or(0));
        past.push(Recommendation {
            at: now,
            replicas: wanted,
        });
        let fastest = replicas.saturating_mul(2).max(4);
        if stable < self.min {
            (self.min, "; not below minReplicas")
        } else if stable > self.max.min(fastest) {
            let by_rate = self.max > fastest;
            let limit = if by_rate {
                "; not more than doubled"
            } else {
                "; not above maxReplicas"
            };
            (self.max.min(fastest), limit)
        } else if stable == wanted {
            (stable, "")
        } else {
            (stable, "; the largest of 300 s holds")
        }
    }

    /// `normalizeDesiredReplicasWithBehaviors`: stabilization, then the policies.
    fn behave(
        &mut self,
        behavior: &Behavior,
        now: Time,
        replicas: u32,
        wanted: u32,
    ) -> (u32, &'static str) {
        let stable = self.stabilize(behavior, now, replicas, wanted);
        let stabilized = if stable == wanted { "" } else { "; stabilized" };
        if stable > replicas {
            let fastest = self.limit(&behavior.up, now, replicas, true);
            let fastest = fastest.max(replicas);
            if stable > self.max.min(fastest) {
                let by_rate = self.max > fastest;
                let limit = if by_rate {
                    "; limited by scaleUp"
                } else {
                    "; not above maxReplicas"
                };
                return (self.max.min(fastest), limit);
            }
        } else if stable < replicas {
            let fastest = self.limit(&behavior.down, now, replicas, false);
            let fastest = fastest.min(replicas);
            if stable < self.min.max(fastest) {
                let by_rate = self.min < fastest;
                let limit = if by_rate {
                    "; limited by scaleDown"
                } else {
                    "; not below minReplicas"
                };
                return (self.min.max(fastest), limit);
            }
        }
        (stable, stabilized)
    }

    /// `stabilizeRecommendationWithBehaviors`: up to the smallest recommendation of the
    /// `scaleUp` window, down to the largest of the `scaleDown` window, else as it is.
    fn stabilize(&mut self, behavior: &Behavior, now: Time, replicas: u32, wanted: u32) -> u32 {
        let up = behavior.up.stabilization.unwrap_or(Duration::ZERO);
        let down = behavior.down.stabilization;
        let down = down.unwrap_or(DOWNSCALE_STABILIZATION);
        let past = self.recommendations.get_or_insert_default();
        past.retain(|made| now.since(made.at) < up.max(down));
        let (mut lowest, mut highest) = (wanted, wanted);
        for made in past.iter() {
            let age = now.since(made.at);
            if age < up {
                lowest = lowest.min(made.replicas);
            }
            if age < down {
                highest = highest.max(made.replicas);
            }
        }
        past.push(Recommendation {
            at: now,
            replicas: wanted,
        });
        replicas.max(lowest).min(highest)
    }

    /// How far the policies let the replicas go (`calculateScaleUpLimitWithScalingRules`,
    /// `calculateScaleDownLimitWithBehaviors`), from what there was at the start of each
    /// policy's period.
    fn limit(&self, rules: &Rules, now: Time, replicas: u32, up: bool) -> u32 {
        let proposals = rules.policies.iter().map(|policy| {
            let start = i64::from(replicas) - within(&self.ups, now, policy.period)
                + within(&self.downs, now, policy.period);
            match (policy.change, up) {
                (Step::Pods(pods), true) => start + i64::from(pods),
                (Step::Pods(pods), false) => start - i64::from(pods),
                (Step::Percent(percent), true) => {
                    (start as f64 * (1.0 + f64::from(percent) / 100.0)).ceil() as i64
                }
                (Step::Percent(percent), false) => {
                    (start as f64 * (1.0 - f64::from(percent) / 100.0)) as i64
                }
            }
        });
        let chosen = match (rules.select, up) {
            (Select::Disabled, _) => None,
            (Select::Max, true) | (Select::Min, false) => proposals.max(),
            (Select::Min, true) | (Select::Max, false) => proposals.min(),
        };
        let chosen = chosen.unwrap_or(i64::from(replicas)).max(0);
        u32::try_from(chosen).unwrap_or(MOST_REPLICAS)
    }

    /// `storeScaleEvent`. An event older than the longest period of its own direction may be
    /// overwritten, though a longer period of the other direction would still count it.
    fn remember_change(&mut self, now: Time, from: u32, to: u32) {
        let Some(behavior) = &self.behavior else {
            return;
        };
        let (events, rules) = if to > from {
            (&mut self.ups, &behavior.up)
        } else {
            (&mut self.downs, &behavior.down)
        };
        let longest = rules.policies.iter().map(|policy| policy.period).max();
        let longest = longest.unwrap_or_default();
        let event = ScaleEvent {
            at: now,
            pods: to.abs_diff(from),
        };
        match events.iter().rposition(|past| now.since(past.at) > longest) {
            Some(outdated) => events[outdated] = event,
            None => events.push(event),
        }
    }
}

/// Pods changed within the last `period` (`getReplicasChangePerPeriod`).
fn within(events: &[ScaleEvent], now: Time, period: Duration) -> i64 {
    let recent = events.iter().filter(|event| now.since(event.at) < period);
    recent.map(|event| i64::from(event.pods)).sum()
}
