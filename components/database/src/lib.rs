//! One small interface to two databases: the embedded SQLite of the host, or
//! PostgreSQL when the variable `database_url` is set. Statements are written in
//! the SQL that both understand, with `?1`, `?2`, … for values.

mod value;

pub use value::{Row, Value};

/// Why a database did not do what it was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not answer, or failed; for the log, not for a caller's eyes.
    #[error("the database failed: {0}")]
    Failed(String),
    /// A row is not what the statement promised.
    #[error("column {0} of the answer is missing or of another type")]
    Column(usize),
}

/// A statement as PostgreSQL wants it: `$1` for `?1`. No text of ours holds a `?`.
#[cfg(any(target_family = "wasm", test))]
fn for_postgres(statement: &str) -> String {
    statement.replace('?', "$")
}

#[cfg(target_family = "wasm")]
pub use live::Database;

#[cfg(target_family = "wasm")]
mod live {
    use spin_sdk::sqlite3 as sqlite;
    use spin_sdk::wit::pg4 as postgres;

    use crate::{Error, Row, Value, for_postgres};

    /// `undefined_table` (PostgreSQL, appendix A).
    const UNDEFINED_TABLE: &str = "42P01";

    /// `serialization_failure` and `deadlock_detected`: the statement did nothing,
    /// because another one was in its way.
    const IN_THE_WAY: [&str; 2] = ["40001", "40P01"];

    /// How often a statement is tried that others were in the way of.
    const TRIES: usize = 3;

    /// An open database. It belongs to one invocation.
    pub struct Database {
        connection: Connection,
        schema: &'static [&'static str],
    }

    enum Connection {
        Sqlite(sqlite::Connection),
        Postgres(postgres::Connection),
    }

    enum Failure {
        NoSuchTable,
        InTheWay(Error),
        Other(Error),
    }

    impl Database {
        /// Opens PostgreSQL when `database_url` is set, else the SQLite database
        /// that is granted as `label`. The statements of `schema` must bear being
        /// run twice: all are run when a table is found missing. The last one
        /// creates a table, so that a crash between two of them shows.
        pub fn open(label: &str, schema: &'static [&'static str]) -> Result<Self, Error> {
            let url = settings::optional("database_url").map_err(failed)?;
            let connection = match url {
                Some(url) => Connection::Postgres(
                    postgres::Connection::open(&url).map_err(|error| failed(explain(error)))?,
                ),
                None => Connection::Sqlite(sqlite::Connection::open(label).map_err(failed)?),
            };
            Ok(Self { connection, schema })
        }

        /// Runs one statement, which stands alone, and returns its rows; those that
        /// change something tell by `RETURNING` what they changed.
        pub fn query(&self, statement: &str, values: &[Value]) -> Result<Vec<Row>, Error> {
            let mut tries = 1;
            loop {
                match self.connection.query(statement, values) {
                    Ok(rows) => return Ok(rows),
                    Err(Failure::NoSuchTable) if tries < TRIES => self.create_tables()?,
                    Err(Failure::InTheWay(_)) if tries < TRIES => {}
                    Err(failure) => return Err(failure.into()),
                }
                tries += 1;
            }
        }

        /// Whether the database answers.
        pub fn ping(&self) -> Result<(), Error> {
            self.query("SELECT 1", &[]).map(drop)
        }

        /// PostgreSQL does it as one statement, and for one session at a time: even
        /// `IF NOT EXISTS` fails when two create the same.
        fn create_tables(&self) -> Result<(), Error> {
            match &self.connection {
                Connection::Sqlite(_) => {
                    for statement in self.schema {
                        self.connection.query(statement, &[])?;
                    }
                }
                Connection::Postgres(_) => {
                    let statements = self.schema.join(";\n");
                    let block = format!(
                        "DO $$ BEGIN PERFORM pg_advisory_xact_lock(4716012);\n{statements};\nEND $$"
                    );
                    self.connection.query(&block, &[])?;
                }
            }
            Ok(())
        }
    }

    impl From<Failure> for Error {
        fn from(failure: Failure) -> Self {
            match failure {
                Failure::NoSuchTable => failed("the schema lacks a table"),
                Failure::InTheWay(error) | Failure::Other(error) => error,
            }
        }
    }

    impl Connection {
        fn query(&self, statement: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
            match self {
                Self::Sqlite(connection) => {
                    let values: Vec<_> = values.iter().map(to_sqlite).collect();
                    let result = connection.execute(statement, &values).map_err(|error| {
                        let text = error.to_string();
                        // SQLite has one code for all mistakes in a statement.
                        if text.contains("no such table") {
                            Failure::NoSuchTable
                        } else {
                            Failure::Other(failed(text))
                        }
                    })?;
                    let rows = result.rows.into_iter();
                    Ok(rows
                        .map(|row| Row::new(row.values.into_iter().map(from_sqlite).collect()))
                        .collect())
                }
                Self::Postgres(connection) => {
                    let values: Vec<_> = values.iter().map(to_postgres).collect();
                    let result = connection
                        .query(&for_postgres(statement), &values)
                        .map_err(of_postgres)?;
                    let rows = result.rows.into_iter();
                    Ok(rows
                        .map(|row| Row::new(row.into_iter().map(from_postgres).collect()))
                        .collect())
                }
            }
        }
    }

    fn of_postgres(error: postgres::Error) -> Failure {
        let postgres::Error::QueryFailed(postgres::QueryError::DbError(error)) = error else {
            return Failure::Other(failed(explain(error)));
        };
        match error.code.as_str() {
            UNDEFINED_TABLE => Failure::NoSuchTable,
            code if IN_THE_WAY.contains(&code) => Failure::InTheWay(failed(error.message)),
            code => Failure::Other(failed(format!("{code} {}", error.message))),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "what `map_err` gives is a value"
    )]
    fn failed(reason: impl ToString) -> Error {
        Error::Failed(reason.to_string())
    }

    /// The text holds no password and no value; on Spin it may name host and port.
    fn explain(error: postgres::Error) -> String {
        match error {
            postgres::Error::ConnectionFailed(reason) => format!("cannot connect: {reason}"),
            postgres::Error::BadParameter(reason)
            | postgres::Error::ValueConversionFailed(reason)
            | postgres::Error::Other(reason)
            | postgres::Error::QueryFailed(postgres::QueryError::Text(reason)) => reason,
            postgres::Error::QueryFailed(postgres::QueryError::DbError(error)) => {
                format!("{} {}", error.code, error.message)
            }
        }
    }

    fn to_sqlite(value: &Value) -> sqlite::Value {
        match value {
            Value::Null => sqlite::Value::Null,
            Value::Integer(number) => sqlite::Value::Integer(*number),
            Value::Text(text) => sqlite::Value::Text(text.clone()),
        }
    }

    fn from_sqlite(value: sqlite::Value) -> Option<Value> {
        match value {
            sqlite::Value::Null => Some(Value::Null),
            sqlite::Value::Integer(number) => Some(Value::Integer(number)),
            sqlite::Value::Text(text) => Some(Value::Text(text)),
            sqlite::Value::Real(_) | sqlite::Value::Blob(_) => None,
        }
    }

    fn to_postgres(value: &Value) -> postgres::ParameterValue {
        match value {
            Value::Null => postgres::ParameterValue::DbNull,
            Value::Integer(number) => postgres::ParameterValue::Int64(*number),
            Value::Text(text) => postgres::ParameterValue::Str(text.clone()),
        }
    }

    fn from_postgres(value: postgres::DbValue) -> Option<Value> {
        match value {
            postgres::DbValue::DbNull => Some(Value::Null),
            postgres::DbValue::Int64(number) => Some(Value::Integer(number)),
            postgres::DbValue::Int32(number) => Some(Value::Integer(number.into())),
            postgres::DbValue::Str(text) => Some(Value::Text(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_the_database_s_own() {
        assert_eq!(
            for_postgres("INSERT INTO a VALUES (?1, ?12) RETURNING b"),
            "INSERT INTO a VALUES ($1, $12) RETURNING b"
        );
    }
}
