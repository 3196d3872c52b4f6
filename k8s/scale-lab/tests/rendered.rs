//! What the chart renders is what the lab reads: from a small file always, and from the
//! whole matrix of the chart's tests where `GRISTMILL_TEST_HELM` names helm.

#![expect(clippy::unwrap_used, reason = "a failure names its line")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use scale_lab::hpa::{Behavior, Policy, Rules, Step};
use scale_lab::scaled_object::{self, Fallback, FallbackBehavior, Pause, Probe, Rendered};

const FIXTURE: &str = include_str!("fixtures/aws.yaml");

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn read(yaml: &str) -> Rendered {
    scaled_object::read(yaml).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_worker_is_read_with_its_scaling_and_its_pods() {
    let rendered = read(FIXTURE);
    let [worker] = rendered.workers.as_slice() else {
        panic!("{rendered:?}");
    };
    assert_eq!(worker.name, "demo-gristmill-worker-images");
    assert_eq!(worker.queue, "gristmill-images");

    let scaled = &worker.scaled;
    assert_eq!(scaled.name, "demo-gristmill-worker-images");
    assert_eq!(scaled.polling_interval, seconds(15));
    assert_eq!(scaled.initial_cooldown, seconds(0));
    assert_eq!(scaled.cooldown, seconds(300));
    assert_eq!((scaled.idle, scaled.min, scaled.max), (None, 0, 20));
    let fallback = Fallback {
        failure_threshold: 5,
        replicas: 1,
        behavior: FallbackBehavior::CurrentReplicasIfHigher,
    };
    assert_eq!(scaled.fallback, Some(fallback));
    let down = Rules {
        stabilization: Some(seconds(120)),
        policies: vec![Policy {
            change: Step::Percent(50),
            period: seconds(60),
        }],
        ..Rules::down()
    };
    let behavior = Behavior {
        up: Rules::up(),
        down,
    };
    assert_eq!(scaled.behavior, Some(behavior));
    assert_eq!(scaled.pause, Pause::default());
    let trigger = &scaled.trigger;
    assert!(trigger.queue_url.ends_with("/gristmill-images"));
    assert_eq!(trigger.region, "eu-central-1");
    assert_eq!(trigger.endpoint, None);
    assert_eq!((trigger.queue_length, trigger.activation), (8, 0));
    assert!(trigger.on_in_flight && !trigger.on_delayed);

    let pod = &worker.deployment;
    assert_eq!(pod.replicas, None);
    assert_eq!(pod.grace_period, seconds(50));
    assert_eq!(pod.drain, Some(seconds(40)));
    assert_eq!(pod.pre_stop, seconds(0));
    let readiness = Probe {
        initial_delay: seconds(0),
        period: seconds(5),
        timeout: seconds(3),
        successes: 1,
        failures: 2,
    };
    assert_eq!(pod.readiness, Some(readiness));
    assert_eq!(
        pod.startup.map(|probe| (probe.period, probe.failures)),
        Some((seconds(2), 60))
    );
    assert_eq!(
        (pod.cpu_request_millis, pod.cpu_limit_millis),
        (250, Some(2000))
    );
    assert_eq!(pod.memory_request_bytes, 256 << 20);
    assert_eq!(pod.memory_limit_bytes, Some(1 << 30));
    assert!(!pod.one_per_node);
    assert!(pod.args.iter().any(|arg| arg == "images-worker"));
}

#[test]
fn a_service_is_read_with_its_target_and_its_pods() {
    let rendered = read(FIXTURE);
    let [service] = rendered.http.as_slice() else {
        panic!("{rendered:?}");
    };
    assert_eq!(service.name, "demo-gristmill-auth");
    assert_eq!(
        (service.min, service.max, service.cpu_utilization),
        (2, 20, 70)
    );
    let Some(behavior) = &service.behavior else {
        panic!("{service:?}");
    };
    assert_eq!(behavior.up.policies.len(), 2);
    assert_eq!(behavior.down.stabilization, Some(seconds(300)));
    assert_eq!(service.deployment.cpu_request_millis, 250);
    assert_eq!(service.deployment.grace_period, seconds(30));
    assert_eq!(
        service.deployment.readiness.map(|probe| probe.period),
        Some(seconds(10))
    );
}

/// The fixture with one line replaced is refused, with these words.
fn refused(from: &str, to: &str, words: &[&str]) {
    assert_eq!(
        FIXTURE.matches(from).count(),
        1,
        "{from:?} is not once in the fixture"
    );
    let error = scaled_object::read(&FIXTURE.replace(from, to)).map_or_else(
        |error| error.to_string(),
        |_| panic!("read in spite of {to:?}"),
    );
    for word in words {
        assert!(error.contains(word), "{to:?}: {error}");
    }
}

#[test]
fn what_the_lab_does_not_model_is_refused_by_name() {
    let scaled = "ScaledObject `demo-gristmill-worker-images`";
    let trigger = "    - type: aws-sqs-queue\n";
    refused(
        "    restoreToOriginalReplicaCount: false\n",
        "    scalingModifiers: { formula: \"a\" }\n",
        &[scaled, "scalingModifiers"],
    );
    refused(
        "  triggers:\n",
        "  triggers:\n    - { type: cpu, metadata: {} }\n",
        &[scaled, "`triggers` is `2`"],
    );
    refused(
        "type: aws-sqs-queue",
        "type: rabbitmq",
        &[scaled, "rabbitmq"],
    );
    refused(
        trigger,
        &format!("{trigger}      useCachedMetrics: true\n"),
        &["useCachedMetrics"],
    );
    refused(
        trigger,
        &format!("{trigger}      metricType: Value\n"),
        &["metricType", "Value"],
    );
    refused(
        "kind: SpinApp",
        "kind: Spin",
        &["`demo-gristmill-auth` is rendered"],
    );
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    for (from, to, word) in [
        ("queueLength: \"8\"", "queueLength: 8", "expected a string"),
        (
            "queueLength: \"8\"",
            "queueLength: \"0\"",
            "`queueLength` is `0`",
        ),
        ("queueLength: \"8\"", "queueWidth: \"8\"", "queueWidth"),
        (
            "scaleOnInFlight: \"true\"",
            "scaleOnInFlight: \"yes\"",
            "scaleOnInFlight",
        ),
        (
            "/123456789012/gristmill-images\"\n        aws",
            "/gristmill-images\"\n        aws",
            "queueURL",
        ),
        (
            "pollingInterval: 15",
            "pollingInterval: 0",
            "pollingInterval",
        ),
        (
            "minReplicaCount: 0",
            "minReplicaCount: 21",
            "maxReplicaCount",
        ),
        (
            "cooldownPeriod: 300\n",
            "idleReplicaCount: 1\n",
            "idleReplicaCount",
        ),
        (
            "    replicas: 1\n",
            "    replicas: 1\n    behavior: scalingModifiers\n",
            "scalingModifiers",
        ),
        (
            "stabilizationWindowSeconds: 120",
            "stabilizationWindowSeconds: 3601",
            "3601",
        ),
        (
            "      behavior:\n        scaleDown:",
            "      behavior:\n        scaleSideways:",
            "scaleSideways",
        ),
        (
            "averageUtilization: 70",
            "averageUtilization: 0",
            "averageUtilization",
        ),
        ("        name: cpu\n", "        name: memory\n", "memory"),
        (
            "- --grace-period\n            - \"40\"",
            "- --grace-period",
            "--grace-period",
        ),
    ] {
        refused(from, to, &[word]);
    }
}

/// As little as a cluster takes.
const LEAST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: orders }
spec:
  template:
    spec:
      initContainers:
        - { name: once, resources: { requests: { cpu: "5", memory: 5Gi } } }
        - { name: beside, restartPolicy: Always, resources: { requests: { cpu: 50m, memory: 64Mi } } }
      containers:
        - name: main
          args: [up]
          resources: { limits: { cpu: 0.5, memory: 128Mi } }
          lifecycle: { preStop: { sleep: { seconds: 7 } } }
          readinessProbe: { httpGet: { path: /readyz, port: 80 } }
---
# An empty document follows.
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: { name: orders }
spec:
  scaleTargetRef: { name: orders }
  triggers:
    - type: aws-sqs-queue
      metadata: { queueURL: "http://queue:9324/000000000000/orders", awsRegion: eu-west-1 }
"#;

#[test]
fn what_is_not_written_has_the_cluster_s_defaults() {
    let rendered = read(LEAST);
    let [worker] = rendered.workers.as_slice() else {
        panic!("{rendered:?}");
    };
    let scaled = &worker.scaled;
    assert_eq!(worker.queue, "orders");
    assert_eq!(
        (scaled.polling_interval, scaled.cooldown),
        (seconds(30), seconds(300))
    );
    assert_eq!(scaled.initial_cooldown, seconds(0));
    assert_eq!((scaled.idle, scaled.min, scaled.max), (None, 0, 100));
    assert_eq!((scaled.fallback, &scaled.behavior), (None, &None));
    let trigger = &scaled.trigger;
    assert_eq!((trigger.queue_length, trigger.activation), (5, 0));
    assert_eq!((trigger.on_in_flight, trigger.on_delayed), (true, false));

    let pod = &worker.deployment;
    assert_eq!((pod.min_ready, pod.one_per_node), (seconds(0), false));
    assert_eq!(
        (pod.grace_period, pod.pre_stop, pod.drain),
        (seconds(30), seconds(7), None)
    );
    let probe = Probe {
        initial_delay: seconds(0),
        period: seconds(10),
        timeout: seconds(1),
        successes: 1,
        failures: 3,
    };
    assert_eq!(
        (pod.readiness, pod.startup, pod.liveness),
        (Some(probe), None, None)
    );
    // A container that has only limits requests them; one that ends before the others does
    // not count.
    assert_eq!((pod.cpu_request_millis, pod.cpu_limit_millis), (550, None));
    assert_eq!(
        (pod.memory_request_bytes, pod.memory_limit_bytes),
        (192 << 20, None)
    );
}

#[test]
fn half_a_behavior_is_filled_up() {
    let with = |written: &str| {
        let advanced = format!("advanced: {{ horizontalPodAutoscalerConfig: {{ {written} }} }}");
        let text = LEAST.replace("  triggers:", &format!("  {advanced}\n  triggers:"));
        read(&text).workers[0].scaled.behavior.clone()
    };
    assert_eq!(with("name: orders"), None);
    assert_eq!(with("behavior: {}"), Some(Behavior::default()));
    let mut up = Behavior::default();
    up.up.tolerance = Some(0.05);
    assert_eq!(with("behavior: { scaleUp: { tolerance: 50m } }"), Some(up));
    let mut down = Behavior::default();
    down.down.stabilization = Some(seconds(0));
    let none = "behavior: { scaleDown: { stabilizationWindowSeconds: 0 } }";
    assert_eq!(with(none), Some(down));
}

#[test]
fn pods_that_want_a_node_each_are_told_apart() {
    let with = |key: &str| {
        let rule = "requiredDuringSchedulingIgnoredDuringExecution";
        let terms = format!("podAntiAffinity: {{ {rule}: [{{ topologyKey: {key} }}] }}");
        let init = "      initContainers:";
        let text = LEAST.replace(init, &format!("      affinity: {{ {terms} }}\n{init}"));
        read(&text).workers[0].deployment.one_per_node
    };
    assert!(with("kubernetes.io/hostname"));
    assert!(!with("topology.kubernetes.io/zone"));
}

#[test]
fn a_pod_that_stops_for_an_unknown_time_is_refused() {
    let text = LEAST.replace("sleep: { seconds: 7 }", "exec: { command: [sleep, 7] }");
    let error = scaled_object::read(&text)
        .err()
        .map(|error| error.to_string());
    assert!(
        error.as_ref().is_some_and(|error| error.contains("`exec`")),
        "{error:?}"
    );
}

#[test]
fn two_scalers_of_one_workload_are_refused() {
    let text = FIXTURE.replace(
        "    kind: Deployment\n    name: demo-gristmill-auth",
        "    kind: Deployment\n    name: demo-gristmill-worker-images",
    );
    let error = scaled_object::read(&text)
        .err()
        .map(|error| error.to_string());
    assert!(
        error
            .as_ref()
            .is_some_and(|error| error.contains("another object")),
        "{error:?}"
    );
}

#[test]
fn annotations_pause_as_keda_reads_them() {
    let with = |annotations: &str| {
        let meta = "kind: ScaledObject\nmetadata:\n";
        let lines = format!("{meta}  annotations: {{ {annotations} }}\n");
        read(&FIXTURE.replace(meta, &lines)).workers[0].scaled.pause
    };
    assert_eq!(with("other: x"), Pause::default());
    assert!(with("autoscaling.keda.sh/paused: \"true\"").all);
    assert!(!with("autoscaling.keda.sh/paused: \"false\"").all);
    assert!(with("autoscaling.keda.sh/paused: \"please\"").all);
    assert_eq!(
        with("autoscaling.keda.sh/paused-replicas: \"3\"").at,
        Some(3)
    );
    assert!(with("autoscaling.keda.sh/paused-scale-in: \"1\"").scale_in);
    assert!(with("autoscaling.keda.sh/paused-scale-out: \"1\"").scale_out);
    assert!(with("autoscaling.keda.sh/force-activation: \"true\"").force_active);
}

fn kubernetes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `helm template`, with the values that the head of a file of the matrix asks for.
fn render(helm: &str, values: &[PathBuf]) -> String {
    let mut command = Command::new(helm);
    command
        .args(["template", "demo"])
        .arg(kubernetes().join("chart"));
    command.args(["--namespace", "mill", "--kube-version", "1.35"]);
    for api in [
        "core.spinkube.dev/v1alpha1",
        "keda.sh/v1alpha1",
        "cert-manager.io/v1",
        "monitoring.coreos.com/v1",
        "bitnami.com/v1alpha1",
        "external-secrets.io/v1",
    ] {
        command.args(["--api-versions", api]);
    }
    for file in values {
        command.arg("--values").arg(file);
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_whole_matrix_is_read() {
    let Ok(helm) = std::env::var("GRISTMILL_TEST_HELM") else {
        println!("skipped: GRISTMILL_TEST_HELM names no helm");
        return;
    };
    let mut files = 0;
    for file in std::fs::read_dir(kubernetes().join("tests/matrix")).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let with = text.lines().find_map(|line| line.strip_prefix("# with: "));
        let first = with.map(|name| kubernetes().join("chart").join(name.trim()));
        let values: Vec<_> = first.into_iter().chain([file.clone()]).collect();
        let text = render(&helm, &values);
        let rendered = read(&text);
        let count = |kind: &str| {
            text.lines()
                .filter(|line| *line == format!("kind: {kind}"))
                .count()
        };
        assert_eq!(rendered.workers.len(), count("ScaledObject"), "{file:?}");
        assert_eq!(
            rendered.http.len(),
            count("HorizontalPodAutoscaler"),
            "{file:?}"
        );
        let alone = file.ends_with("available.yaml");
        for worker in &rendered.workers {
            assert_eq!(
                worker.deployment.one_per_node, alone,
                "{file:?}: {}",
                worker.name
            );
            let pod = &worker.deployment;
            assert!(pod.cpu_request_millis > 0, "{file:?}: {}", worker.name);
            let drain = pod.drain.unwrap_or_default() + pod.pre_stop;
            assert!(
                drain < pod.grace_period,
                "{file:?}: {} is killed in its drain",
                worker.name
            );
        }
        files += 1;
    }
    assert!(files > 20, "{files} files of the matrix");
}

#[test]
fn the_fixture_is_what_helm_renders() {
    let Ok(helm) = std::env::var("GRISTMILL_TEST_HELM") else {
        println!("skipped: GRISTMILL_TEST_HELM names no helm");
        return;
    };
    let rendered = read(&render(
        &helm,
        &[kubernetes().join("chart/values-aws.yaml")],
    ));
    let fixture = read(FIXTURE);
    assert!(
        rendered.workers.contains(&fixture.workers[0]),
        "render it anew"
    );
    assert!(rendered.http.contains(&fixture.http[0]), "render it anew");
}
