//! What of a scenario this machine can run, and how: what is refused, what whole seconds
//! leave of its periods, what was measured, and the pods' manifest and arguments.

use std::path::Path;
use std::time::Duration;

use super::calibrate::Calibration;
use super::clock::Clock;
use super::pods::Template;
use super::process::Plan;
use super::{LiveError, MAX_MESSAGES, MAX_PODS, Options};
use crate::scaled_object::Worker;
use crate::scenario::{Affects, Outage, Scenario};

/// What the host needs to stop that no speed shortens: the last long poll of an SQS endpoint
/// takes a second, and three of its grace period are kept for its own end (ARCHITECTURE.md,
/// Durability).
const STOPPING: Duration = Duration::from_secs(4);
/// From the host's own grace period to SIGKILL, at least.
const MARGIN: Duration = Duration::from_secs(2);
/// Handlers may take so long: what limits them is the scenario, not the host's deadline.
const DEADLINE: Duration = Duration::from_mins(5);

/// What a live run does not do.
pub(super) fn refuse(
    scenario: &Scenario,
    worker: &Worker,
    options: &Options,
) -> Result<(), LiveError> {
    let only = |yes: bool, key, hint| {
        if yes {
            Err(LiveError::OnlySimulated { key, hint })
        } else {
            Ok(())
        }
    };
    let most = |what, count: u64, most: u64| {
        if count > most {
            Err(LiveError::TooMuch { what, count, most })
        } else {
            Ok(())
        }
    };
    let sqs = &scenario.sqs;
    let everybody = |outage: &Outage| outage.affects == Affects::Everybody;
    only(
        scenario.http.is_some(),
        "http",
        "take a scenario with a queue",
    )?;
    only(scenario.nodes.is_some(), "nodes", "leave it out")?;
    only(scenario.random_arrivals, "random_arrivals", "leave it out")?;
    only(
        scenario.consumer.error_share > 0.0,
        "consumer.error_share",
        "use `poison_share`",
    )?;
    only(sqs.partitions > 1, "sqs.partitions", "leave it out")?;
    only(
        sqs.requests_per_second.is_some(),
        "sqs.requests_per_second",
        "leave it out",
    )?;
    only(
        !sqs.metrics_lag.is_zero(),
        "sqs.metrics_lag_seconds",
        "leave it out",
    )?;
    only(
        options.endpoint.is_some() && scenario.faults.outages.iter().any(everybody),
        "faults.outages of everybody",
        "leave out --endpoint",
    )?;
    if !(1.0..=100.0).contains(&scenario.live.speed) {
        return Err(LiveError::Speed(scenario.live.speed));
    }
    if !options.handler.is_file() {
        return Err(LiveError::NoHandler(options.handler.clone()));
    }
    most(
        "messages",
        scenario.trace.total(scenario.end()),
        MAX_MESSAGES,
    )?;
    most(
        "pods (the chart's `maxReplicas`)",
        worker.scaled.max.into(),
        MAX_PODS.into(),
    )
}

/// The scenario with what whole seconds leave of its periods.
pub(super) fn adapt(scenario: &Scenario, notes: &mut Vec<String>) -> Scenario {
    let mut adapted = scenario.clone();
    let speed = scenario.live.speed;
    let mut whole = |key: &str, value: &mut Duration| {
        let real = value.div_f64(speed).as_secs_f64();
        let possible = Duration::from_secs_f64(real.ceil().max(1.0)).mul_f64(speed);
        if possible != *value {
            notes.push(format!(
                "{key} is {:.0} s instead of {:.0} s: whole seconds at speed {speed}",
                possible.as_secs_f64(),
                value.as_secs_f64()
            ));
            *value = possible;
        }
    };
    whole(
        "sqs.visibility_timeout",
        &mut adapted.sqs.visibility_timeout,
    );
    if scenario.consumer.poison_share > 0.0 {
        whole("consumer.backoff_base", &mut adapted.consumer.backoff_base);
        whole("consumer.backoff_cap", &mut adapted.consumer.backoff_cap);
    }
    if !scenario.faults.outages.is_empty() {
        notes.push(format!(
            "after an outage consumers pause for 0.1 to 10 s as always, which is {:.0} to {:.0} s of the scenario",
            0.1 * speed,
            10.0 * speed
        ));
    }
    notes.push(format!(
        "a stopped pod's last long poll takes up to a second, {speed:.0} s of the scenario"
    ));
    adapted
}

/// The scenario with what was measured.
pub(super) fn calibrated(
    scenario: &mut Scenario,
    clock: &Clock,
    calibration: Calibration,
    notes: &mut Vec<String>,
) {
    let millis = |duration: Duration| Duration::from_millis(duration.as_millis() as u64);
    scenario.consumer.call = millis(clock.stretched(calibration.call));
    let least = millis(clock.stretched(calibration.process_start));
    let wanted = scenario.pods.schedule + scenario.pods.start;
    if wanted < least {
        notes.push(format!(
            "a pod takes {:.1} s to start instead of {:.1} s: a process does",
            least.as_secs_f64(),
            wanted.as_secs_f64()
        ));
        scenario.pods.start = least.saturating_sub(scenario.pods.schedule);
    }
}

/// The manifest of a pod, and how it is run: with the chart's own memory bound and grace.
pub(super) fn template(
    scenario: &Scenario,
    worker: &Worker,
    options: &Options,
    folder: &Path,
    name: &str,
    queue: &str,
) -> Result<Template, LiveError> {
    let speed = scenario.live.speed;
    let manifest = folder.join(format!("{name}.toml"));
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let string = |text: &str| toml::Value::from(text).to_string();
    let backoff = |duration: Duration| duration.div_f64(speed).as_secs_f64().ceil().max(1.0);
    let text = format!(
        "spin_manifest_version = 2\n\
         [application]\n\
         name = \"scale-lab\"\n\
         [[trigger.sqs]]\n\
         component = \"handler\"\n\
         queue_url = {}\n\
         [application.trigger.sqs.handler]\n\
         max_concurrency = {}\n\
         timeout_secs = {}\n\
         backoff_base_secs = {}\n\
         backoff_cap_secs = {}\n\
         [component.handler]\n\
         source = {}\n",
        string(queue),
        scenario.consumer.concurrency,
        DEADLINE.as_secs(),
        backoff(scenario.consumer.backoff_base),
        backoff(
            scenario
                .consumer
                .backoff_cap
                .max(scenario.consumer.backoff_base)
        ),
        string(&absolute(&options.handler).to_string_lossy()),
    );
    let wrong = |error| LiveError::Folder(manifest.clone(), error);
    std::fs::write(&manifest, text).map_err(wrong)?;
    let pod = &worker.deployment;
    let service = scenario.consumer.service_time.mean().div_f64(speed);
    let drain = pod.drain.unwrap_or(pod.grace_period);
    let grace = drain.div_f64(speed).max(STOPPING + service * 4);
    let grace = Duration::from_secs_f64(grace.as_secs_f64().ceil());
    let margin = pod.grace_period.saturating_sub(drain).div_f64(speed);
    let mut arguments: Vec<String> = ["up", "--trigger", "sqs", "--no-local-queue"]
        .into_iter()
        .chain(["--admin-listen", "127.0.0.1:0", "--cache-dir", "cache"])
        .map(str::to_owned)
        .collect();
    arguments.extend(["--from".to_owned(), format!("{name}.toml")]);
    arguments.extend(["--state-dir".to_owned(), format!("{name}-{{pod}}")]);
    arguments.extend(["--grace-period".to_owned(), grace.as_secs().to_string()]);
    let memory = pod
        .args
        .iter()
        .position(|one| one == "--max-instance-memory");
    if let Some(memory) = memory.and_then(|at| pod.args.get(at..at + 2)) {
        arguments.extend_from_slice(memory);
    }
    Ok(Template {
        plan: Plan {
            program: absolute(&options.gristmill),
            folder: folder.to_owned(),
            arguments,
            log: folder.join(format!("{name}-{{pod}}.log")),
        },
        grace: grace + margin.max(MARGIN),
        process_start: Duration::ZERO,
    })
}
