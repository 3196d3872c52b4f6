//! Message move tasks: what takes dead letters back. Owns the steps of a task and how far it is,
//! on disk with each step, so that it goes on after a restart; refuses to know when the next step
//! comes.
//! Source: SQS API Reference, `StartMessageMoveTask`, `ListMessageMoveTasks`,
//! `CancelMessageMoveTask`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::messages::Transfer;
use super::rows::{Candidate, row_id, select_group, select_visible_until, unreadable};
use super::{Store, StoreResult};
use crate::errors::{QueueError, StorageError};
use crate::limits;
use crate::model::{MessageId, MoveRequest, MoveStatus, MoveTask, QueueName};

/// A task that runs. Messages that came after it began are not its own, so that it ends.
#[derive(Clone, Debug)]
pub(super) struct ActiveMove {
    number: i64,
    source: QueueName,
    /// The source as it was: a purge gives it another id.
    source_id: i64,
    destination: Option<QueueName>,
    per_second: Option<u32>,
    until_seq: i64,
    next_at: u64,
}

/// How a step ended.
enum Step {
    Moved(usize),
    Done,
    Failed(&'static str),
}

/// SQS's `FailureReason`s.
const NO_SOURCE: &str = "CouldNotDetermineMessageSource";
const NO_QUEUE: &str = "AWS.SimpleQueueService.NonExistentQueue";

pub(super) fn read_active(conn: &Connection) -> Result<Vec<ActiveMove>, StorageError> {
    let mut statement = conn.prepare_cached(
        "SELECT number, source, source_id, destination_arn, per_second, until_seq FROM move_task
         WHERE status = 'RUNNING' ORDER BY number",
    )?;
    let active = statement.query_map([], |row| {
        let source: String = row.get(1)?;
        let destination: Option<String> = row.get(3)?;
        Ok(ActiveMove {
            number: row.get(0)?,
            source: QueueName::parse(&source).map_err(|error| unreadable(1, error))?,
            source_id: row.get(2)?,
            destination: destination.and_then(|arn| QueueName::from_arn(&arn)),
            per_second: row.get(4)?,
            until_seq: row.get(5)?,
            next_at: 0,
        })
    })?;
    Ok(active.collect::<rusqlite::Result<_>>()?)
}

impl Store {
    /// Begins a task and returns its handle.
    pub(crate) fn start_move(&mut self, request: &MoveRequest, now: u64) -> StoreResult<String> {
        let (source, destination) = self.check_move(request)?;
        let queue = self
            .queues
            .get_mut(&source)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        let (source_id, until_seq) = (queue.id, queue.next_seq - 1);
        let id = Uuid::new_v4();
        let number = self
            .database
            .conn
            .prepare_cached(
                "INSERT INTO move_task (id, source, source_id, source_arn, destination_arn,
                     per_second, status, moved, to_move, until_seq, started_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'RUNNING', 0, ?7, ?8, ?9)",
            )?
            .insert(params![
                id.as_bytes(),
                source.as_str(),
                source_id,
                request.source_arn,
                request.destination_arn,
                request.per_second,
                queue.schedule.depth().visible,
                until_seq,
                now
            ])?;
        self.prune_moves(&source)?;
        self.moves.push(ActiveMove {
            number,
            source,
            source_id,
            destination,
            per_second: request.per_second,
            until_seq,
            next_at: now,
        });
        Ok(handle(id, &request.source_arn))
    }

    fn check_move(&self, request: &MoveRequest) -> StoreResult<(QueueName, Option<QueueName>)> {
        let refuse = |reason| Err(QueueError::MoveTaskRefused(reason));
        let source = self.existing("SourceArn", &request.source_arn)?;
        if self.sources_of(&source).next().is_none() {
            return refuse("Source queue must be configured as a Dead Letter Queue.");
        }
        let destination = request.destination_arn.as_deref();
        let destination = destination.map(|arn| self.existing("DestinationArn", arn));
        let destination = destination.transpose()?;
        if destination.as_ref() == Some(&source) {
            return refuse("Source queue arn and destination queue arn cannot be the same.");
        }
        if destination
            .as_ref()
            .is_some_and(|queue| queue.is_fifo() != source.is_fifo())
        {
            return refuse(
                "The source queue and destination queue must be of the same queue type.",
            );
        }
        if self.moves.iter().any(|active| active.source == source) {
            return refuse(
                "There is already a task running. Only one active task is allowed for a source \
                 queue arn at a given time.",
            );
        }
        if self.moves.len() >= limits::MAX_MOVE_TASKS {
            return refuse("There are 100 active message move tasks, which is the most.");
        }
        Ok((source, destination))
    }

    fn existing(&self, parameter: &'static str, arn: &str) -> StoreResult<QueueName> {
        if !is_arn(arn) {
            return Err(QueueError::InvalidParameter(format!(
                "You must use this format to specify the {parameter}: \
                 arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
            )));
        }
        let name = QueueName::from_arn(arn);
        name.filter(|name| self.queues.contains_key(name))
            .ok_or(QueueError::ResourceNotFound(parameter))
    }

    /// Ends a task; what it moved stays where it is. Returns how many that are.
    pub(crate) fn cancel_move(&mut self, task: &str) -> StoreResult<u64> {
        let (id, source_arn) = read_handle(task).ok_or_else(|| {
            let reason = "Value for parameter TaskHandle is invalid.";
            QueueError::InvalidParameter(reason.to_owned())
        })?;
        self.existing("SourceArn", &source_arn)?;
        let found: Option<(i64, u64)> = self
            .database
            .conn
            .prepare_cached("SELECT number, moved FROM move_task WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (number, moved) = found.ok_or(QueueError::TaskDoesNotExist)?;
        if !self.moves.iter().any(|active| active.number == number) {
            return Err(QueueError::MoveTaskRefused(
                "Only active tasks can be cancelled.",
            ));
        }
        self.end_move(number, MoveStatus::Cancelled, None)?;
        Ok(moved)
    }

    /// The tasks of a source queue, the latest first.
    pub(crate) fn list_moves(&self, source_arn: &str, max: usize) -> StoreResult<Vec<MoveTask>> {
        let source = self.existing("SourceArn", source_arn)?;
        let mut statement = self.database.conn.prepare_cached(
            "SELECT id, source_arn, destination_arn, per_second, status, moved, to_move, failure,
                 started_at
             FROM move_task WHERE source = ?1 ORDER BY number DESC LIMIT ?2",
        )?;
        let tasks = statement.query_map(params![source.as_str(), max], |row| {
            let source_arn: String = row.get(1)?;
            let status: String = row.get(4)?;
            Ok(MoveTask {
                handle: handle(Uuid::from_bytes(row.get(0)?), &source_arn),
                request: MoveRequest {
                    source_arn,
                    destination_arn: row.get(2)?,
                    per_second: row.get(3)?,
                },
                status: MoveStatus::parse(&status).unwrap_or(MoveStatus::Failed),
                moved: row.get(5)?,
                to_move: row.get(6)?,
                failure: row.get(7)?,
                started_at_ms: row.get(8)?,
            })
        })?;
        Ok(tasks.collect::<rusqlite::Result<_>>()?)
    }

    /// When the next step of a task is due.
    pub(crate) fn next_move(&self) -> Option<u64> {
        self.moves.iter().map(|active| active.next_at).min()
    }

    /// One step of each task that is due: a bounded number of messages.
    pub(crate) fn move_messages(&mut self, now: u64) -> StoreResult<()> {
        let due = self.moves.iter().filter(|active| active.next_at <= now);
        for active in due.cloned().collect::<Vec<_>>() {
            let step = self.move_step(&active, now)?;
            match step {
                Step::Moved(count) => self.moved(&active, count, now)?,
                Step::Done => self.end_move(active.number, MoveStatus::Completed, None)?,
                Step::Failed(why) => {
                    self.end_move(active.number, MoveStatus::Failed, Some(why))?;
                }
            }
        }
        Ok(())
    }

    fn move_step(&mut self, active: &ActiveMove, now: u64) -> StoreResult<Step> {
        let source = &active.source;
        if self.queue(source)?.id != active.source_id {
            return Ok(Step::Done);
        }
        let rows = self.movable(active, now)?;
        if rows.is_empty() {
            return Ok(Step::Done);
        }
        let mut moved = 0;
        for row in &rows {
            let queue = self.queue(source)?;
            if queue.is_expired(row.sent_at, now) {
                self.remove(source, row.seq, row.visible_at)?;
                continue;
            }
            let target = match &active.destination {
                Some(target) => Some(target.clone()),
                None => self.dead_letter_source(row_id(queue.id, row.seq))?,
            };
            let failure = match &target {
                None => Some(NO_SOURCE),
                Some(target) if !self.queues.contains_key(target) => Some(NO_QUEUE),
                Some(_) => None,
            };
            let (Some(target), None) = (target, failure) else {
                // What this step moved is counted; the next one fails at once.
                return Ok(match (moved, failure) {
                    (0, Some(why)) => Step::Failed(why),
                    _ => Step::Moved(moved),
                });
            };
            let why = Transfer::Move {
                id: MessageId(Uuid::new_v4()),
            };
            self.transfer(source, &target, row, why, now)?;
            moved += 1;
        }
        Ok(Step::Moved(moved))
    }

    /// The next messages of a task; those in flight or delayed are not its own.
    fn movable(&mut self, active: &ActiveMove, now: u64) -> StoreResult<Vec<Candidate>> {
        let conn = &self.database.conn;
        let queue = self
            .queues
            .get_mut(&active.source)
            .ok_or(QueueError::QueueDoesNotExist)?;
        queue.schedule.advance(now);
        let limit = active.step();
        let Some(groups) = queue.schedule.groups() else {
            let until = active.until_seq;
            return Ok(select_visible_until(conn, queue.id, now, until, limit)?);
        };
        let mut rows = Vec::new();
        let mut after = i64::MIN;
        while rows.len() < limit
            && let Some((head, group)) = groups.next_free(after)
            && head <= active.until_seq
        {
            after = head;
            let wanted = limit - rows.len();
            let group = select_group(conn, queue.id, &group, wanted)?.into_iter();
            rows.extend(
                group.take_while(|row| row.visible_at <= now as i64 && row.seq <= active.until_seq),
            );
        }
        Ok(rows)
    }

    fn dead_letter_source(&self, row: i64) -> StoreResult<Option<QueueName>> {
        let arn: Option<String> = self
            .database
            .conn
            .prepare_cached("SELECT dead_letter_source FROM payload WHERE row = ?1")?
            .query_row([row], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(arn.and_then(|arn| QueueName::from_arn(&arn)))
    }

    fn moved(&mut self, active: &ActiveMove, count: usize, now: u64) -> StoreResult<()> {
        self.database
            .conn
            .prepare_cached("UPDATE move_task SET moved = moved + ?2 WHERE number = ?1")?
            .execute(params![active.number, count])?;
        let pause = active
            .per_second
            .map_or(0, |rate| count as u64 * 1000 / u64::from(rate.max(1)));
        let tasks = self.moves.iter_mut();
        for task in tasks.filter(|task| task.number == active.number) {
            task.next_at = now + pause;
        }
        Ok(())
    }

    fn end_move(
        &mut self,
        number: i64,
        status: MoveStatus,
        failure: Option<&str>,
    ) -> StoreResult<()> {
        self.database
            .conn
            .prepare_cached("UPDATE move_task SET status = ?2, failure = ?3 WHERE number = ?1")?
            .execute(params![number, status.as_str(), failure])?;
        self.moves.retain(|active| active.number != number);
        Ok(())
    }

    /// Tasks go with their source queue.
    pub(super) fn forget_moves(&mut self, source: &QueueName) -> StoreResult<()> {
        self.database
            .conn
            .prepare_cached("DELETE FROM move_task WHERE source = ?1")?
            .execute([source.as_str()])?;
        self.moves.retain(|active| active.source != *source);
        Ok(())
    }

    fn prune_moves(&self, source: &QueueName) -> StoreResult<()> {
        self.database
            .conn
            .prepare_cached(
                "DELETE FROM move_task WHERE source = ?1 AND number NOT IN
                     (SELECT number FROM move_task WHERE source = ?1
                      ORDER BY number DESC LIMIT ?2)",
            )?
            .execute(params![source.as_str(), limits::MAX_LISTED_MOVE_TASKS])?;
        Ok(())
    }
}

impl ActiveMove {
    /// Messages of one step: with a rate, a tenth of a second's.
    fn step(&self) -> usize {
        self.per_second.map_or(limits::MOVES_PER_STEP, |rate| {
            (rate as usize / 10).clamp(1, limits::MOVES_PER_STEP)
        })
    }
}

/// A handle as SQS makes them: base64 of a JSON object.
fn handle(id: Uuid, source_arn: &str) -> String {
    STANDARD.encode(
        serde_json::json!({ "taskId": id.to_string(), "sourceArn": source_arn }).to_string(),
    )
}

/// The task's id and its source's ARN.
fn read_handle(handle: &str) -> Option<(Uuid, String)> {
    let json = STANDARD.decode(handle).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&json).ok()?;
    let id = json["taskId"].as_str()?.parse().ok()?;
    Some((id, json["sourceArn"].as_str()?.to_owned()))
}

fn is_arn(text: &str) -> bool {
    text.starts_with("arn:") && text.split(':').count() >= 6
}
