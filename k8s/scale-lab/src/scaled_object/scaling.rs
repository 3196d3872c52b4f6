//! What decides over replicas, ScaledObject and HorizontalPodAutoscaler, as it is written:
//! its fields and what of them is refused. No field may be unknown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::quantity::Quantity;
use super::{Fallback, FallbackBehavior, Pause, Problem, ScaledObject, Trigger, refuse, seconds};
use crate::hpa::{Behavior, Policy, Rules, Select, Step};

/// What a HorizontalPodAutoscaler without `minReplicas` has.
const MIN_REPLICAS: u32 = 1;

/// The prefix of the annotations that [`Pause`] knows.
const ANNOTATIONS: &str = "autoscaling.keda.sh/";

#[derive(Deserialize)]
struct Object<S> {
    metadata: Metadata,
    spec: S,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScaledSpec {
    scale_target_ref: TargetRef,
    polling_interval: Option<u32>,
    initial_cooldown_period: Option<u32>,
    cooldown_period: Option<u32>,
    idle_replica_count: Option<u32>,
    min_replica_count: Option<u32>,
    max_replica_count: Option<u32>,
    fallback: Option<RawFallback>,
    #[serde(default)]
    advanced: Advanced,
    triggers: Vec<RawTrigger>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetRef {
    name: String,
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(rename = "envSourceContainerName")]
    _env_source: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFallback {
    failure_threshold: u32,
    replicas: u32,
    #[serde(default)]
    behavior: RawFallbackBehavior,
}

/// Without `scalingModifiers`, which the lab does not model.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
enum RawFallbackBehavior {
    #[default]
    Static,
    CurrentReplicas,
    CurrentReplicasIfHigher,
    CurrentReplicasIfLower,
}

/// Without `scalingModifiers`, which the lab does not model.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Advanced {
    #[serde(default)]
    horizontal_pod_autoscaler_config: HpaConfig,
    /// What happens when the ScaledObject is deleted; none is here.
    #[serde(rename = "restoreToOriginalReplicaCount")]
    _restore: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HpaConfig {
    behavior: Option<RawBehavior>,
    #[serde(rename = "name")]
    _name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTrigger {
    #[serde(rename = "type")]
    kind: String,
    metadata: Value,
    metric_type: Option<String>,
    #[serde(default)]
    use_cached_metrics: bool,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "authenticationRef")]
    _authentication: Option<Value>,
}

/// All texts, as KEDA wants them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SqsMetadata {
    #[serde(rename = "queueURL")]
    queue_url: String,
    aws_region: String,
    aws_endpoint: Option<String>,
    queue_length: Option<String>,
    activation_queue_length: Option<String>,
    scale_on_in_flight: Option<String>,
    scale_on_delayed: Option<String>,
    #[serde(rename = "identityOwner")]
    _identity_owner: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawBehavior {
    scale_up: Option<RawRules>,
    scale_down: Option<RawRules>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRules {
    stabilization_window_seconds: Option<u32>,
    select_policy: Option<RawSelect>,
    policies: Option<Vec<RawPolicy>>,
    tolerance: Option<Quantity>,
}

#[derive(Deserialize)]
enum RawSelect {
    Max,
    Min,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPolicy {
    #[serde(rename = "type")]
    kind: PolicyType,
    value: u32,
    period_seconds: u32,
}

#[derive(Deserialize)]
enum PolicyType {
    Pods,
    Percent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HpaSpec {
    scale_target_ref: TargetRef,
    min_replicas: Option<u32>,
    max_replicas: u32,
    metrics: Vec<Value>,
    behavior: Option<RawBehavior>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceMetric {
    #[serde(rename = "type")]
    _kind: ResourceKind,
    resource: ResourceSource,
}

#[derive(Deserialize)]
enum ResourceKind {
    Resource,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceSource {
    #[serde(rename = "name")]
    _name: Cpu,
    target: UtilizationTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cpu {
    Cpu,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UtilizationTarget {
    #[serde(rename = "type")]
    _kind: UtilizationKind,
    average_utilization: u32,
}

#[derive(Deserialize)]
enum UtilizationKind {
    Utilization,
}

/// A HorizontalPodAutoscaler by CPU, without its pods.
pub(super) struct CpuScaler {
    pub(super) target: String,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) cpu_utilization: u32,
    pub(super) behavior: Option<Behavior>,
}

/// A ScaledObject, and the name of what it scales.
pub(super) fn scaled_object(document: &Value) -> Result<(String, ScaledObject), Problem> {
    let Object { metadata, spec } = Object::<ScaledSpec>::deserialize(document)?;
    let mut scaled = ScaledObject::of(metadata.name, trigger(spec.triggers)?);
    set(
        &mut scaled.polling_interval,
        spec.polling_interval.map(seconds),
    );
    set(
        &mut scaled.initial_cooldown,
        spec.initial_cooldown_period.map(seconds),
    );
    set(&mut scaled.cooldown, spec.cooldown_period.map(seconds));
    set(&mut scaled.min, spec.min_replica_count);
    set(&mut scaled.max, spec.max_replica_count);
    scaled.idle = spec.idle_replica_count;
    scaled.fallback = spec.fallback.as_ref().map(fallback);
    scaled.behavior = behavior(spec.advanced.horizontal_pod_autoscaler_config.behavior)?;
    scaled.pause = pause(&metadata.annotations)?;
    if scaled.polling_interval.is_zero() {
        return Err(refuse("pollingInterval", "0", "1 second at least"));
    }
    if scaled.max == 0 || scaled.min > scaled.max {
        let max = scaled.max.to_string();
        return Err(refuse(
            "maxReplicaCount",
            max,
            "1 and `minReplicaCount` at least",
        ));
    }
    // `CheckReplicaCountBoundsAreValid`: a written 0 counts as the autoscaler's 1.
    let above_idle = spec.min_replica_count.map_or(0, |min| min.max(1));
    if let Some(idle) = scaled.idle.filter(|idle| *idle >= above_idle) {
        let want = "less than a written `minReplicaCount`";
        return Err(refuse("idleReplicaCount", idle.to_string(), want));
    }
    Ok((target(spec.scale_target_ref)?, scaled))
}

/// Puts what is written in the place of a default.
fn set<T>(default: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *default = written;
    }
}

/// A HorizontalPodAutoscaler.
pub(super) fn autoscaler(document: &Value) -> Result<CpuScaler, Problem> {
    let spec = Object::<HpaSpec>::deserialize(document)?.spec;
    let [metric] = spec.metrics.as_slice() else {
        let count = spec.metrics.len();
        return Err(refuse(
            "metrics",
            count.to_string(),
            "the lab models one, of resource `cpu`",
        ));
    };
    let metric = ResourceMetric::deserialize(metric)?;
    let cpu_utilization = metric.resource.target.average_utilization;
    if cpu_utilization == 0 {
        return Err(refuse("averageUtilization", "0", "1 per cent at least"));
    }
    let (min, max) = (spec.min_replicas.unwrap_or(MIN_REPLICAS), spec.max_replicas);
    if min == 0 || min > max {
        return Err(refuse(
            "minReplicas",
            min.to_string(),
            "from 1 to `maxReplicas`",
        ));
    }
    Ok(CpuScaler {
        target: target(spec.scale_target_ref)?,
        min,
        max,
        cpu_utilization,
        behavior: behavior(spec.behavior)?,
    })
}

/// The name of a Deployment.
fn target(raw: TargetRef) -> Result<String, Problem> {
    let want = "the lab models Deployments";
    if let Some(kind) = raw.kind.filter(|kind| kind != "Deployment") {
        return Err(refuse("scaleTargetRef.kind", kind, want));
    }
    if let Some(version) = raw.api_version.filter(|version| version != "apps/v1") {
        return Err(refuse("scaleTargetRef.apiVersion", version, want));
    }
    Ok(raw.name)
}

fn fallback(raw: &RawFallback) -> Fallback {
    Fallback {
        failure_threshold: raw.failure_threshold,
        replicas: raw.replicas,
        behavior: match raw.behavior {
            RawFallbackBehavior::Static => FallbackBehavior::Static,
            RawFallbackBehavior::CurrentReplicas => FallbackBehavior::CurrentReplicas,
            RawFallbackBehavior::CurrentReplicasIfHigher => {
                FallbackBehavior::CurrentReplicasIfHigher
            }
            RawFallbackBehavior::CurrentReplicasIfLower => FallbackBehavior::CurrentReplicasIfLower,
        },
    }
}

/// Kubernetes fills in what is missing as soon as a `behavior` is there at all.
fn behavior(raw: Option<RawBehavior>) -> Result<Option<Behavior>, Problem> {
    let Some(raw) = raw else {
        return Ok(None);
    };
    Ok(Some(Behavior {
        up: rules(raw.scale_up, Rules::up())?,
        down: rules(raw.scale_down, Rules::down())?,
    }))
}

fn rules(raw: Option<RawRules>, mut rules: Rules) -> Result<Rules, Problem> {
    let Some(raw) = raw else {
        return Ok(rules);
    };
    if let Some(window) = raw.stabilization_window_seconds {
        if window > 3600 {
            return Err(refuse(
                "stabilizationWindowSeconds",
                window.to_string(),
                "3600 at most",
            ));
        }
        rules.stabilization = Some(seconds(window));
    }
    if let Some(select) = raw.select_policy {
        rules.select = match select {
            RawSelect::Max => Select::Max,
            RawSelect::Min => Select::Min,
            RawSelect::Disabled => Select::Disabled,
        };
    }
    if let Some(policies) = raw.policies {
        if policies.is_empty() {
            return Err(refuse("policies", "[]", "one at least, or no such field"));
        }
        rules.policies = policies.iter().map(policy).collect::<Result<_, _>>()?;
    }
    rules.tolerance = raw.tolerance.map(Quantity::ratio);
    Ok(rules)
}

fn policy(raw: &RawPolicy) -> Result<Policy, Problem> {
    if raw.value == 0 {
        return Err(refuse("value", "0", "1 at least"));
    }
    if !(1..=1800).contains(&raw.period_seconds) {
        return Err(refuse(
            "periodSeconds",
            raw.period_seconds.to_string(),
            "from 1 to 1800",
        ));
    }
    Ok(Policy {
        change: match raw.kind {
            PolicyType::Pods => Step::Pods(raw.value),
            PolicyType::Percent => Step::Percent(raw.value),
        },
        period: seconds(raw.period_seconds),
    })
}

fn pause(annotations: &BTreeMap<String, String>) -> Result<Pause, Problem> {
    let mut pause = Pause::default();
    for (key, value) in annotations {
        // What is no boolean counts as true (`getBoolAnnotation`).
        let on = boolean(value).unwrap_or(true);
        match key.strip_prefix(ANNOTATIONS) {
            Some("paused") => pause.all = on,
            Some("paused-scale-in") => pause.scale_in = on,
            Some("paused-scale-out") => pause.scale_out = on,
            Some("force-activation") => pause.force_active = on,
            Some("paused-replicas") => {
                let bad = |_| refuse("paused-replicas", value, "a number of replicas");
                pause.at = Some(value.parse().map_err(bad)?);
            }
            Some(_) => return Err(refuse("annotations", key, "the lab does not model it")),
            None => {}
        }
    }
    Ok(pause)
}

fn trigger(triggers: Vec<RawTrigger>) -> Result<Trigger, Problem> {
    let count = triggers.len();
    let Ok([trigger]) = <[RawTrigger; 1]>::try_from(triggers) else {
        return Err(refuse("triggers", count.to_string(), "the lab models one"));
    };
    if trigger.kind != "aws-sqs-queue" {
        return Err(refuse(
            "triggers.type",
            trigger.kind,
            "the lab models `aws-sqs-queue`",
        ));
    }
    if let Some(metric) = trigger
        .metric_type
        .filter(|metric| metric != "AverageValue")
    {
        return Err(refuse(
            "metricType",
            metric,
            "the lab models `AverageValue`",
        ));
    }
    if trigger.use_cached_metrics {
        return Err(refuse("useCachedMetrics", "true", "the lab models `false`"));
    }
    let raw = SqsMetadata::deserialize(trigger.metadata)?;
    queue_name(&raw.queue_url)?;
    let mut trigger = Trigger::of(raw.queue_url, raw.aws_region);
    trigger.endpoint = raw.aws_endpoint;
    if let Some(text) = raw.queue_length {
        let length = text.parse().ok().filter(|length| *length > 0);
        let bad = || refuse("queueLength", text, "a whole number, 1 at least");
        trigger.queue_length = length.ok_or_else(bad)?;
    }
    if let Some(text) = raw.activation_queue_length {
        let bad = |_| refuse("activationQueueLength", text.clone(), "a whole number");
        trigger.activation = text.parse().map_err(bad)?;
    }
    let flag = |field, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => match boolean(&text) {
            Some(on) => Ok(Some(on)),
            None => Err(refuse(field, text, "`true` or `false`")),
        },
    };
    set(
        &mut trigger.on_in_flight,
        flag("scaleOnInFlight", raw.scale_on_in_flight)?,
    );
    set(
        &mut trigger.on_delayed,
        flag("scaleOnDelayed", raw.scale_on_delayed)?,
    );
    Ok(trigger)
}

/// KEDA wants a URL's path to be an account and a name.
fn queue_name(url: &str) -> Result<(), Problem> {
    let Some((_, rest)) = url.split_once("://") else {
        return if url.is_empty() {
            Err(refuse("queueURL", url, "the URL of a queue"))
        } else {
            Ok(())
        };
    };
    match rest.split('/').collect::<Vec<_>>().as_slice() {
        [_, _, name] if !name.is_empty() => Ok(()),
        _ => Err(refuse(
            "queueURL",
            url,
            "host, account and name, such as `https://sqs.eu-central-1.amazonaws.com/123456789012/orders`",
        )),
    }
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
