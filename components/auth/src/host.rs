//! What the component asks of its host: the session store, randomness, its log.

use std::time::{SystemTime, UNIX_EPOCH};

use spin_sdk::key_value::{Error as StoreError, Store};

use crate::failure::Failure;

/// The label that the manifest grants.
const LABEL: &str = "sessions";

/// The entries of the session store.
pub(crate) struct Sessions(Store);

impl Sessions {
    pub(crate) fn open() -> Result<Self, Failure> {
        Store::open(LABEL).map(Self).map_err(explain)
    }

    pub(crate) fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.0.get(key).map_err(explain)
    }

    pub(crate) fn store(&self, key: &str, document: &[u8]) -> Result<(), Failure> {
        self.0.set(key, document).map_err(explain)
    }

    /// Deletes an entry, if it is there.
    pub(crate) fn delete(&self, key: &str) -> Result<(), Failure> {
        self.0.delete(key).map_err(explain)
    }

    /// Whether the store answers.
    pub(crate) fn ping(&self) -> Result<(), Failure> {
        self.0.exists("readyz").map(drop).map_err(explain)
    }
}

fn explain(error: StoreError) -> Failure {
    Failure::Sessions(match error {
        StoreError::NoSuchStore => format!("no such store: `{LABEL}`"),
        StoreError::AccessDenied => format!("access denied: `{LABEL}` is not granted"),
        StoreError::StoreTableFull => "too many stores are open".to_owned(),
        StoreError::Other(reason) => reason,
    })
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}

/// The component's log is its stderr; the host keeps it.
#[allow(
    clippy::print_stderr,
    reason = "this is the component's one way to its log"
)]
pub(crate) fn log(failure: &Failure) {
    eprintln!("auth: {failure}");
}
