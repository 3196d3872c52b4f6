//! A guest's own connection: one statement after the other, on a thread where
//! waiting for the disk or for a lock holds nobody up.

use std::sync::Arc;

use rusqlite::params_from_iter;
use rusqlite::types::Value;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{Database, DatabaseError};
use crate::stores::MAX_RESULT_BYTES;

/// What a statement gave.
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// Each row's values, in the order of the columns.
    pub rows: Vec<Vec<Value>>,
}

/// A connection that belongs to one handle of one guest. Transactions span its
/// statements; what was not committed is rolled back when it is dropped.
pub struct Connection {
    /// Gone while a statement runs, and for good if that is never waited for.
    session: Option<Session>,
}

impl Connection {
    /// Takes a connection's place, waiting for one within bounds. The file is
    /// opened for the first statement.
    pub async fn open(database: &Arc<Database>) -> Result<Self, DatabaseError> {
        Ok(Self {
            session: Some(Session {
                sqlite: None,
                database: Arc::clone(database),
                abandoned: CancellationToken::new(),
                _slot: database.slot().await?,
            }),
        })
    }

    /// Runs a statement. If it is not waited for to its end, it is interrupted
    /// and the connection is closed.
    pub async fn execute(
        &mut self,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Rows, DatabaseError> {
        let mut session = self.session.take().ok_or(DatabaseError::Lost)?;
        let abandon = session.abandoned.clone().drop_guard();
        let running = tokio::task::spawn_blocking(move || {
            let outcome = session.execute(&statement, parameters);
            (session, outcome)
        });
        let (session, outcome) = running.await.map_err(|_| DatabaseError::Lost)?;
        abandon.disarm();
        self.session = Some(session);
        outcome
    }

    /// The rowid of the latest INSERT, or 0.
    pub fn last_insert_rowid(&self) -> i64 {
        let sqlite = self.sqlite();
        sqlite.map_or(0, rusqlite::Connection::last_insert_rowid)
    }

    /// The rows that the latest INSERT, UPDATE or DELETE touched.
    pub fn changes(&self) -> u64 {
        self.sqlite().map_or(0, rusqlite::Connection::changes)
    }

    fn sqlite(&self) -> Option<&rusqlite::Connection> {
        self.session.as_ref()?.sqlite.as_ref()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Undoing a large transaction takes its time.
        if self.sqlite().is_some_and(|sqlite| !sqlite.is_autocommit())
            && let Ok(runtime) = Handle::try_current()
        {
            let session = self.session.take();
            runtime.spawn_blocking(move || drop(session));
        }
    }
}

/// What a statement takes along to its thread. Its place is free again when the
/// connection is closed, not before.
struct Session {
    sqlite: Option<rusqlite::Connection>,
    database: Arc<Database>,
    abandoned: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Session {
    fn execute(&mut self, statement: &str, parameters: Vec<Value>) -> Result<Rows, DatabaseError> {
        if self.abandoned.is_cancelled() {
            return Err(DatabaseError::Lost);
        }
        let sqlite = match &self.sqlite {
            Some(sqlite) => sqlite,
            None => self
                .sqlite
                .insert(self.database.connect(self.abandoned.clone())?),
        };
        let mut statement = sqlite.prepare_cached(statement)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query(params_from_iter(parameters))?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some(row) = found.next()? {
            bytes += size_of::<Vec<Value>>();
            let mut values = Vec::with_capacity(columns.len());
            for column in 0..columns.len() {
                let value: Value = row.get(column)?;
                bytes += size_of::<Value>() + heap_bytes(&value);
                if bytes > MAX_RESULT_BYTES {
                    return Err(DatabaseError::TooLarge);
                }
                values.push(value);
            }
            rows.push(values);
        }
        Ok(Rows { columns, rows })
    }
}

fn heap_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
    }
}
