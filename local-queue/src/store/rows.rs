//! The statements on `payload` and `delivery`, and how a row is named.
//! Owns SQL text and column order; refuses to know the counts in memory.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::PreparedMessage;
use crate::digest::Md5Digest;
use crate::limits;
use crate::model::{Message, MessageAttribute, MessageId, Receipt, ReceiptHandle};

/// Bits of a row id that hold the sequence number; the queue's id lies above them. 2^40
/// messages in the life of a queue, 2^23 queues (and purges) in the life of a database.
const SEQ_BITS: u32 = 40;

pub(super) fn row_id(queue_id: i64, seq: i64) -> i64 {
    (queue_id << SEQ_BITS) | seq
}

pub(super) fn queue_of(row: i64) -> i64 {
    row >> SEQ_BITS
}

pub(super) fn seq_of(row: i64) -> i64 {
    row & ((1 << SEQ_BITS) - 1)
}

/// A candidate row of a receive.
pub(super) struct Candidate {
    pub(super) seq: i64,
    pub(super) visible_at: i64,
    pub(super) sent_at: u64,
    pub(super) receive_count: u32,
    pub(super) first_received_at: u64,
}

pub(super) fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn last_seq(conn: &Connection, queue_id: i64) -> rusqlite::Result<i64> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT max(row) FROM payload WHERE row >= ?1 AND row < ?2")?
        .query_row([row_id(queue_id, 0), row_id(queue_id + 1, 0)], |row| {
            row.get(0)
        })?;
    Ok(last.map_or(0, seq_of))
}

pub(super) fn insert_payload(
    conn: &Connection,
    row: i64,
    message: &PreparedMessage,
    deduplication_id: Option<&str>,
) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO payload VALUES (?1, ?2, ?3, ?4, ?5, NULL, ?6, ?7, ?8)")?
        .execute(params![
            row,
            message.id.0.as_bytes(),
            message.body_md5.0,
            message.attributes,
            message.trace_header,
            message.body,
            message.group_id,
            deduplication_id
        ])
        .map(drop)
}

pub(super) fn insert_delivery(
    conn: &Connection,
    queue_id: i64,
    visible_at: u64,
    seq: i64,
    sent_at: u64,
    group: Option<&str>,
) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO delivery VALUES (?1, ?2, ?3, ?4, 0, 0, 0, ?5)")?
        .execute(params![queue_id, visible_at, seq, sent_at, group])
        .map(drop)
}

pub(super) fn delete_delivery(
    conn: &Connection,
    queue_id: i64,
    visible_at: i64,
    seq: i64,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM delivery WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
    )?
    .execute([queue_id, visible_at, seq])
    .map(drop)
}

/// Deletes a message of a FIFO queue from the schedule; `None` when it was not there.
pub(super) fn delete_grouped(
    conn: &Connection,
    queue_id: i64,
    visible_at: i64,
    seq: i64,
) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached(
        "DELETE FROM delivery WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3
         RETURNING group_id",
    )?
    .query_row([queue_id, visible_at, seq], |row| row.get(0))
    .optional()
    .map(Option::flatten)
}

/// Where a group of a FIFO queue begins.
pub(super) fn first_of_group(
    conn: &Connection,
    queue_id: i64,
    group: &str,
) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT min(seq) FROM delivery WHERE queue_id = ?1 AND group_id = ?2")?
        .query_row(params![queue_id, group], |row| row.get(0))
}

/// The first messages of a group, in order, visible or not.
pub(super) fn select_group(
    conn: &Connection,
    queue_id: i64,
    group: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    conn.prepare_cached(
        "SELECT seq, visible_at, sent_at, receive_count, first_received_at FROM delivery
         WHERE queue_id = ?1 AND group_id = ?2 ORDER BY seq LIMIT ?3",
    )?
    .query_map(params![queue_id, group, limit], candidate)?
    .collect()
}

/// The row of a message whose place is known.
pub(super) fn select_one(
    conn: &Connection,
    queue_id: i64,
    visible_at: u64,
    seq: i64,
) -> rusqlite::Result<Candidate> {
    conn.prepare_cached(
        "SELECT seq, visible_at, sent_at, receive_count, first_received_at FROM delivery
         WHERE queue_id = ?1 AND visible_at = ?2 AND seq = ?3",
    )?
    .query_row(params![queue_id, visible_at, seq], candidate)
}

fn candidate(row: &rusqlite::Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        seq: row.get(0)?,
        visible_at: row.get(1)?,
        sent_at: row.get(2)?,
        receive_count: row.get(3)?,
        first_received_at: row.get(4)?,
    })
}

pub(super) fn select_visible(
    conn: &Connection,
    queue_id: i64,
    now: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    conn.prepare_cached(
        "SELECT seq, visible_at, sent_at, receive_count, first_received_at FROM delivery
         WHERE queue_id = ?1 AND visible_at <= ?2 ORDER BY visible_at, seq LIMIT ?3",
    )?
    .query_map(params![queue_id, now, limit], candidate)?
    .collect()
}

/// As [`select_visible`], without messages that came after `until`.
pub(super) fn select_visible_until(
    conn: &Connection,
    queue_id: i64,
    now: u64,
    until: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    conn.prepare_cached(
        "SELECT seq, visible_at, sent_at, receive_count, first_received_at FROM delivery
         WHERE queue_id = ?1 AND visible_at <= ?2 AND seq <= ?4
         ORDER BY visible_at, seq LIMIT ?3",
    )?
    .query_map(params![queue_id, now, limit, until], candidate)?
    .collect()
}

/// The parts of a message that never change; the caller adds what `delivery` holds.
pub(super) fn read_payload(conn: &Connection, receipt: Receipt) -> rusqlite::Result<Message> {
    conn.prepare_cached(
        "SELECT id, body_md5, attributes, trace_header, dead_letter_source, body, group_id,
             deduplication_id
         FROM payload WHERE row = ?1",
    )?
    .query_row([receipt.row], |row| {
        let attributes: Option<String> = row.get(2)?;
        let attributes: BTreeMap<String, MessageAttribute> = match attributes {
            Some(json) => serde_json::from_str(&json).map_err(|error| unreadable(2, error))?,
            None => BTreeMap::new(),
        };
        Ok(Message {
            id: MessageId(Uuid::from_bytes(row.get(0)?)),
            receipt_handle: ReceiptHandle::encode(receipt),
            body: row.get(5)?,
            body_md5: Md5Digest(row.get(1)?),
            attributes,
            sent_at_ms: 0,
            receive_count: 0,
            first_received_at_ms: 0,
            trace_header: row.get(3)?,
            dead_letter_source_arn: row.get(4)?,
            group_id: row.get(6)?,
            deduplication_id: row.get(7)?,
            sequence_number: None,
        })
    })
}

/// Random bits of a nonce; the milliseconds of the receive stand above them, until the year 2109.
const NONCE_RANDOM_BITS: u32 = 21;

/// Tells two receives of one message apart, also across restarts, and when it was received; never
/// 0, which in a row means "not received".
pub(super) fn fresh_nonce(now: u64) -> i64 {
    let random = Uuid::new_v4().as_u64_pair().0 & ((1 << NONCE_RANDOM_BITS) - 1);
    ((now << NONCE_RANDOM_BITS) | random | 1) as i64
}

/// When the message was received, in milliseconds since the Unix epoch. `None` for a nonce of an
/// earlier version, which is random: no lease is older than the longest visibility timeout.
pub(super) fn received_at(nonce: i64, now: u64) -> Option<u64> {
    let at = nonce as u64 >> NONCE_RANDOM_BITS;
    let oldest = now.saturating_sub(u64::from(limits::MAX_VISIBILITY_SECS) * 1000);
    (oldest..=now).contains(&at).then_some(at)
}
