//! The account of a live run: what became of every message, from what senders were told,
//! what handlers printed and what is in the queues at the end. Knows no processes.

use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::pods::End;
use super::senders::Sending;
use crate::time::Time;

/// After the handler's end its message is deleted within so long, in real time: one call
/// to the queue, and another when that failed. Who is killed within it may leave it undeleted.
const DELETE: Duration = Duration::from_secs(1);

/// Why the log of a pod cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read.
    #[error("cannot read the log of a pod, {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
}

/// One call of the handler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Attempt {
    pub(super) pod: usize,
    pub(super) begun: Time,
    pub(super) ended: Option<Time>,
    pub(super) failed: Option<Time>,
    /// When the host said that the lease was over before the message was settled.
    pub(super) lease_lost: Option<Time>,
}

/// Calls of the handler, by message.
pub(super) type Attempts = HashMap<String, Vec<Attempt>>;

/// Where the host tells what became of a message.
const UNIT: &str = "gristmill::queue::unit";

#[derive(Deserialize)]
struct Line<'a> {
    timestamp: &'a str,
    message: std::borrow::Cow<'a, str>,
    #[serde(default)]
    target: &'a str,
    #[serde(default)]
    message_id: Option<&'a str>,
}

/// Adds what the handler printed in that pod. What else is in the log is none of it, nor is a
/// last line that a kill cut off.
pub(super) fn read_log(
    log: &Path,
    pod: usize,
    time: impl Fn(SystemTime) -> Time,
    attempts: &mut Attempts,
) -> Result<(), LogError> {
    let failed = |error| LogError::Unreadable(log.to_owned(), error);
    let file = std::fs::File::open(log).map_err(failed)?;
    for line in std::io::BufReader::new(file).split(b'\n') {
        let line = line.map_err(failed)?;
        let Ok(line) = serde_json::from_slice::<Line>(&line) else {
            continue;
        };
        let Ok(at) = humantime::parse_rfc3339(line.timestamp) else {
            continue;
        };
        match (line.target, line.message.split_once(' '), line.message_id) {
            ("guest", Some((what, id)), _) => note(attempts, pod, what, id, time(at)),
            (UNIT, _, Some(id)) if line.message.contains("lease") => {
                note(attempts, pod, "lease", id, time(at));
            }
            _ => {}
        }
    }
    Ok(())
}

fn note(attempts: &mut Attempts, pod: usize, what: &str, id: &str, at: Time) {
    if what == "begin" {
        attempts.entry(id.to_owned()).or_default().push(Attempt {
            pod,
            begun: at,
            ended: None,
            failed: None,
            lease_lost: None,
        });
        return;
    }
    // The last one of this pod: a message is not handled twice at once by one process.
    let known = attempts.get_mut(id).into_iter().flatten();
    if let Some(attempt) = known.filter(|attempt| attempt.pod == pod).last() {
        match what {
            "end" => attempt.ended = Some(at),
            "fail" => attempt.failed = Some(at),
            "lease" => attempt.lease_lost = Some(at),
            _ => {}
        }
    }
}

/// Why a message was handled once more, after a call that had not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its pod was killed while the handler ran.
    KilledInCall,
    /// Its pod was killed between the handler's end and the delete.
    KilledBeforeDelete,
    /// Its pod was stopped, and the work was not done when the grace period was over.
    GraceOver,
    /// The lease was over before the message was settled, as its host says; or the call began
    /// late, in a host that stood still, as what it says of other messages shows.
    LeaseExpired,
    /// The queue did not answer when the message was to be deleted.
    Outage,
    /// None of these.
    Unexplained,
}

/// What became of the messages of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Messages that the queue acknowledged.
    pub sent: u64,
    /// Of these: handled to the end.
    pub processed: u64,
    /// Of these: by one call, the only one that did not fail.
    pub once: u64,
    /// Calls beyond the first of messages that had not failed, by their cause.
    pub again: Vec<(Cause, u64)>,
    /// Calls after a call that failed.
    pub retries: u64,
    /// Messages in the dead-letter queue.
    pub dead: u64,
    /// Still in the queue when the run gave up waiting.
    pub left: u64,
    /// Acknowledged, and nowhere.
    pub lost: u64,
    /// Handled, though no acknowledgement came: of calls without an answer.
    pub unacknowledged: u64,
}

impl Account {
    /// Calls that nothing explains.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let found = self
            .again
            .iter()
            .filter(|(cause, _)| *cause == Cause::Unexplained);
        found.map(|(_, count)| count).sum()
    }

    /// Calls beyond the first.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.again.iter().map(|(_, count)| count).sum()
    }

    /// Nothing lost, nothing left, every further call explained.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.lost == 0
            && self.left == 0
            && self.unexplained() == 0
            && self.sent == self.processed + self.dead
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, count: u64| writeln!(f, "{name:<34}{count:>10}");
        row("sent", self.sent)?;
        row("processed", self.processed)?;
        row("  by one call", self.once)?;
        row("  further calls", self.duplicates())?;
        for (cause, count) in &self.again {
            row(&format!("    {}", cause.text()), *count)?;
        }
        row("calls after one that failed", self.retries)?;
        row("dead", self.dead)?;
        row("left in the queue", self.left)?;
        row("lost", self.lost)?;
        row("without an acknowledgement", self.unacknowledged)
    }
}

impl Cause {
    const fn text(self) -> &'static str {
        match self {
            Self::KilledInCall => "pod killed in the call",
            Self::KilledBeforeDelete => "pod killed before the delete",
            Self::GraceOver => "grace period over",
            Self::LeaseExpired => "lease expired",
            Self::Outage => "queue away at the delete",
            Self::Unexplained => "UNEXPLAINED",
        }
    }
}

/// What explains that a message came again.
pub(super) struct Circumstances<'a> {
    /// When and how pods ended.
    pub(super) ends: &'a [Option<(Time, End)>],
    /// When nobody answered, restart included.
    pub(super) outages: &'a [(Time, Time)],
    /// Scenario seconds in a real one.
    pub(super) speed: f64,
}

impl Circumstances<'_> {
    /// Why `next` came after `before`, which had not failed. `lost` is which pods lost a
    /// lease, and when.
    fn cause(&self, before: &Attempt, next: &Attempt, lost: &[(usize, Time)]) -> Cause {
        let end = self.ends.get(before.pod).copied().flatten();
        let delete = DELETE.mul_f64(self.speed);
        // The log's clock and ours differ by less than a scheduling delay.
        let slack = Duration::from_millis(50).mul_f64(self.speed);
        if let Some((at, how)) = end
            && at <= next.begun + slack
        {
            let in_call = before.ended.is_none();
            let in_delete = before.ended.is_some_and(|ended| at <= ended + delete);
            match how {
                End::Killed | End::Crashed if in_call => return Cause::KilledInCall,
                End::Killed | End::Crashed if in_delete => return Cause::KilledBeforeDelete,
                End::CutOff if in_call || in_delete => return Cause::GraceOver,
                _ => {}
            }
        }
        let until = before.ended.unwrap_or(next.begun);
        let away =
            |(from, to): &(Time, Time)| *from <= until + delete && before.begun <= *to + slack;
        if self.outages.iter().any(away) {
            return Cause::Outage;
        }
        let stood_still = |(pod, at): &(usize, Time)| {
            *pod == next.pod && *at <= next.begun + delete && next.begun <= *at + delete
        };
        if before.lease_lost.is_some() || lost.iter().any(stood_still) {
            return Cause::LeaseExpired;
        }
        Cause::Unexplained
    }
}

/// Draws up the account. `dead` are the ids in the dead-letter queue, `left` is the number of
/// messages in the queue.
pub(super) fn draw_up(
    sending: &Sending,
    attempts: &Attempts,
    dead: &[String],
    left: u64,
    circumstances: &Circumstances<'_>,
) -> Account {
    let mut account = Account {
        sent: sending.sent.len() as u64,
        left,
        ..Account::default()
    };
    let dead: std::collections::HashSet<_> = dead.iter().map(String::as_str).collect();
    let calls = attempts.values().flatten();
    let lost = calls.filter_map(|call| Some((call.pod, call.lease_lost?)));
    let lost: Vec<_> = lost.collect();
    let mut causes: HashMap<Cause, u64> = HashMap::new();
    let mut unfinished = 0;
    let mut known = 0_u64;
    for sent in &sending.sent {
        let mut calls = attempts.get(&sent.id).cloned().unwrap_or_default();
        known += u64::from(!calls.is_empty());
        calls.sort_by_key(|call| call.begun);
        let done = calls.iter().any(|call| call.ended.is_some());
        if dead.contains(sent.id.as_str()) {
            account.dead += 1;
        } else if done {
            account.processed += 1;
        } else {
            unfinished += 1;
        }
        let mut again = 0_u64;
        for pair in calls.windows(2) {
            let [before, next] = pair else { continue };
            if before.failed.is_some() {
                account.retries += 1;
            } else {
                again += 1;
                *causes
                    .entry(circumstances.cause(before, next, &lost))
                    .or_default() += 1;
            }
        }
        account.once += u64::from(done && again == 0);
    }
    account.unacknowledged = attempts.len() as u64 - known;
    account.lost = u64::saturating_sub(unfinished, left);
    account.again = causes.into_iter().collect();
    account
        .again
        .sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    account
}

#[cfg(test)]
mod tests {
    use super::super::senders::Sent;
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn sending(ids: &[&str]) -> Sending {
        let sent = ids.iter().map(|id| Sent {
            id: (*id).to_owned(),
            at: at(0),
        });
        Sending {
            sent: sent.collect(),
            ..Sending::default()
        }
    }

    fn account(
        printed: &[(usize, &str, &str, u64)],
        dead: &[&str],
        left: u64,
        outages: &[(Time, Time)],
    ) -> Account {
        let mut attempts = Attempts::new();
        for (pod, what, id, second) in printed {
            note(&mut attempts, *pod, what, id, at(*second));
        }
        let ends = [
            Some((at(100), End::Killed)),
            Some((at(200), End::CutOff)),
            None,
        ];
        let circumstances = Circumstances {
            ends: &ends,
            outages,
            speed: 20.0,
        };
        let mut ids: Vec<_> = printed
            .iter()
            .map(|(_, _, id, _)| *id)
            .chain(dead.iter().copied())
            .collect();
        ids.push("quiet");
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| *id != "stranger");
        if !printed.iter().any(|(_, _, id, _)| *id == "quiet") {
            ids.retain(|id| *id != "quiet");
        }
        let dead: Vec<_> = dead.iter().map(|id| (*id).to_owned()).collect();
        draw_up(&sending(&ids), &attempts, &dead, left, &circumstances)
    }

    #[test]
    fn one_call_of_each_balances() {
        let account = account(
            &[
                (2, "begin", "a", 1),
                (2, "begin", "b", 1),
                (2, "end", "a", 9),
                (2, "end", "b", 9),
            ],
            &[],
            0,
            &[],
        );
        assert_eq!((account.sent, account.processed, account.once), (2, 2, 2));
        assert!(account.balances(), "{account}");
    }

    #[test]
    fn what_no_handler_ended_is_lost_unless_it_is_still_there() {
        let printed = [(0, "begin", "a", 95)];
        let lost = account(&printed, &[], 0, &[]);
        assert_eq!((lost.lost, lost.left), (1, 0));
        assert!(!lost.balances());
        let left = account(&printed, &[], 1, &[]);
        assert_eq!((left.lost, left.left), (0, 1));
        assert!(!left.balances());
    }

    #[test]
    fn further_calls_have_causes() {
        let outage = [(at(300), at(310))];
        for (cause, printed) in [
            (
                Cause::KilledInCall,
                vec![
                    (0, "begin", "a", 95),
                    (2, "begin", "a", 140),
                    (2, "end", "a", 148),
                ],
            ),
            (
                Cause::KilledBeforeDelete,
                vec![
                    (0, "begin", "a", 91),
                    (0, "end", "a", 99),
                    (2, "begin", "a", 140),
                    (2, "end", "a", 148),
                ],
            ),
            (
                Cause::GraceOver,
                vec![
                    (1, "begin", "a", 195),
                    (2, "begin", "a", 240),
                    (2, "end", "a", 248),
                ],
            ),
            (
                Cause::Outage,
                vec![
                    (2, "begin", "a", 295),
                    (2, "end", "a", 303),
                    (2, "begin", "a", 345),
                    (2, "end", "a", 353),
                ],
            ),
            (
                Cause::LeaseExpired,
                vec![
                    (2, "begin", "a", 10),
                    (2, "lease", "a", 49),
                    (2, "begin", "a", 50),
                    (2, "end", "a", 58),
                ],
            ),
            // The pod was killed long after its handler had ended; nothing happened to the other.
            (
                Cause::Unexplained,
                vec![
                    (0, "begin", "a", 10),
                    (0, "end", "a", 18),
                    (2, "begin", "a", 58),
                    (2, "end", "a", 66),
                ],
            ),
            (
                Cause::Unexplained,
                vec![
                    (2, "begin", "a", 10),
                    (2, "end", "a", 18),
                    (2, "begin", "a", 58),
                    (2, "end", "a", 66),
                ],
            ),
        ] {
            let account = account(&printed, &[], 0, &outage);
            assert_eq!(account.again, [(cause, 1)], "{printed:?}");
            assert_eq!((account.processed, account.once, account.lost), (1, 0, 0));
            assert_eq!(account.balances(), cause != Cause::Unexplained);
        }
    }

    /// A host that stood still lost the lease of `a`, and began `b` when somebody else had
    /// done it.
    #[test]
    fn a_call_that_began_late_is_explained_by_the_leases_of_its_pod() {
        let printed = [
            (2, "begin", "a", 10),
            (3, "begin", "b", 50),
            (3, "end", "b", 58),
            (3, "begin", "a", 50),
            (3, "end", "a", 58),
            (2, "end", "a", 70),
            (2, "lease", "a", 70),
            (2, "begin", "b", 71),
            (2, "end", "b", 79),
        ];
        let account = account(&printed, &[], 0, &[]);
        assert_eq!(account.again, [(Cause::LeaseExpired, 2)]);
        assert!(account.balances(), "{account}");
    }

    #[test]
    fn what_fails_is_tried_again_until_it_is_dead() {
        let account = account(
            &[
                (2, "begin", "a", 1),
                (2, "fail", "a", 9),
                (2, "begin", "a", 30),
                (2, "fail", "a", 38),
                (2, "begin", "stranger", 30),
                (2, "end", "stranger", 38),
            ],
            &["a"],
            0,
            &[],
        );
        assert_eq!(
            (account.dead, account.retries, account.duplicates()),
            (1, 1, 0)
        );
        assert_eq!((account.processed, account.unacknowledged), (0, 1));
        assert!(account.balances(), "{account}");
    }

    #[test]
    fn a_log_is_read_up_to_the_line_that_a_kill_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("pod.log");
        let line = |seconds: u32, message: &str, target: &str| {
            format!(
                r#"{{"timestamp":"2026-11-22T04:48:{seconds:02}.250000Z","level":"INFO","message":"{message}","component":"handler","target":"{target}"}}"#
            )
        };
        let text = [
            line(1, "begin a", "guest"),
            line(2, "begin b", "gristmill::queue"),
            line(3, "end a", "guest"),
            line(4, "its lease ran out\",\"message_id\":\"a", UNIT),
            line(3, "begin c", "guest")[..60].to_owned(),
        ];
        std::fs::write(&log, text.join("\n")).unwrap();
        let start = humantime::parse_rfc3339("2026-11-22T04:48:00Z").unwrap();
        let time = |at: SystemTime| Time::ZERO + at.duration_since(start).unwrap();
        let mut attempts = Attempts::new();
        read_log(&log, 7, time, &mut attempts).unwrap();
        let expected = Attempt {
            pod: 7,
            begun: Time::from_millis(1_250),
            ended: Some(Time::from_millis(3_250)),
            failed: None,
            lease_lost: Some(Time::from_millis(4_250)),
        };
        assert_eq!(attempts, [("a".to_owned(), vec![expected])].into());
    }
}
