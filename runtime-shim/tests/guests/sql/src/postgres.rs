//! `spin:postgres` 4.0.0 and 3.0.0, `fermyon:spin/postgres` 2.0.0.

use anyhow::Context;
use serde_json::{Value, json};
use spin_sdk::pg::{self as v2, Connection as Connection2};
use spin_sdk::pg3::{self as v3, Connection as Connection3};
use spin_sdk::pg4::{
    self as v4, Connection, DbDataType, DbValue, Interval, ParameterValue, QueryError,
    RangeBoundKind::{Exclusive, Inclusive},
};

use crate::script::{self, ensure};

/// The first line is the address. A statement after `!` is for `execute`.
pub(crate) fn run(body: &str) -> anyhow::Result<String> {
    let (address, script) = body.split_once('\n').context("an address, then a script")?;
    let open = || Connection::open(address);
    script::run(script, open, |connection, statement| {
        if let Some(statement) = statement.strip_prefix('!') {
            return connection
                .execute(statement, &[])
                .map(|touched| json!(touched));
        }
        let found = connection.query(statement, &[])?;
        let rows = found
            .rows
            .iter()
            .map(|row| row.iter().map(to_json).collect());
        Ok(rows.collect::<Vec<Value>>().into())
    })
}

fn to_json(value: &DbValue) -> Value {
    match value {
        DbValue::Boolean(value) => json!(value),
        DbValue::Int32(value) => json!(value),
        DbValue::Int64(value) => json!(value),
        DbValue::Str(value) => json!(value),
        other => json!(format!("{other:?}")),
    }
}

/// Asks for `$1::kind` with `value`, and for what the server prints for it.
fn round_trip(
    connection: &Connection,
    kind: &str,
    value: ParameterValue,
) -> Result<(DbDataType, DbValue, String), String> {
    let statement = format!("SELECT $1::{kind}, ($1::{kind})::text");
    let shown = format!("{kind} {value:?}");
    let fail = |error: v4::PgError| format!("{shown}: {error:?}");
    let mut found = connection.query(&statement, &[value]).map_err(fail)?;
    match (found.columns.swap_remove(0), found.rows.remove(0)) {
        (column, mut row) if row.len() == 2 => {
            let text = match row.pop() {
                Some(DbValue::Str(text)) => text,
                _ => "NULL".to_owned(),
            };
            let value = row.pop().ok_or("no value")?;
            Ok((column.data_type, value, text))
        }
        (column, row) => Err(format!("{shown}: {column:?} {row:?}")),
    }
}

/// Every type both ways, with what the server takes it for.
pub(crate) fn suite4(address: &str) -> Result<(), String> {
    use ParameterValue as P;
    let open = Connection::open(address);
    let connection = open.map_err(|error| format!("open: {error:?}"))?;
    ensure!(
        Connection::open("postgres://nowhere.test/x"),
        Err(v4::PgError::ConnectionFailed(_))
    );
    ensure!(
        Connection::open("nonsense"),
        Err(v4::PgError::ConnectionFailed(_))
    );
    for (kind, value, text) in [
        ("bool", P::Boolean(true), "true"),
        ("\"char\"", P::Int8(65), "A"),
        ("int2", P::Int16(i16::MIN), "-32768"),
        ("int4", P::Int32(i32::MIN), "-2147483648"),
        ("int8", P::Int64(i64::MAX), "9223372036854775807"),
        ("float4", P::Floating32(-1.5), "-1.5"),
        ("float8", P::Floating64(0.1), "0.1"),
        ("text", P::Str("ключ '😀".into()), "ключ '😀"),
        ("varchar(9)", P::Str("short".into()), "short"),
        ("char(3)", P::Str("abc".into()), "abc"),
        ("bytea", P::Binary(vec![0, 255]), "\\x00ff"),
        ("date", P::Date((2525, 12, 25)), "2525-12-25"),
        ("time", P::Time((14, 15, 16, 17_000)), "14:15:16.000017"),
        (
            "timestamp",
            P::Datetime((1969, 12, 31, 23, 59, 59, 5_000)),
            "1969-12-31 23:59:59.000005",
        ),
        (
            "uuid",
            P::Uuid("12345678-1234-1234-1234-123456789abc".into()),
            "12345678-1234-1234-1234-123456789abc",
        ),
        (
            "jsonb",
            P::Jsonb(b"{\"a\": [1, null]}".to_vec()),
            "{\"a\": [1, null]}",
        ),
        ("numeric", P::Decimal("-12345.6789".into()), "-12345.6789"),
        (
            "int4range",
            P::RangeInt32((Some((1, Inclusive)), Some((9, Exclusive)))),
            "[1,9)",
        ),
        (
            "int8range",
            P::RangeInt64((None, Some((9, Exclusive)))),
            "(,9)",
        ),
        (
            "numrange",
            P::RangeDecimal((
                Some(("1.5".into(), Exclusive)),
                Some(("2".into(), Inclusive)),
            )),
            "(1.5,2]",
        ),
        ("int4[]", P::ArrayInt32(vec![Some(1), None]), "{1,NULL}"),
        ("int8[]", P::ArrayInt64(vec![Some(-1), None]), "{-1,NULL}"),
        (
            "numeric[]",
            P::ArrayDecimal(vec![Some("1.50".into()), None]),
            "{1.50,NULL}",
        ),
        (
            "text[]",
            P::ArrayStr(vec![Some("a b".into()), None]),
            "{\"a b\",NULL}",
        ),
        (
            "interval",
            P::Interval(Interval {
                micros: 1,
                days: 2,
                months: 3,
            }),
            "3 mons 2 days 00:00:00.000001",
        ),
    ] {
        let wrote = format!("{value:?}").replacen("ParameterValue", "DbValue", 1);
        let (_, read, printed) = round_trip(&connection, kind, value)?;
        ensure!((kind, format!("{read:?}")), (_, read) if read == wrote);
        ensure!((kind, printed), (_, printed) if printed == text);
        let (_, null, _) = round_trip(&connection, kind, P::DbNull)?;
        ensure!((kind, null), (_, DbValue::DbNull));
    }
    special_values(&connection)
}

fn special_values(connection: &Connection) -> Result<(), String> {
    use ParameterValue as P;
    // Whole ranges are what the server makes of them, up to where they end.
    let whole = P::RangeInt32((Some((0, Exclusive)), Some((8, Inclusive))));
    ensure!(
        round_trip(connection, "int4range", whole),
        Ok((
            DbDataType::RangeInt32,
            DbValue::RangeInt32((Some((1, Inclusive)), Some((9, Exclusive)))),
            _
        ))
    );
    let last = P::RangeInt32((None, Some((i32::MAX, Inclusive))));
    ensure!(round_trip(connection, "int4range", last), Err(error) if error.contains("22003"));
    // An instant is UTC, whatever the session's time zone.
    ensure!(connection.execute("SET TIME ZONE 'Asia/Tokyo'", &[]), Ok(0));
    ensure!(round_trip(connection, "timestamptz", P::Timestamp(3661)), Ok((DbDataType::Datetime, DbValue::Datetime((1970, 1, 1, 1, 1, 1, 0)), text)) if text == "1970-01-01 10:01:01+09");
    // What has no type of its own comes as the server's bytes.
    let raw = connection.query("SELECT '10.0.0.1'::inet, '{\"a\":1}'::json", &[]);
    let raw = raw.map_err(|error| format!("raw: {error:?}"))?;
    ensure!(&raw.columns[0].data_type, DbDataType::Other(name) if name == "inet");
    ensure!(&raw.rows[0][0], DbValue::Unsupported(bytes) if bytes.ends_with(&[10, 0, 0, 1]));
    ensure!(&raw.rows[0][1], DbValue::Unsupported(bytes) if bytes == b"{\"a\":1}");
    // No rows, and yet columns.
    ensure!(connection.query("SELECT 1 AS one WHERE false", &[]), Ok(found) if found.rows.is_empty() && found.columns[0].name == "one");
    ensure!(
        connection.query("SELECT 'NaN'::numeric", &[]),
        Err(v4::PgError::ValueConversionFailed(_))
    );
    Ok(())
}

/// What each error looks like. The connection survives the server's refusals.
pub(crate) fn errors(address: &str) -> Result<(), String> {
    use ParameterValue as P;
    let open = Connection::open(address);
    let connection = open.map_err(|error| format!("open: {error:?}"))?;
    let table = "CREATE TEMP TABLE people (name text CONSTRAINT one_of_a_name UNIQUE, age int)";
    ensure!(connection.execute(table, &[]), Ok(0));
    let insert = "INSERT INTO people VALUES ($1, $2)";
    let person = [P::Str("ann".into()), P::Int32(5)];
    ensure!(connection.execute(insert, &person), Ok(1));
    match connection.execute(insert, &person) {
        Err(v4::PgError::QueryFailed(QueryError::DbError(error))) => {
            ensure!(&error.code[..], "23505");
            ensure!(&error.severity[..], "ERROR");
            ensure!(&error.message, text if text.contains("one_of_a_name"));
            ensure!(&error.as_text, text if text.contains("one_of_a_name"));
            ensure!(&error.detail, Some(detail) if detail.contains("(name)=(ann)"));
            let extra = |name: &str| error.extras.iter().find(|(key, _)| key == name);
            ensure!(extra("constraint"), Some((_, value)) if value == "one_of_a_name");
            ensure!(extra("table"), Some((_, value)) if value == "people");
        }
        other => return Err(format!("a duplicate gave {other:?}")),
    }
    ensure!(connection.query("NOT SQL", &[]), Err(v4::PgError::QueryFailed(QueryError::DbError(error))) if error.code == "42601");
    let text = P::Str("x".into());
    ensure!(
        connection.execute(insert, &[P::DbNull, text]),
        Err(v4::PgError::QueryFailed(QueryError::Text(_)))
    );
    ensure!(
        connection.execute(insert, &[]),
        Err(v4::PgError::QueryFailed(QueryError::Text(_)))
    );
    ensure!(
        connection.execute(insert, &[P::Date((0, 0, 0)), P::DbNull]),
        Err(v4::PgError::BadParameter(_))
    );
    ensure!(
        connection.execute("UPDATE people SET age = age + 1", &[]),
        Ok(1)
    );
    let large = "SELECT repeat('x', 1000000) FROM generate_series(1, 200)";
    ensure!(connection.query(large, &[]), Err(v4::PgError::QueryFailed(QueryError::Text(text))) if text == "query result exceeds limit of 134217728 bytes");
    // The rest of that result was not waited for.
    ensure!(
        connection.query("SELECT 1", &[]),
        Err(v4::PgError::ConnectionFailed(_))
    );
    Ok(())
}

pub(crate) fn suite3(address: &str) -> Result<(), String> {
    use v3::{DbValue as V, ParameterValue as P};
    let open = Connection3::open(address);
    let connection = open.map_err(|error| format!("open: {error:?}"))?;
    let statement = "SELECT $1::bool, $2::\"char\", $3::int2, $4::int4, $5::int8, $6::float4, \
        $7::float8, $8::text, $9::bytea, $10::date, $11::time, $12::timestamp, $13::timestamptz, \
        $14::int4, 1.5::numeric, '{1}'::int4[]";
    let found = connection.query(
        statement,
        &[
            P::Boolean(true),
            P::Int8(1),
            P::Int16(2),
            P::Int32(3),
            P::Int64(4),
            P::Floating32(0.5),
            P::Floating64(0.25),
            P::Str("text".into()),
            P::Binary(vec![1]),
            P::Date((2000, 2, 29)),
            P::Time((1, 2, 3, 4_000)),
            P::Datetime((2000, 1, 1, 0, 0, 0, 0)),
            P::Timestamp(1),
            P::DbNull,
        ],
    );
    let found = found.map_err(|error| format!("query: {error:?}"))?;
    ensure!(
        &found.rows[0][..],
        [
            V::Boolean(true),
            V::Int8(1),
            V::Int16(2),
            V::Int32(3),
            V::Int64(4),
            V::Floating32(0.5),
            V::Floating64(0.25),
            V::Str(_),
            V::Binary(_),
            V::Date((2000, 2, 29)),
            V::Time((1, 2, 3, 4_000)),
            V::Datetime((2000, 1, 1, 0, 0, 0, 0)),
            V::Datetime((1970, 1, 1, 0, 0, 1, 0)),
            V::DbNull,
            V::Unsupported,
            V::Unsupported,
        ]
    );
    ensure!(found.columns[9].data_type, v3::DbDataType::Date);
    ensure!(found.columns[14].data_type, v3::DbDataType::Other);
    ensure!(connection.execute("NOT SQL", &[]), Err(v3::PgError::QueryFailed(text)) if text.contains("syntax error"));
    ensure!(Connection3::open("postgres://nowhere.test/x"), Err(v3::PgError::ConnectionFailed(text)) if text == "address postgres://nowhere.test:5432 is not permitted");
    Ok(())
}

pub(crate) fn suite2(address: &str) -> Result<(), String> {
    use v2::{DbValue as V, ParameterValue as P};
    let open = Connection2::open(address);
    let connection = open.map_err(|error| format!("open: {error:?}"))?;
    let statement = "SELECT $1::bool, $2::\"char\", $3::int2, $4::int4, $5::int8, $6::float4, \
        $7::float8, $8::text, $9::bytea, $10::int4, now()::date";
    let found = connection.query(
        statement,
        &[
            P::Boolean(true),
            P::Int8(1),
            P::Int16(2),
            P::Int32(3),
            P::Int64(4),
            P::Floating32(0.5),
            P::Floating64(0.25),
            P::Str("text".into()),
            P::Binary(vec![1]),
            P::DbNull,
        ],
    );
    let found = found.map_err(|error| format!("query: {error:?}"))?;
    ensure!(
        &found.rows[0][..],
        [
            V::Boolean(true),
            V::Int8(1),
            V::Int16(2),
            V::Int32(3),
            V::Int64(4),
            V::Floating32(0.5),
            V::Floating64(0.25),
            V::Str(_),
            V::Binary(_),
            V::DbNull,
            V::Unsupported,
        ]
    );
    ensure!(connection.query("SELECT $1", &[P::Uint64(1)]), Err(v2::PgError::BadParameter(text)) if text.contains("unsigned"));
    ensure!(connection.execute("NOT SQL", &[]), Err(v2::PgError::QueryFailed(text)) if text.contains("syntax error"));
    ensure!(
        connection.execute("CREATE TEMP TABLE t (x int)", &[]),
        Ok(0)
    );
    ensure!(
        connection.execute("INSERT INTO t VALUES (1), (2)", &[]),
        Ok(2)
    );
    Ok(())
}
