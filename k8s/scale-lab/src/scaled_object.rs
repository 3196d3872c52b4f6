//! What the chart renders, as far as scaling, starting and stopping of pods depend on it.
//! Refuses what the lab does not model instead of ignoring it. `scaling` and
//! `pods` have the objects as they are written, `quantity` reads CPU and memory.

mod pods;
mod quantity;
mod scaling;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::hpa::Behavior;

/// The scaled workloads of one `helm template`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Workloads that KEDA scales, by name.
    pub workers: Vec<Worker>,
    /// Workloads that a HorizontalPodAutoscaler scales by CPU, by name.
    pub http: Vec<CpuScaled>,
}

/// A queue's consumers.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// Name of the Deployment.
    pub name: String,
    /// Last part of the queue's URL.
    pub queue: String,
    /// How KEDA scales it.
    pub scaled: ScaledObject,
    /// Its pods.
    pub deployment: Pod,
}

/// A ScaledObject with one `aws-sqs-queue` trigger, KEDA's defaults filled in
/// (`apis/keda/v1alpha1/scaledobject_types.go`, `withtriggers_types.go` of KEDA 2.20).
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledObject {
    /// `metadata.name`.
    pub name: String,
    /// `pollingInterval`; 30 s.
    pub polling_interval: Duration,
    /// `initialCooldownPeriod`, from the creation of the ScaledObject on; 0 s.
    pub initial_cooldown: Duration,
    /// `cooldownPeriod`; 300 s.
    pub cooldown: Duration,
    /// `idleReplicaCount`; below `min`.
    pub idle: Option<u32>,
    /// `minReplicaCount`; 0.
    pub min: u32,
    /// `maxReplicaCount`; 100.
    pub max: u32,
    /// `fallback`.
    pub fallback: Option<Fallback>,
    /// `advanced.horizontalPodAutoscalerConfig.behavior`.
    pub behavior: Option<Behavior>,
    /// The annotations that pause it.
    pub pause: Pause,
    /// The queue and its thresholds.
    pub trigger: Trigger,
}

impl ScaledObject {
    /// With KEDA's defaults for everything but its queue.
    #[must_use]
    pub fn of(name: impl Into<String>, trigger: Trigger) -> Self {
        Self {
            name: name.into(),
            polling_interval: Duration::from_secs(30),
            initial_cooldown: Duration::ZERO,
            cooldown: Duration::from_mins(5),
            idle: None,
            min: 0,
            max: 100,
            fallback: None,
            behavior: None,
            pause: Pause::default(),
            trigger,
        }
    }
}

/// Annotations `autoscaling.keda.sh/…` of a ScaledObject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an annotation of its own"
)]
pub struct Pause {
    /// `paused`: replicas stay as they are, no HorizontalPodAutoscaler.
    pub all: bool,
    /// `paused-replicas`: replicas are set to this, no HorizontalPodAutoscaler.
    pub at: Option<u32>,
    /// `paused-scale-in`: replicas never fall.
    pub scale_in: bool,
    /// `paused-scale-out`: replicas never rise.
    pub scale_out: bool,
    /// `force-activation`: active whatever the queue says.
    pub force_active: bool,
}

/// Trigger `aws-sqs-queue` (`pkg/scalers/aws_sqs_queue_scaler.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// `queueURL`.
    pub queue_url: String,
    /// `awsRegion`.
    pub region: String,
    /// `awsEndpoint`; AWS's own without.
    pub endpoint: Option<String>,
    /// `queueLength`: messages for each replica; 5.
    pub queue_length: u64,
    /// `activationQueueLength`: active above so many messages; 0.
    pub activation: i64,
    /// `scaleOnInFlight`: counts messages in flight; true.
    pub on_in_flight: bool,
    /// `scaleOnDelayed`: counts delayed messages; false.
    pub on_delayed: bool,
}

impl Trigger {
    /// With KEDA's defaults for everything but the queue and its region.
    #[must_use]
    pub fn of(queue_url: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            queue_url: queue_url.into(),
            region: region.into(),
            endpoint: None,
            queue_length: 5,
            activation: 0,
            on_in_flight: true,
            on_delayed: false,
        }
    }
}

/// `fallback`: what the HorizontalPodAutoscaler is told while the queue cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// `failureThreshold`: after more failures in a row than this.
    pub failure_threshold: u32,
    /// `replicas`.
    pub replicas: u32,
    /// `behavior`.
    pub behavior: FallbackBehavior,
}

/// `fallback.behavior`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FallbackBehavior {
    /// `static`: `replicas`.
    #[default]
    Static,
    /// `currentReplicas`: what there is.
    CurrentReplicas,
    /// `currentReplicasIfHigher`: what there is, `replicas` at least.
    CurrentReplicasIfHigher,
    /// `currentReplicasIfLower`: what there is, `replicas` at most.
    CurrentReplicasIfLower,
}

/// What starting and stopping a pod depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// `spec.replicas`, where no autoscaler owns it.
    pub replicas: Option<u32>,
    /// `terminationGracePeriodSeconds`: from SIGTERM (or the start of `preStop`) to SIGKILL; 30 s.
    pub grace_period: Duration,
    /// `lifecycle.preStop.sleep.seconds`: SIGTERM comes so much later, within the grace
    /// period; 0 s.
    pub pre_stop: Duration,
    /// `--grace-period` of `gristmill`: how long it drains after SIGTERM.
    pub drain: Option<Duration>,
    /// `minReadySeconds`; 0 s.
    pub min_ready: Duration,
    /// `startupProbe`: the others wait for it.
    pub startup: Option<Probe>,
    /// `readinessProbe`; without one a started pod is ready.
    pub readiness: Option<Probe>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// `resources.requests.cpu` of all containers, in thousandths of a core; 0 without.
    pub cpu_request_millis: u64,
    /// `resources.limits.cpu` of all containers; `None` where one has none.
    pub cpu_limit_millis: Option<u64>,
    /// `resources.requests.memory` of all containers, in bytes; 0 without.
    pub memory_request_bytes: u64,
    /// `resources.limits.memory` of all containers; `None` where one has none.
    pub memory_limit_bytes: Option<u64>,
    /// A required anti-affinity by `kubernetes.io/hostname`: a node takes one such pod.
    pub one_per_node: bool,
    /// Arguments of the container `gristmill`; empty for a SpinApp.
    pub args: Vec<String>,
}

/// A probe with Kubernetes' defaults (`pkg/apis/core/v1/defaults.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `initialDelaySeconds`; 0 s.
    pub initial_delay: Duration,
    /// `periodSeconds`; 10 s.
    pub period: Duration,
    /// `timeoutSeconds`; 1 s.
    pub timeout: Duration,
    /// `successThreshold`; 1.
    pub successes: u32,
    /// `failureThreshold`; 3.
    pub failures: u32,
}

/// A service that a HorizontalPodAutoscaler scales by CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuScaled {
    /// Name of its Deployment or SpinApp.
    pub name: String,
    /// `minReplicas`; 1.
    pub min: u32,
    /// `maxReplicas`.
    pub max: u32,
    /// `averageUtilization` of resource `cpu`: per cent of the request.
    pub cpu_utilization: u32,
    /// `behavior`.
    pub behavior: Option<Behavior>,
    /// Its pods.
    pub deployment: Pod,
}

/// Why a rendered file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not YAML.
    #[error("the rendered file is not YAML: {0}; give the output of `helm template`")]
    Yaml(String),
    /// An object says what the lab cannot follow.
    #[error("{kind} `{name}`: {problem}")]
    Object {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What it says.
        problem: Problem,
    },
}

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A field is missing, unknown, or of another type.
    #[error("{0}; the lab models no other fields")]
    Form(#[from] serde_json::Error),
    /// A field has a value that the lab, or the cluster, refuses.
    #[error("`{field}` is `{value}`: {want}")]
    Value {
        /// Which one.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        want: &'static str,
    },
    /// What it scales is not in the file.
    #[error("neither a Deployment nor a SpinApp `{0}` is rendered: render the whole chart")]
    NoTarget(String),
    /// Another object scales the same.
    #[error("`{0}` is scaled by another object, too: keep one of them")]
    Twice(String),
}

/// `field` says `value`, and that is refused.
fn refuse(field: &'static str, value: impl Into<String>, want: &'static str) -> Problem {
    Problem::Value {
        field,
        value: value.into(),
        want,
    }
}

/// Whole seconds, as objects write durations.
fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Reads the output of `helm template`: every ScaledObject and HorizontalPodAutoscaler with
/// the Deployment or SpinApp it scales, by name.
///
/// # Errors
///
/// When it is not YAML, or says something that the lab does not model.
pub fn read(yaml: &str) -> Result<Rendered, ReadError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).map_err(|error| ReadError::Yaml(error.to_string()))?;
    let mut pods: Pods<'_> = BTreeMap::new();
    for (name, document) in of_kind(&documents, "Deployment") {
        let pod = pods::deployment(document).map_err(within("Deployment", name))?;
        pods.insert(name, Some(pod));
    }
    for (name, document) in of_kind(&documents, "SpinApp") {
        let pod = pods::spin_app(document).map_err(within("SpinApp", name))?;
        pods.insert(name, Some(pod));
    }
    let mut rendered = Rendered::default();
    for (name, document) in of_kind(&documents, "ScaledObject") {
        let of = within("ScaledObject", name);
        let worker = scaling::scaled_object(document)
            .and_then(|(target, scaled)| worker(target, scaled, &mut pods))
            .map_err(of)?;
        rendered.workers.push(worker);
    }
    for (name, document) in of_kind(&documents, "HorizontalPodAutoscaler") {
        let of = within("HorizontalPodAutoscaler", name);
        let scaled = scaling::autoscaler(document)
            .and_then(|scaler| cpu_scaled(scaler, &mut pods))
            .map_err(of)?;
        rendered.http.push(scaled);
    }
    rendered.workers.sort_by(|a, b| a.name.cmp(&b.name));
    rendered.http.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rendered)
}

/// The objects of a kind, with their names.
fn of_kind<'a>(
    documents: &'a [Value],
    kind: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let name = |document: &'a Value| document["metadata"]["name"].as_str().unwrap_or("");
    let own = documents.iter().filter(move |one| one["kind"] == kind);
    own.map(move |document| (name(document), document))
}

fn within(kind: &'static str, name: &str) -> impl FnOnce(Problem) -> ReadError {
    let name = name.to_owned();
    move |problem| ReadError::Object {
        kind,
        name,
        problem,
    }
}

/// Pods that are not yet scaled by something, by the name of their Deployment.
type Pods<'a> = BTreeMap<&'a str, Option<Pod>>;

fn take(target: &str, pods: &mut Pods<'_>) -> Result<Pod, Problem> {
    match pods.get_mut(target).map(Option::take) {
        Some(Some(pod)) => Ok(pod),
        Some(None) => Err(Problem::Twice(target.to_owned())),
        None => Err(Problem::NoTarget(target.to_owned())),
    }
}

fn worker(name: String, scaled: ScaledObject, pods: &mut Pods<'_>) -> Result<Worker, Problem> {
    let url = &scaled.trigger.queue_url;
    Ok(Worker {
        queue: url.rsplit('/').next().unwrap_or(url).to_owned(),
        deployment: take(&name, pods)?,
        name,
        scaled,
    })
}

fn cpu_scaled(scaler: scaling::CpuScaler, pods: &mut Pods<'_>) -> Result<CpuScaled, Problem> {
    Ok(CpuScaled {
        deployment: take(&scaler.target, pods)?,
        name: scaler.target,
        min: scaler.min,
        max: scaler.max,
        cpu_utilization: scaler.cpu_utilization,
        behavior: scaler.behavior,
    })
}
