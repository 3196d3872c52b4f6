//! A Deployment or a SpinApp as it is written: of its pods, what starting, stopping and
//! scaling by CPU depend on. Everything else is passed over.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::quantity::Quantity;
use super::{Pod, Probe, Problem, refuse, seconds};

/// Kubernetes' `terminationGracePeriodSeconds`.
const GRACE_PERIOD: u32 = 30;

#[derive(Deserialize)]
struct Object<S> {
    spec: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeploymentSpec {
    replicas: Option<u32>,
    #[serde(default)]
    min_ready_seconds: u32,
    template: Template,
}

#[derive(Deserialize)]
struct Template {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    termination_grace_period_seconds: Option<u32>,
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    affinity: Affinity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    args: Vec<String>,
    restart_policy: Option<String>,
    #[serde(default)]
    resources: Resources,
    #[serde(default)]
    lifecycle: Lifecycle,
    startup_probe: Option<RawProbe>,
    readiness_probe: Option<RawProbe>,
    liveness_probe: Option<RawProbe>,
}

#[derive(Deserialize, Default)]
struct Resources {
    #[serde(default)]
    requests: Amounts,
    #[serde(default)]
    limits: Amounts,
}

#[derive(Deserialize, Default)]
struct Amounts {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    pre_stop: Option<PreStop>,
}

/// Only a sleep has a length that is known beforehand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreStop {
    sleep: Sleep,
}

#[derive(Deserialize)]
struct Sleep {
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProbe {
    initial_delay_seconds: Option<u32>,
    period_seconds: Option<u32>,
    timeout_seconds: Option<u32>,
    success_threshold: Option<u32>,
    failure_threshold: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Affinity {
    #[serde(default)]
    pod_anti_affinity: AntiAffinity,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct AntiAffinity {
    #[serde(default)]
    required_during_scheduling_ignored_during_execution: Vec<Term>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    topology_key: String,
}

#[derive(Deserialize)]
struct SpinAppSpec {
    replicas: Option<u32>,
    #[serde(default)]
    resources: Resources,
    #[serde(default)]
    checks: Checks,
}

#[derive(Deserialize, Default)]
struct Checks {
    readiness: Option<RawProbe>,
    liveness: Option<RawProbe>,
}

/// The pods of a Deployment.
pub(super) fn deployment(document: &Value) -> Result<Pod, Problem> {
    let spec = Object::<DeploymentSpec>::deserialize(document)?.spec;
    let pod = spec.template.spec;
    let grace = pod.termination_grace_period_seconds.unwrap_or(GRACE_PERIOD);
    let beside = pod.init_containers.iter();
    let beside = beside.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let running: Vec<_> = pod.containers.iter().chain(beside).collect();
    let sum = |amount: fn(&Resources) -> Option<u64>| -> Option<u64> {
        running.iter().map(|one| amount(&one.resources)).sum()
    };
    // The chart's own, where it has others beside it.
    let first = pod.containers.first();
    let main = pod
        .containers
        .iter()
        .find(|one| one.name == "gristmill")
        .or(first);
    let Some(main) = main else {
        return Err(refuse("containers", "[]", "one at least"));
    };
    let required = &pod.affinity.pod_anti_affinity;
    let required = &required.required_during_scheduling_ignored_during_execution;
    Ok(Pod {
        replicas: spec.replicas,
        grace_period: seconds(grace),
        pre_stop: seconds(
            main.lifecycle
                .pre_stop
                .as_ref()
                .map_or(0, |stop| stop.sleep.seconds),
        ),
        drain: drain(&main.args)?,
        min_ready: seconds(spec.min_ready_seconds),
        startup: main.startup_probe.as_ref().map(probe),
        readiness: main.readiness_probe.as_ref().map(probe),
        liveness: main.liveness_probe.as_ref().map(probe),
        cpu_request_millis: sum(cpu_request).unwrap_or(0),
        cpu_limit_millis: sum(cpu_limit),
        memory_request_bytes: sum(memory_request).unwrap_or(0),
        memory_limit_bytes: sum(memory_limit),
        one_per_node: required
            .iter()
            .any(|term| term.topology_key == "kubernetes.io/hostname"),
        args: main.args.clone(),
    })
}

/// The pods of a SpinApp: the operator of SpinKube gives them no grace period of their own.
pub(super) fn spin_app(document: &Value) -> Result<Pod, Problem> {
    let spec = Object::<SpinAppSpec>::deserialize(document)?.spec;
    Ok(Pod {
        replicas: spec.replicas,
        grace_period: seconds(GRACE_PERIOD),
        pre_stop: Duration::ZERO,
        drain: None,
        min_ready: Duration::ZERO,
        startup: None,
        readiness: spec.checks.readiness.as_ref().map(probe),
        liveness: spec.checks.liveness.as_ref().map(probe),
        cpu_request_millis: cpu_request(&spec.resources).unwrap_or(0),
        cpu_limit_millis: cpu_limit(&spec.resources),
        memory_request_bytes: memory_request(&spec.resources).unwrap_or(0),
        memory_limit_bytes: memory_limit(&spec.resources),
        one_per_node: false,
        args: Vec::new(),
    })
}

fn cpu_request(resources: &Resources) -> Option<u64> {
    resources
        .requests
        .cpu
        .or(resources.limits.cpu)
        .map(Quantity::millis)
}

fn cpu_limit(resources: &Resources) -> Option<u64> {
    resources.limits.cpu.map(Quantity::millis)
}

fn memory_request(resources: &Resources) -> Option<u64> {
    resources
        .requests
        .memory
        .or(resources.limits.memory)
        .map(Quantity::whole)
}

fn memory_limit(resources: &Resources) -> Option<u64> {
    resources.limits.memory.map(Quantity::whole)
}

/// The value after `--grace-period`, in seconds.
fn drain(args: &[String]) -> Result<Option<Duration>, Problem> {
    let Some(at) = args.iter().position(|arg| arg == "--grace-period") else {
        return Ok(None);
    };
    let text = args.get(at + 1).map_or("", String::as_str);
    let bad = |_| refuse("--grace-period", text, "whole seconds after it");
    Ok(Some(seconds(text.parse().map_err(bad)?)))
}

fn probe(raw: &RawProbe) -> Probe {
    // Written zeros are defaulted, too (`SetDefaults_Probe`), except for the delay.
    let or = |value: Option<u32>, default| value.filter(|value| *value > 0).unwrap_or(default);
    Probe {
        initial_delay: seconds(raw.initial_delay_seconds.unwrap_or(0)),
        period: seconds(or(raw.period_seconds, 10)),
        timeout: seconds(or(raw.timeout_seconds, 1)),
        successes: or(raw.success_threshold, 1),
        failures: or(raw.failure_threshold, 3),
    }
}
