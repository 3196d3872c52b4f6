//! For tests: the statements on a real SQLite, in memory.

use database::{Row, Value};
use rusqlite::types::{Value as Stored, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::accounts::{SCHEMA, Statement};

/// An empty database with our tables.
pub(crate) struct Sqlite(Connection);

impl Sqlite {
    pub(crate) fn new() -> Self {
        let connection = Connection::open_in_memory().unwrap();
        for statement in SCHEMA {
            connection.execute(statement, []).unwrap();
        }
        Self(connection)
    }

    pub(crate) fn run(&self, statement: Statement) -> Vec<Row> {
        let mut prepared = self.0.prepare(&statement.sql).unwrap();
        let columns = prepared.column_count();
        let values = statement.values.into_iter().map(|value| match value {
            Value::Null => Stored::Null,
            Value::Integer(number) => Stored::Integer(number),
            Value::Text(text) => Stored::Text(text),
        });
        let rows = prepared.query_map(params_from_iter(values), |row| {
            let value = |column| match row.get_ref(column).unwrap() {
                ValueRef::Null => Some(Value::Null),
                ValueRef::Integer(number) => Some(Value::Integer(number)),
                ValueRef::Text(text) => Some(std::str::from_utf8(text).unwrap().into()),
                ValueRef::Real(_) | ValueRef::Blob(_) => None,
            };
            Ok(Row::new((0..columns).map(value).collect()))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}
