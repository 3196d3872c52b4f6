//! What the component asks of its host: the store, and its log.

use spin_sdk::key_value::{Error as StoreError, Store};

use crate::worker::Stored;

/// The label that the manifest grants.
const LABEL: &str = "messages";

/// The stored document of a message, if it was processed.
pub(crate) fn load(message_id: &str) -> Result<Option<Vec<u8>>, String> {
    open()
        .and_then(|store| store.get(message_id))
        .map_err(explain)
        .inspect_err(|e| log(e))
}

/// Stores a document unless the message has one: a redelivery changes nothing.
pub(crate) fn store_once(stored: &Stored) -> Result<(), String> {
    let store_if_absent = || {
        let store = open()?;
        if store.exists(&stored.key)? {
            return Ok(());
        }
        store.set(&stored.key, &stored.document)
    };
    store_if_absent().map_err(explain)
}

/// Whether the store answers.
pub(crate) fn ping_store() -> Result<bool, String> {
    open()
        .and_then(|store| store.exists("readyz"))
        .map_err(explain)
}

fn open() -> Result<Store, StoreError> {
    Store::open(LABEL)
}

fn explain(error: StoreError) -> String {
    match error {
        StoreError::NoSuchStore => format!("no such store: `{LABEL}`"),
        StoreError::AccessDenied => format!("access denied: `{LABEL}` is not granted"),
        StoreError::StoreTableFull => "too many stores are open".to_owned(),
        StoreError::Other(reason) => reason,
    }
}

/// The component's log is its stderr; the host keeps it.
#[allow(
    clippy::print_stderr,
    reason = "this is the component's one way to its log"
)]
pub(crate) fn log(reason: &str) {
    eprintln!("process-message: {reason}");
}
