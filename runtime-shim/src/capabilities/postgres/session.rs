//! A guest's own connection, from the opening of its handle until that is
//! dropped: transactions span its statements, and nobody else sees them.

use std::sync::Arc;

use deadpool_postgres::Object;
use futures::TryStreamExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::error::PostgresError;
use super::pool::{Server, close};
use super::{v4, values};
use crate::stores::MAX_RESULT_BYTES;

/// Statements that a connection keeps prepared, and bytes of one.
const MAX_KEPT: usize = 64;
const MAX_KEPT_TEXT: usize = 4096;

/// A connection in a guest's hands.
#[allow(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Session {
    server: Arc<Server>,
    client: Option<Object>,
    /// A statement was sent: it is not as new any more.
    used: bool,
    /// A statement runs.
    busy: bool,
    /// Whether it can be made as new.
    reusable: bool,
}

impl Session {
    pub(super) async fn open(server: Arc<Server>) -> Result<Self, PostgresError> {
        let client = server.connect().await?;
        Ok(Self {
            server,
            client: Some(client),
            used: false,
            busy: false,
            reusable: true,
        })
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn query(
        &mut self,
        statement: &str,
        parameters: Vec<v4::ParameterValue>,
    ) -> Result<v4::RowSet, PostgresError> {
        let parameters = values::parameters(parameters)?;
        self.run(statement, async |client, statement| {
            collect(client, statement, parameters).await
        })
        .await
    }

    /// Runs a statement and returns how many rows it touched.
    pub(super) async fn execute(
        &mut self,
        statement: &str,
        parameters: Vec<v4::ParameterValue>,
    ) -> Result<u64, PostgresError> {
        let parameters = values::parameters(parameters)?;
        self.run(statement, async |client, statement| {
            Ok(client.execute_raw(statement, parameters).await?)
        })
        .await
    }

    async fn run<T>(
        &mut self,
        statement: &str,
        work: impl AsyncFnOnce(&Object, &Statement) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        // Left on if this future is dropped.
        let first = !std::mem::replace(&mut self.used, true);
        self.busy = true;
        let outcome = match self.prepare(statement, first).await {
            Ok(statement) => {
                let client = self.client.as_ref().ok_or(PostgresError::Lost)?;
                work(client, &statement).await
            }
            Err(error) => Err(error),
        };
        self.busy = false;
        if !keeps_tables(statement) {
            self.forget_statements();
        }
        if let Err(error) = &outcome {
            self.note(error);
        }
        outcome
    }

    /// Parsing changes nothing, so a connection that turns out to be closed is
    /// replaced here, once, if nothing was done on it.
    async fn prepare(&mut self, text: &str, first: bool) -> Result<Statement, PostgresError> {
        let client = self.client.as_ref().ok_or(PostgresError::Lost)?;
        let statement = match prepare(client, text).await {
            Err(error) if first && error.is_closed() => {
                let fresh = self.server.connect().await?;
                prepare(self.client.insert(fresh), text).await?
            }
            prepared => prepared?,
        };
        // For a type that is not built in, the client has asked the server by
        // statements of its own, which it keeps and `DISCARD ALL` would take away.
        let columns = statement
            .columns()
            .iter()
            .map(tokio_postgres::Column::type_);
        let mut types = statement.params().iter().chain(columns);
        if types.any(|kind| Type::from_oid(kind.oid()).is_none()) {
            self.reusable = false;
        }
        Ok(statement)
    }

    /// Those kept would be planned for tables as they were.
    fn forget_statements(&self) {
        if let Some(client) = &self.client {
            client.statement_cache.clear();
        }
    }

    /// Draws the conclusions from a statement that failed.
    fn note(&mut self, error: &PostgresError) {
        match error {
            PostgresError::Statement(error) => match error.code() {
                Some(code) if is_leaving(code) => self.server.backend().suspect(),
                // Somebody else may have changed a table under a kept statement.
                Some(&SqlState::FEATURE_NOT_SUPPORTED) => self.forget_statements(),
                Some(_) => {}
                None => {
                    self.reusable = false;
                    let closed = self.client.as_ref().is_none_or(|client| client.is_closed());
                    if closed || error.is_closed() {
                        self.server.backend().suspect();
                    }
                }
            },
            // The rest of the result is still coming.
            PostgresError::TooLarge | PostgresError::Value { .. } => {
                if let Some(client) = self.client.take() {
                    self.server.give_up(client);
                }
            }
            _ => {}
        }
    }
}

/// Whether a statement leaves tables and settings as they are: what it reads or
/// writes is rows. One that begins in another way, with a comment too, may not.
fn keeps_tables(statement: &str) -> bool {
    const ROWS: [&str; 7] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH",
    ];
    let first = statement.split_whitespace().next().unwrap_or_default();
    ROWS.iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// Whether the server says that it is about to close the connection.
fn is_leaving(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(code)
}

async fn collect(
    client: &Object,
    statement: &Statement,
    parameters: Vec<Box<dyn ToSql + Sync + Send>>,
) -> Result<v4::RowSet, PostgresError> {
    let columns = statement.columns().iter().map(|column| v4::Column {
        name: column.name().to_owned(),
        data_type: values::data_type(column.type_()),
    });
    let columns = columns.collect();
    let found = client.query_raw(statement, parameters).await?;
    let mut found = std::pin::pin!(found);
    let mut rows = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.try_next().await? {
        bytes += bytes_of(&row);
        if bytes > MAX_RESULT_BYTES {
            return Err(PostgresError::TooLarge);
        }
        rows.push(values::row(&row)?);
    }
    Ok(v4::RowSet { columns, rows })
}

/// Prepared statements are kept, here and on the server, within bounds: a guest
/// may have any number of long ones.
async fn prepare(client: &Object, text: &str) -> Result<Statement, tokio_postgres::Error> {
    if text.len() > MAX_KEPT_TEXT || client.statement_cache.size() >= MAX_KEPT {
        client.prepare(text).await
    } else {
        client.prepare_cached(text).await
    }
}

fn bytes_of(row: &Row) -> usize {
    size_of::<v4::Row>() + row.raw_size_bytes() + row.len() * size_of::<v4::DbValue>()
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        if self.busy {
            // Its guest was stopped while it waited: the server may be what is slow.
            self.server.backend().suspect();
            self.server.give_up(client);
        } else if !self.used {
            drop(client);
        } else if self.reusable {
            self.server.take_back(client);
        } else {
            close(client);
        }
    }
}
