//! The store with a clock that the test moves: retention, sweeping, the limit of messages in
//! flight, undoing.
#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

use uuid::Uuid;

use super::*;
use crate::attributes::AttributeChanges;
use crate::limits;
use crate::model::{Deletion, Depth, ReceiptHandle};

const START: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;
const ONE: Take = Take {
    max: 1,
    visibility_secs: None,
    attempt_id: None,
};
const TEN: Take = Take {
    max: 10,
    visibility_secs: None,
    attempt_id: None,
};

fn name() -> QueueName {
    QueueName::parse("q").unwrap()
}

/// A queue whose messages live for a minute and hide for 30 s, in an open transaction.
fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), "r".to_owned(), None, START).unwrap();
    let changes = AttributeChanges {
        retention_secs: Some(60),
        ..AttributeChanges::default()
    };
    store.begin(true).unwrap();
    store
        .create_queue(&name(), &changes, &BTreeMap::new(), START)
        .unwrap();
    store.commit().unwrap();
    store.begin(false).unwrap();
    (dir, store)
}

fn send(store: &mut Store, count: usize, delay_secs: u32, now: u64) {
    let message = |n: usize| PreparedMessage {
        id: MessageId(Uuid::new_v4()),
        body: n.to_string(),
        body_md5: Md5Digest::of_body(""),
        attributes: None,
        trace_header: None,
        delay_secs: Some(delay_secs),
        group_id: None,
        deduplication_id: None,
        body_sha256: None,
        bytes: 1,
    };
    let messages: Vec<_> = (0..count).map(message).collect();
    let results = store.send(&name(), &messages, false, now).unwrap();
    assert!(results.iter().all(Result::is_ok));
}

fn depth(store: &mut Store, now: u64) -> (u64, u64, u64) {
    let Depth {
        visible,
        in_flight,
        delayed,
    } = store.describe(&name(), now).unwrap().depth;
    (visible, in_flight, delayed)
}

fn rows(store: &Store) -> (u64, u64) {
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        store
            .database
            .conn
            .query_row(&sql, [], |row| row.get(0))
            .unwrap()
    };
    (count("payload"), count("delivery"))
}

#[test]
fn an_expired_message_is_deleted_instead_of_delivered() {
    let (_dir, mut store) = store();
    send(&mut store, 1, 0, START);
    send(&mut store, 1, 0, START + 1);
    let taken = store.take(&name(), &TEN, START + MINUTE).unwrap();
    assert_eq!(taken.messages.len(), 1);
    assert_eq!(taken.messages[0].sent_at_ms, START + 1);
    assert_eq!(depth(&mut store, START + MINUTE), (0, 1, 0));
    assert_eq!(rows(&store), (1, 1));
}

#[test]
fn the_sweep_deletes_expired_messages_in_every_state() {
    let (_dir, mut store) = store();
    send(&mut store, 3, 0, START);
    send(&mut store, 1, 900, START);
    store.take(&name(), &ONE, START + 40_000).unwrap();
    send(&mut store, 1, 0, START + 50_000);
    assert_eq!(store.sweep(START + MINUTE - 1).unwrap(), Swept::default());
    assert_eq!(depth(&mut store, START + MINUTE), (3, 1, 1));
    let swept = store.sweep(START + MINUTE).unwrap();
    assert_eq!(
        swept,
        Swept {
            deleted: 4,
            more: false
        }
    );
    assert_eq!(depth(&mut store, START + MINUTE), (1, 0, 0));
    assert_eq!(rows(&store), (1, 1));
}

#[test]
fn the_sweep_is_bounded_and_comes_to_an_end() {
    let (_dir, mut store) = store();
    let count = limits::SWEEP_DELETE_ROWS * 2 + 5;
    send(&mut store, count, 0, START);
    let later = START + MINUTE;
    let mut passes = Vec::new();
    loop {
        let swept = store.sweep(later).unwrap();
        passes.push(swept.deleted);
        if !swept.more {
            break;
        }
    }
    assert_eq!(
        passes,
        [limits::SWEEP_DELETE_ROWS, limits::SWEEP_DELETE_ROWS, 5]
    );
    assert_eq!(
        (depth(&mut store, later), rows(&store)),
        ((0, 0, 0), (0, 0))
    );
}

#[test]
fn a_receive_gives_up_its_turn_among_expired_messages() {
    let (_dir, mut store) = store();
    send(&mut store, limits::DISPOSALS_PER_RECEIVE + 5, 0, START);
    send(&mut store, 1, 0, START + MINUTE);
    let first = store.take(&name(), &ONE, START + MINUTE).unwrap();
    assert!(first.messages.is_empty() && first.unfinished);
    let second = store.take(&name(), &ONE, START + MINUTE).unwrap();
    assert!(second.messages.len() == 1 && !second.unfinished);
}

#[test]
fn purged_and_deleted_queues_are_swept_from_disk() {
    let (_dir, mut store) = store();
    send(&mut store, 3, 0, START);
    store.purge_queue(&name()).unwrap();
    send(&mut store, 1, 0, START);
    assert_eq!(
        (depth(&mut store, START), rows(&store)),
        ((1, 0, 0), (4, 4))
    );
    while store.sweep(START).unwrap().more {}
    assert_eq!(
        (depth(&mut store, START), rows(&store)),
        ((1, 0, 0), (1, 1))
    );
    store.delete_queue(&name()).unwrap();
    while store.sweep(START).unwrap().more {}
    assert_eq!(rows(&store), (0, 0));
    assert_eq!(
        store
            .database
            .conn
            .query_row("SELECT count(*) FROM queue", [], |r| r.get(0)),
        Ok(0)
    );
}

#[test]
fn the_limit_of_messages_in_flight_holds() {
    let (_dir, mut store) = store();
    send(&mut store, limits::MAX_IN_FLIGHT + 1, 0, START);
    let mut taken = 0;
    loop {
        let messages = store.take(&name(), &TEN, START).unwrap().messages;
        if messages.is_empty() {
            break;
        }
        taken += messages.len();
    }
    assert_eq!(taken, limits::MAX_IN_FLIGHT);
    assert!(store.is_over_limit(&name()).unwrap());
    assert_eq!(
        depth(&mut store, START),
        (1, limits::MAX_IN_FLIGHT as u64, 0)
    );
}

#[test]
fn what_was_undone_is_undone_in_memory_too() {
    let (_dir, mut store) = store();
    send(&mut store, 2, 0, START);
    store.commit().unwrap();
    store.begin(true).unwrap();
    send(&mut store, 5, 10, START);
    store.take(&name(), &ONE, START).unwrap();
    assert_eq!(depth(&mut store, START), (1, 1, 5));
    store.roll_back(START).unwrap();
    assert_eq!(
        (depth(&mut store, START), rows(&store)),
        ((2, 0, 0), (2, 2))
    );
    store.begin(true).unwrap();
    send(&mut store, 1, 0, START);
    assert_eq!(store.take(&name(), &TEN, START).unwrap().messages.len(), 3);
}

#[test]
fn a_release_leaves_no_trace_of_the_receive() {
    let (_dir, mut store) = store();
    send(&mut store, 2, 0, START);
    let first = store
        .take(&name(), &ONE, START + 5)
        .unwrap()
        .messages
        .remove(0);
    store
        .release(&name(), &first.receipt_handle, START + 6)
        .unwrap();
    assert_eq!(depth(&mut store, START + 6), (2, 0, 0));
    let again = store
        .take(&name(), &ONE, START + 7)
        .unwrap()
        .messages
        .remove(0);
    assert_eq!(again.id, first.id, "it is first in line again");
    assert_eq!(
        (again.receive_count, again.first_received_at_ms),
        (1, START + 7)
    );
    assert_eq!(
        store
            .delete(&name(), &first.receipt_handle, START + 8)
            .unwrap(),
        Deletion::Stale
    );
}

/// The 12 hours count from the receive, whatever was changed in between.
#[test]
fn a_message_is_hidden_for_twelve_hours_at_most() {
    const HOUR: u64 = 3_600_000;
    let (_dir, mut store) = store();
    let day = AttributeChanges {
        retention_secs: Some(86_400),
        ..AttributeChanges::default()
    };
    store.set_attributes(&name(), &day, START).unwrap();
    send(&mut store, 1, 0, START);
    let receive = |store: &mut Store, now: u64| {
        let mut taken = store.take(&name(), &ONE, now).unwrap().messages;
        taken.remove(0).receipt_handle
    };
    let received = START + HOUR;
    let handle = receive(&mut store, received);
    let change = |store: &mut Store, handle: &ReceiptHandle, secs: u32, now: u64| {
        store.change_visibility(&name(), handle, secs, now)
    };
    change(&mut store, &handle, 43_200, received).unwrap();
    let later = received + HOUR;
    let refused = change(&mut store, &handle, 11 * 3_600 + 1, later).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Value 39601 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout \
         for the message is beyond the limit [43200 seconds]"
    );
    change(&mut store, &handle, 11 * 3_600, later).unwrap();
    assert_eq!(depth(&mut store, later), (0, 1, 0));
    // It is known after a restart, too, and counts anew from the next receive.
    store.reload(later).unwrap();
    assert!(change(&mut store, &handle, 11 * 3_600 + 1, later).is_err());
    change(&mut store, &handle, 0, later).unwrap();
    let again = receive(&mut store, later);
    change(&mut store, &again, 43_200, later).unwrap();
}

fn fifo_name() -> QueueName {
    QueueName::parse("q.fifo").unwrap()
}

fn fifo_store() -> (tempfile::TempDir, Store) {
    let (dir, mut store) = store();
    let changes = AttributeChanges {
        fifo: Some(true),
        retention_secs: Some(3_600),
        ..AttributeChanges::default()
    };
    let tags = BTreeMap::new();
    store
        .create_queue(&fifo_name(), &changes, &tags, START)
        .unwrap();
    (dir, store)
}

fn send_fifo(store: &mut Store, group: &str, id: &str, now: u64) -> Stored {
    let message = PreparedMessage {
        id: MessageId(Uuid::new_v4()),
        body: id.to_owned(),
        body_md5: Md5Digest::of_body(id),
        attributes: None,
        trace_header: None,
        delay_secs: None,
        group_id: Some(group.to_owned()),
        deduplication_id: Some(id.to_owned()),
        body_sha256: None,
        bytes: 1,
    };
    let mut results = store.send(&fifo_name(), &[message], false, now).unwrap();
    results.remove(0).unwrap()
}

fn take_fifo(store: &mut Store, now: u64) -> Vec<String> {
    let taken = store.take(&fifo_name(), &TEN, now).unwrap();
    taken.messages.into_iter().map(|m| m.body).collect()
}

#[test]
fn a_deduplication_id_is_free_again_after_five_minutes() {
    const WINDOW: u64 = limits::DEDUPLICATION_MS;
    let (_dir, mut store) = fifo_store();
    let first = send_fifo(&mut store, "g", "a", START);
    let again = send_fifo(&mut store, "g", "a", START + WINDOW - 1);
    assert_eq!(again.id, first.id);
    let later = send_fifo(&mut store, "g", "a", START + WINDOW);
    assert_ne!(later.id, first.id);
    assert_eq!(take_fifo(&mut store, START + WINDOW), ["a", "a"]);
    let remembered = |store: &Store| -> u64 {
        let sql = "SELECT count(*) FROM deduplication";
        let conn = &store.database.conn;
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    store.sweep(START + 2 * WINDOW - 1).unwrap();
    assert_eq!(remembered(&store), 1);
    store.sweep(START + 2 * WINDOW).unwrap();
    assert_eq!(remembered(&store), 0);
}

#[test]
fn a_group_is_freed_when_its_visibility_timeouts_end() {
    let (_dir, mut store) = fifo_store();
    for (group, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send_fifo(&mut store, group, id, START);
    }
    let first = store.take(&fifo_name(), &ONE, START).unwrap().messages;
    assert_eq!(first[0].body, "a1");
    assert_eq!(take_fifo(&mut store, START + 1), ["b1"]);
    assert!(!store.has_available(&fifo_name(), START + 29_999));
    assert!(store.has_available(&fifo_name(), START + 30_000));
    assert_eq!(take_fifo(&mut store, START + 30_000), ["a1", "a2"]);
}

#[test]
fn messages_past_their_retention_leave_their_groups() {
    let (_dir, mut store) = fifo_store();
    let hour = 60 * MINUTE;
    for (id, at) in [("1", START), ("2", START), ("3", START + 1)] {
        send_fifo(&mut store, "g", id, at);
    }
    assert_eq!(take_fifo(&mut store, START + hour), ["3"]);
    send_fifo(&mut store, "h", "4", START + hour);
    store.sweep(START + 2 * hour).unwrap();
    assert!(take_fifo(&mut store, START + 2 * hour).is_empty());
    assert_eq!(rows(&store), (0, 0));
}

#[test]
fn what_was_undone_blocks_no_group() {
    let (_dir, mut store) = fifo_store();
    send_fifo(&mut store, "g", "1", START);
    store.commit().unwrap();
    store.begin(true).unwrap();
    send_fifo(&mut store, "g", "2", START);
    assert_eq!(take_fifo(&mut store, START), ["1", "2"]);
    store.roll_back(START).unwrap();
    store.begin(true).unwrap();
    assert_eq!(take_fifo(&mut store, START), ["1"]);
    // Undone, the send of 2 is not remembered either.
    let second = send_fifo(&mut store, "h", "2", START);
    assert!(second.sequence_number.is_some());
    assert_eq!(take_fifo(&mut store, START), ["2"]);
}
