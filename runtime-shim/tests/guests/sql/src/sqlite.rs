//! `spin:sqlite` 3.0.0 and `fermyon:spin/sqlite` 2.0.0.

use serde_json::json;
use spin_sdk::{sqlite as v2, sqlite3 as v3};

use crate::script::{self, ensure};

pub(crate) fn run(label: &str, script: &str) -> anyhow::Result<String> {
    let open = || v3::Connection::open(label);
    script::run(script, open, |connection, statement| {
        let found = connection.execute(statement, &[])?;
        let rows: Vec<Vec<_>> = found
            .rows
            .iter()
            .map(|row| row.values.iter().map(to_json).collect())
            .collect();
        Ok(json!({
            "columns": found.columns,
            "rows": rows,
            "changes": connection.changes(),
            "rowid": connection.last_insert_rowid(),
        }))
    })
}

fn to_json(value: &v3::Value) -> serde_json::Value {
    match value {
        v3::Value::Integer(value) => json!(value),
        v3::Value::Real(value) => json!(value),
        v3::Value::Text(value) => json!(value),
        v3::Value::Blob(value) => json!({"bytes": value.len()}),
        v3::Value::Null => json!(null),
    }
}

/// Every call and every type of both versions; the second reads what the first
/// wrote.
pub(crate) fn suite(label: &str) -> Result<(), String> {
    ensure!(
        v3::Connection::open("not-granted"),
        Err(v3::Error::AccessDenied)
    );
    ensure!(
        v2::Connection::open("not-granted"),
        Err(v2::Error::AccessDenied)
    );
    let open = v3::Connection::open(label);
    let connection = open.map_err(|error| format!("open: {error:?}"))?;
    ensure!(connection.last_insert_rowid(), 0);
    ensure!(connection.changes(), 0);
    let table = "CREATE TABLE types (i INTEGER, r REAL, t TEXT, b BLOB, n TEXT)";
    ensure!(connection.execute(table, &[]), Ok(found) if found.rows.is_empty());
    let values = [
        v3::Value::Integer(i64::MIN),
        v3::Value::Real(-0.1),
        v3::Value::Text("ключ \u{1F600}'\u{0}".to_owned()),
        v3::Value::Blob(vec![0, 255, 128]),
        v3::Value::Null,
    ];
    let insert = "INSERT INTO types VALUES (?, ?, ?, ?, ?)";
    ensure!(connection.execute(insert, &values), Ok(_));
    ensure!(connection.execute(insert, &values), Ok(_));
    ensure!(connection.last_insert_rowid(), 2);
    ensure!(
        connection.execute("UPDATE types SET n = ?1", &values[4..]),
        Ok(_)
    );
    ensure!(connection.changes(), 2);
    let found = connection.execute("SELECT * FROM types", &[]);
    let found = found.map_err(|error| format!("select: {error:?}"))?;
    ensure!(&found.columns, columns if columns == &["i", "r", "t", "b", "n"]);
    // The generated types compare by what they print.
    let wrote = format!("{values:?}");
    ensure!(&found.rows[..], [one, two] if [one, two].iter().all(|row| format!("{:?}", row.values) == wrote));
    // Too few parameters, a syntax error, a constraint.
    ensure!(
        connection.execute(insert, &values[1..]),
        Err(v3::Error::Io(_))
    );
    ensure!(connection.execute("NOT SQL", &[]), Err(v3::Error::Io(text)) if text.contains("syntax"));
    ensure!(
        connection.execute("SELECT 1; SELECT 2", &[]),
        Err(v3::Error::Io(_))
    );
    // SQLite's own way to say that a file may not grow.
    ensure!(connection.execute("PRAGMA max_page_count = 4", &[]), Ok(_));
    let grow = "INSERT INTO types (b) VALUES (zeroblob(100000))";
    ensure!(connection.execute(grow, &[]), Err(v3::Error::DatabaseFull));
    older(label)
}

fn older(label: &str) -> Result<(), String> {
    let open = v2::Connection::open(label);
    let connection = open.map_err(|error| format!("open: {error:?}"))?;
    let select = "SELECT i, r, b, n FROM types WHERE i = ?";
    let found = connection.execute(select, &[v2::Value::Integer(i64::MIN)]);
    let found = found.map_err(|error| format!("select: {error:?}"))?;
    ensure!(found.rows.len(), 2);
    ensure!(
        &found.rows[0].values[..],
        [v2::Value::Integer(i64::MIN), v2::Value::Real(_), v2::Value::Blob(b), v2::Value::Null] if b == &[0, 255, 128]
    );
    ensure!(connection.execute("NOT SQL", &[]), Err(v2::Error::Io(_)));
    Ok(())
}
