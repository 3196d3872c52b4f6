//! The two health answers: alive (this code runs) and ready (what it depends on
//! answers too).

use serde::Serialize;

use crate::Reply;

/// The outcome of asking one dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was asked, as in `queue`.
    pub name: &'static str,
    /// What went wrong; nothing when it answered.
    pub problem: Option<String>,
}

impl Check {
    /// From the result of the question.
    pub fn of<T, E: ToString>(name: &'static str, answer: Result<T, E>) -> Self {
        Self {
            name,
            problem: answer.err().map(|error| error.to_string()),
        }
    }
}

impl Check {
    /// From a question to something outside. Whoever asks for readiness learns
    /// that it does not answer; why, which may name addresses, goes to `log`.
    pub fn answered<T, E: ToString>(
        name: &'static str,
        answer: Result<T, E>,
        log: impl FnOnce(&str),
    ) -> Self {
        Self::of(
            name,
            answer.map_err(|error| {
                log(&error.to_string());
                "does not answer"
            }),
        )
    }
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// The answer of `/healthz/…`.
pub fn alive() -> Reply {
    let health = Health {
        status: "alive",
        checks: Vec::new(),
    };
    Reply::json(200, &health).uncached()
}

/// The answer of `/readyz/…`: 200 when every check passed, else 503; each is listed.
pub fn ready(checks: &[Check]) -> Reply {
    let all_passed = checks.iter().all(|check| check.problem.is_none());
    let (status_code, status) = if all_passed {
        (200, "ready")
    } else {
        (503, "not ready")
    };
    let entries = checks.iter().map(|check| Entry {
        name: check.name,
        status: if check.problem.is_none() {
            "ok"
        } else {
            "failed"
        },
        problem: check.problem.as_deref(),
    });
    let health = Health {
        status,
        checks: entries.collect(),
    };
    Reply::json(status_code, &health).uncached()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(reply: Reply) -> String {
        String::from_utf8(reply.body).unwrap()
    }

    #[test]
    fn ready_lists_every_check() {
        let reply = ready(&[
            Check::of("store", Ok::<_, String>(())),
            Check::of("queue", Ok::<_, String>(())),
        ]);
        assert_eq!(reply.status, 200);
        assert_eq!(
            body(reply),
            r#"{"status":"ready","checks":[{"name":"store","status":"ok"},{"name":"queue","status":"ok"}]}"#
        );
    }

    #[test]
    fn one_failed_check_makes_it_not_ready() {
        let reply = ready(&[
            Check::of("store", Ok::<_, String>(())),
            Check::of("queue", Err::<(), _>("refused")),
        ]);
        assert_eq!(reply.status, 503);
        assert_eq!(
            body(reply),
            r#"{"status":"not ready","checks":[{"name":"store","status":"ok"},{"name":"queue","status":"failed","problem":"refused"}]}"#
        );
    }

    #[test]
    fn why_something_does_not_answer_is_for_the_log() {
        let mut logged = String::new();
        let check = Check::answered("queue", Err::<(), _>("10.0.0.1 refused"), |reason| {
            logged.push_str(reason);
        });
        assert_eq!(check.problem.as_deref(), Some("does not answer"));
        assert_eq!(logged, "10.0.0.1 refused");
    }

    #[test]
    fn alive_is_not_cached() {
        let reply = alive();
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(body(reply), r#"{"status":"alive"}"#);
    }
}
