//! The commands as a user runs them: exit codes, what goes to stdout, and errors on one line.

use std::path::Path;
use std::process::{Command, Output};

/// What the chart renders for a queue, as far as it is read.
const RENDERED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: mill-worker-orders }
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 50
      containers:
        - name: gristmill
          args: [up, --grace-period, "40"]
          resources: { requests: { cpu: 100m, memory: 192Mi } }
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: { name: mill-worker-orders }
spec:
  scaleTargetRef: { name: mill-worker-orders }
  pollingInterval: 10
  minReplicaCount: 0
  maxReplicaCount: 5
  triggers:
    - type: aws-sqs-queue
      metadata:
        queueURL: http://127.0.0.1:9324/000000000000/orders
        awsRegion: us-east-1
        queueLength: "5"
"#;

const SCENARIO: &str = "
title = 'Twenty a second'
duration_seconds = 300
chart = { rendered = 'rendered.yaml', queue = 'orders' }
trace = { kind = 'step', before = 0, after = 20, at_seconds = 20, until_seconds = 120 }
";

fn scale_lab(folder: &Path, arguments: &[&str]) -> Output {
    std::fs::write(folder.join("rendered.yaml"), RENDERED).expect("a file is written");
    Command::new(env!("CARGO_BIN_EXE_scale-lab"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("scale-lab starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn simulate_sums_up_and_writes_the_timeline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.toml"), SCENARIO).unwrap();
    let run = || {
        scale_lab(
            folder.path(),
            &["simulate", "orders.toml", "--json", "--csv", "out.csv"],
        )
    };
    let output = run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["sent"], 2000.0);
    assert_eq!(summary["processed"], 2000.0);
    let written = std::fs::read_to_string(folder.path().join("out.csv")).unwrap();
    let timeline = scale_lab::csv::read(&written).unwrap();
    assert_eq!(timeline.samples.len(), 301);
    // The same again, to the byte.
    assert_eq!(run().stdout, output.stdout);
    assert_eq!(
        std::fs::read_to_string(folder.path().join("out.csv")).unwrap(),
        written
    );

    let output = scale_lab(folder.path(), &["simulate", "orders.toml", "--events"]);
    let said = text(&output.stdout);
    assert!(said.contains("0 → 1 (KEDA: "), "{said}");
    assert!(said.contains("messages                2,000 sent, 2,000 settled, 0 dead, 0 left"));
}

#[test]
fn tune_says_by_its_exit_code_whether_the_target_is_met() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.toml"), SCENARIO).unwrap();
    let tune = |target| {
        let arguments = [
            "tune",
            "orders.toml",
            "--seeds",
            "1",
            "--room",
            "5",
            "--target-p99-age",
            target,
        ];
        scale_lab(folder.path(), &arguments)
    };
    let good = tune("60");
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("queues:\n  \"orders\":\n    scaling:\n"));
    let bad = tune("0.001");
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad.stderr));
    assert!(text(&bad.stdout).contains("NOTHING that was tried meets it"));
}

#[test]
fn what_cannot_be_done_is_said_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (scenario, said) in [
        (
            SCENARIO.replace("orders", "images"),
            "queue `images`; it has: `orders`",
        ),
        (
            SCENARIO.replace("rendered.yaml", "other.yaml"),
            "helm template",
        ),
        (
            SCENARIO.replace("after = 20", "after = -20"),
            "`trace.after` is -20",
        ),
        (
            SCENARIO.replace("title", "heading"),
            "unknown field `heading`",
        ),
        (
            SCENARIO.replace("rendered = 'rendered.yaml', ", ""),
            "names no chart",
        ),
        (
            SCENARIO.replace("rendered = 'rendered.yaml'", "path = 'chart'"),
            "no-such-helm",
        ),
    ] {
        std::fs::write(folder.path().join("wrong.toml"), scenario).unwrap();
        let arguments = ["simulate", "wrong.toml", "--helm", "./no-such-helm"];
        let output = scale_lab(folder.path(), &arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.contains(said) && error.lines().count() == 1,
            "{error}"
        );
        assert!(output.stdout.is_empty());
    }
}

/// The queue `orders` of the chart may have another name at SQS.
#[test]
fn values_of_tune_go_under_the_charts_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let rendered = RENDERED.replace("000000000000/orders", "000000000000/shop-orders");
    let scenario = SCENARIO.replace("queue = 'orders'", "queue = 'shop-orders'");
    std::fs::write(folder.path().join("orders.toml"), scenario).unwrap();
    std::fs::write(folder.path().join("shop.yaml"), rendered).unwrap();
    let arguments = "tune orders.toml --rendered shop.yaml --seeds 1 --room 1 --target-p99-age 90";
    let output = scale_lab(folder.path(), &arguments.split(' ').collect::<Vec<_>>());
    let said = text(&output.stdout);
    assert!(
        said.contains("queues:\n  \"orders\":\n"),
        "{said}{}",
        text(&output.stderr)
    );
}
