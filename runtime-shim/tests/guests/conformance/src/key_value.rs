//! `fermyon:spin/key-value` 2.0.0.

use spin_sdk::key_value::{Error, Store};

use crate::must::{Outcome, done, must};

/// Handles that a sandbox may hold. Spin: `DEFAULT_STORE_TABLE_CAPACITY`.
const HANDLES: usize = 256;

pub(crate) fn granted() -> Outcome {
    must!(Store::open("forbidden"), Err(Error::AccessDenied));
    let store = done("open", Store::open("default"))?;
    must!(store.delete("bar"), Ok(()));
    must!(store.exists("bar"), Ok(false));
    must!(store.get("bar"), Ok(None));
    must!(store.get_keys().as_deref(), Ok([]));

    must!(store.set("bar", b"baz"), Ok(()));
    must!(store.exists("bar"), Ok(true));
    must!(store.get("bar"), Ok(Some(value)) if value == b"baz");
    must!(store.get_keys().as_deref(), Ok([key]) if key == "bar");
    must!(store.set("bar", b"wow"), Ok(()));
    must!(store.get("bar"), Ok(Some(value)) if value == b"wow");
    must!(store.get_keys().as_deref(), Ok([key]) if key == "bar");

    // No bytes are a value, and so is a key without letters.
    must!(store.set("", b""), Ok(()));
    must!(store.exists(""), Ok(true));
    must!(store.get(""), Ok(Some(value)) if value.is_empty());
    must!(store.get_keys().map(sorted).as_deref(), Ok([none, bar]) if none.is_empty() && bar == "bar");

    // Two handles see one store.
    let twin = done("open again", Store::open("default"))?;
    must!(twin.get("bar"), Ok(Some(value)) if value == b"wow");
    must!(twin.delete("bar"), Ok(()));
    must!(store.exists("bar"), Ok(false));
    must!(store.delete("bar"), Ok(()));
    must!(store.delete(""), Ok(()));
    must!(store.get_keys().as_deref(), Ok([]));
    handles(2)
}

pub(crate) fn refused() -> Outcome {
    must!(Store::open("default"), Err(Error::AccessDenied));
    must!(Store::open("forbidden"), Err(Error::AccessDenied));
    Ok(())
}

fn handles(open: usize) -> Outcome {
    let mut held = Vec::new();
    for _ in open..HANDLES {
        held.push(done("open", Store::open("default"))?);
    }
    must!(Store::open("default"), Err(Error::StoreTableFull));
    held.pop();
    must!(Store::open("default"), Ok(_));
    Ok(())
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort();
    keys
}
