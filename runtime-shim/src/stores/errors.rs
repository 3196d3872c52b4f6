//! What can go wrong with a store: while it is opened, and in its use.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::limits::MAX_RESULT_BYTES;
use crate::backends::{CallError, TooManyBackends, Unavailable};
use crate::names::StoreLabel;

/// What can go wrong between the host and a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The server is known to be down: it was not asked.
    #[error(transparent)]
    Down(#[from] Unavailable),
    /// No answer in time.
    #[error("{backend} did not answer within {} s: it may do what was asked, or not", limit.as_secs())]
    TimedOut {
        /// The server.
        backend: Arc<str>,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The server was not reached, or broke off.
    #[error("the store cannot be used at present: {0}")]
    Broken(String),
    /// The server asks for patience, again and again.
    #[error("the store is throttling: its capacity is used up")]
    Throttled,
    /// Others changed the counter at every try.
    #[error("the counter `{key}` is changed by too many at the same time")]
    Contended {
        /// The key.
        key: String,
    },
    /// The database said no.
    #[error("{0}")]
    Database(String),
    /// The value under the key is not one that `increment` wrote.
    #[error("the value of key `{key}` is not a counter")]
    NotACounter {
        /// The key.
        key: String,
    },
    /// The counter is at the end of its range.
    #[error("adding {delta} to the counter `{key}` leaves the range of a signed 64-bit number")]
    Overflow {
        /// The key.
        key: String,
        /// What was to be added.
        delta: i64,
    },
    /// A key that the store does not take.
    #[error("the key has {bytes} bytes, this store takes keys up to {limit}")]
    Key {
        /// Its size.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// More than the store takes.
    #[error("the value has {bytes} bytes, this store takes {limit}")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// More than the host hands over at once.
    #[error("the result is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// The store was closed while the operation waited.
    #[error("the store is shutting down")]
    Closed,
}

impl StoreError {
    /// What a call to a server's failure means; `failed` explains its answer.
    pub(super) fn of_call<E: std::error::Error>(
        error: CallError<E>,
        failed: impl FnOnce(E) -> Self,
    ) -> Self {
        match error {
            CallError::Down(unavailable) => Self::Down(unavailable),
            CallError::TimedOut { backend, limit } => Self::TimedOut { backend, limit },
            CallError::Failed(error) => failed(error),
        }
    }

    pub(super) fn too_large() -> Self {
        Self::TooLarge {
            limit: MAX_RESULT_BYTES,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// Why the stores of an application cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoresError {
    /// A granted label that the runtime configuration does not define.
    #[error(
        "component `{component}` is granted the key-value store `{label}`, which the runtime \
         configuration does not define: add `[key_value_store.{label}]`"
    )]
    Undefined {
        /// The component.
        component: String,
        /// The label.
        label: StoreLabel,
    },
    /// A component stores larger values than the store takes.
    #[error(
        "component `{component}` keeps values of up to {needed} bytes in the key-value store \
         `{label}`, and {kind} takes {limit}: {hint}"
    )]
    TooSmall {
        /// The component.
        component: String,
        /// The label.
        label: StoreLabel,
        /// What the component says it needs.
        needed: usize,
        /// What kind of store it is.
        kind: &'static str,
        /// What that takes.
        limit: usize,
        /// What to do.
        hint: &'static str,
    },
    /// The embedded file did not open.
    #[error("cannot open key-value store `{label}` at `{}`: {source}", path.display())]
    Open {
        /// The label.
        label: StoreLabel,
        /// The SQLite file.
        path: PathBuf,
        /// What the database said.
        source: StoreError,
    },
    /// More servers than are watched.
    #[error("key-value store `{label}`: {source}")]
    Backends {
        /// The label.
        label: StoreLabel,
        /// The limit.
        source: TooManyBackends,
    },
}
