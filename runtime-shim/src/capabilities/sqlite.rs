//! `fermyon:spin/sqlite` 2.0.0 and `spin:sqlite/sqlite` 3.0.0: the databases
//! whose labels the manifest grants.

use rusqlite::types::Value;
use wasmtime::component::{HasData, Resource, ResourceTable};

use super::MAX_OPEN_CONNECTIONS;
use super::bindings::fermyon::spin::sqlite as v2;
use super::bindings::spin::sqlite::sqlite as v3;
use crate::databases::{Connection, DatabaseError, Databases, Rows};

/// Marks the view for the linker.
pub(super) struct Sqlite;

impl HasData for Sqlite {
    type Data<'a> = SqliteView<'a>;
}

/// What SQLite calls see of a sandbox.
pub(super) struct SqliteView<'a> {
    pub(super) granted: &'a Databases,
    pub(super) table: &'a mut ResourceTable,
    pub(super) open: &'a mut usize,
}

/// Why a database did not open.
enum OpenError {
    NotGranted,
    TooMany,
    Database(DatabaseError),
}

impl SqliteView<'_> {
    async fn open(
        &mut self,
        label: &str,
    ) -> wasmtime::Result<Result<Resource<Connection>, OpenError>> {
        // Every granted label was opened at start, so one that is not here is
        // not granted.
        let Some(database) = self.granted.get(label) else {
            return Ok(Err(OpenError::NotGranted));
        };
        if *self.open >= MAX_OPEN_CONNECTIONS {
            return Ok(Err(OpenError::TooMany));
        }
        let connection = match Connection::open(database).await {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(OpenError::Database(error))),
        };
        *self.open += 1;
        Ok(Ok(self.table.push(connection)?))
    }

    async fn execute(
        &mut self,
        connection: &Resource<Connection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> wasmtime::Result<Result<Rows, DatabaseError>> {
        let connection = self.table.get_mut(connection)?;
        Ok(connection.execute(statement, parameters).await)
    }

    fn close(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        *self.open -= 1;
        Ok(())
    }
}

/// Both versions have the same types under names of their own.
macro_rules! convert {
    ($version:ident) => {
        impl From<$version::Value> for Value {
            fn from(value: $version::Value) -> Self {
                match value {
                    $version::Value::Integer(value) => Self::Integer(value),
                    $version::Value::Real(value) => Self::Real(value),
                    $version::Value::Text(value) => Self::Text(value),
                    $version::Value::Blob(value) => Self::Blob(value),
                    $version::Value::Null => Self::Null,
                }
            }
        }

        impl From<Value> for $version::Value {
            fn from(value: Value) -> Self {
                match value {
                    Value::Integer(value) => Self::Integer(value),
                    Value::Real(value) => Self::Real(value),
                    Value::Text(value) => Self::Text(value),
                    Value::Blob(value) => Self::Blob(value),
                    Value::Null => Self::Null,
                }
            }
        }

        impl From<Rows> for $version::QueryResult {
            fn from(found: Rows) -> Self {
                let row = |values: Vec<Value>| $version::RowResult {
                    values: values.into_iter().map(Into::into).collect(),
                };
                Self {
                    columns: found.columns,
                    rows: found.rows.into_iter().map(row).collect(),
                }
            }
        }

        impl From<DatabaseError> for $version::Error {
            fn from(error: DatabaseError) -> Self {
                match error {
                    DatabaseError::Full => Self::DatabaseFull,
                    DatabaseError::Lost => Self::InvalidConnection,
                    other => Self::Io(other.to_string()),
                }
            }
        }

        impl From<OpenError> for $version::Error {
            fn from(error: OpenError) -> Self {
                match error {
                    OpenError::NotGranted => Self::AccessDenied,
                    OpenError::TooMany => Self::Io("too many connections opened".to_owned()),
                    OpenError::Database(error) => error.into(),
                }
            }
        }
    };
}

convert!(v2);
convert!(v3);

fn into_values<V: Into<Value>>(parameters: Vec<V>) -> Vec<Value> {
    parameters.into_iter().map(Into::into).collect()
}

impl v2::Host for SqliteView<'_> {}

impl v2::HostConnection for SqliteView<'_> {
    async fn open(
        &mut self,
        database: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, v2::Error>> {
        let opened = SqliteView::open(self, &database).await?;
        Ok(opened.map_err(v2::Error::from))
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<v2::Value>,
    ) -> wasmtime::Result<Result<v2::QueryResult, v2::Error>> {
        let parameters = into_values(parameters);
        let found = SqliteView::execute(self, &connection, statement, parameters).await?;
        Ok(found.map(Into::into).map_err(Into::into))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}

impl v3::Host for SqliteView<'_> {}

impl v3::HostConnection for SqliteView<'_> {
    async fn open(
        &mut self,
        database: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, v3::Error>> {
        let opened = SqliteView::open(self, &database).await?;
        Ok(opened.map_err(v3::Error::from))
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<v3::Value>,
    ) -> wasmtime::Result<Result<v3::QueryResult, v3::Error>> {
        let parameters = into_values(parameters);
        let found = SqliteView::execute(self, &connection, statement, parameters).await?;
        Ok(found.map(Into::into).map_err(Into::into))
    }

    async fn last_insert_rowid(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<i64> {
        Ok(self.table.get(&connection)?.last_insert_rowid())
    }

    async fn changes(&mut self, connection: Resource<Connection>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&connection)?.changes())
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}
