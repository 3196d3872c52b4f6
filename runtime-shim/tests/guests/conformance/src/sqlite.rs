//! `spin:sqlite/sqlite` 3.0.0 and `fermyon:spin/sqlite` 2.0.0.

use spin_sdk::sqlite as v2;
use spin_sdk::sqlite3::{Connection, Error, Value};

use crate::must::{Outcome, done, must};

pub(crate) fn granted() -> Outcome {
    must!(Connection::open("forbidden"), Err(Error::AccessDenied));
    let connection = done("open", Connection::open("default"))?;
    let create = "CREATE TABLE IF NOT EXISTS test_data (key TEXT NOT NULL, value TEXT NOT NULL)";
    must!(connection.execute(create, &[]), Ok(result) if result.rows.is_empty());
    must!(connection.execute("DELETE FROM test_data", &[]), Ok(_));
    let insert = "INSERT INTO test_data (key, value) VALUES ('my_key', 'my_value')";
    must!(connection.execute(insert, &[]), Ok(result) if result.columns.is_empty());
    must!(connection.changes(), 1);
    must!(connection.last_insert_rowid(), 1);

    let select = "SELECT * FROM test_data WHERE key = ?";
    let key = [Value::Text("my_key".to_owned())];
    let found = done("select", connection.execute(select, &key))?;
    must!(&found.columns[..], [key, value] if key == "key" && value == "value");
    must!(found.rows.len(), 1);
    must!(
        &found.rows[0].values[..],
        [Value::Text(key), Value::Text(value)] if key == "my_key" && value == "my_value"
    );
    every_type(&connection)?;
    errors(&connection)?;
    older()
}

pub(crate) fn refused() -> Outcome {
    must!(Connection::open("default"), Err(Error::AccessDenied));
    must!(
        v2::Connection::open("default"),
        Err(v2::Error::AccessDenied)
    );
    Ok(())
}

fn every_type(connection: &Connection) -> Outcome {
    let values = [
        Value::Integer(i64::MAX),
        Value::Real(0.5),
        Value::Text(String::new()),
        Value::Blob(vec![0, 1]),
        Value::Null,
    ];
    let found = done(
        "select",
        connection.execute("SELECT ?, ?, ?, ?, ?", &values),
    )?;
    must!(
        &found.rows[0].values[..],
        [Value::Integer(i64::MAX), Value::Real(real), Value::Text(text), Value::Blob(blob), Value::Null]
            if real.to_bits() == 0.5_f64.to_bits() && text.is_empty() && blob == &[0, 1]
    );
    Ok(())
}

/// The texts are SQLite's.
fn errors(connection: &Connection) -> Outcome {
    must!(
        connection.execute("SELECT * FROM no_table", &[]),
        Err(Error::Io(text)) if text.starts_with("no such table: no_table")
    );
    let null = "INSERT INTO test_data (key) VALUES ('lonely')";
    must!(
        connection.execute(null, &[]),
        Err(Error::Io(text)) if text == "NOT NULL constraint failed: test_data.value"
    );
    Ok(())
}

fn older() -> Outcome {
    must!(
        v2::Connection::open("forbidden"),
        Err(v2::Error::AccessDenied)
    );
    let connection = done("open", v2::Connection::open("default"))?;
    let key = [v2::Value::Text("my_key".to_owned())];
    let found = connection.execute("SELECT value FROM test_data WHERE key = ?", &key);
    let found = done("select", found)?;
    must!(&found.rows[0].values[..], [v2::Value::Text(value)] if value == "my_value");
    must!(connection.execute("nonsense", &[]), Err(v2::Error::Io(_)));
    Ok(())
}
