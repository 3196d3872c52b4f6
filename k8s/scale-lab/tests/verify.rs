//! `scale-lab verify` as one runs it.

#![expect(clippy::unwrap_used, reason = "a failure names its line")]

use std::process::{Command, Output};

fn verify(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scale-lab"));
    command.arg("verify").args(arguments).output().unwrap()
}

#[test]
fn every_case_is_a_line_that_says_ok() {
    let output = verify(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let cases = scale_lab::verify::all().len();
    assert!(cases >= 40, "{cases} cases");
    assert_eq!(
        text.lines().filter(|line| line.starts_with("ok ")).count(),
        cases
    );
    assert!(
        text.ends_with(&format!("{cases} cases, 0 failed\n")),
        "{text}"
    );
}

#[test]
fn details_say_why() {
    let output = verify(&["--details", "0 to 1 by one message"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("from 0 s: 1 visible"), "{text}");
    assert!(
        text.contains("0 to 1, KEDA: activated, 1 messages"),
        "{text}"
    );
}

#[test]
fn a_name_that_no_case_has_is_an_error_on_one_line() {
    let output = verify(&["no such case"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("no such case"), "{text}");
}
