//! `spin:postgres/postgres` 4.0.0 and 3.0.0, `fermyon:spin/postgres` 2.0.0.

use spin_sdk::pg4::{
    Connection, DbValue, Interval, ParameterValue, PgError, QueryError,
    RangeBoundKind::{Exclusive, Inclusive},
};
use spin_sdk::{pg as v2, pg3 as v3};

use crate::must::{Outcome, done, must};
use crate::setting;

/// Nobody listens there, and nobody may be asked.
const FORBIDDEN: &str = "host=127.0.0.2 port=5 user=a password=b dbname=c";

pub(crate) fn granted() -> Outcome {
    let address = setting("POSTGRES_ADDRESS")?;
    let connection = done("open", Connection::open(&address))?;
    numbers(&connection)?;
    texts(&connection)?;
    times(&connection)?;
    documents(&connection)?;
    ranges(&connection)?;
    arrays(&connection)?;
    one_session(&connection)?;
    errors(&connection)?;
    older(&address)?;
    refused()
}

pub(crate) fn refused() -> Outcome {
    const WORDS: &str = "address postgres://127.0.0.2:5 is not permitted";
    must!(
        Connection::open(FORBIDDEN),
        Err(PgError::ConnectionFailed(text)) if text == WORDS
    );
    must!(
        v3::Connection::open(FORBIDDEN),
        Err(v3::PgError::ConnectionFailed(text)) if text == WORDS
    );
    must!(
        v2::Connection::open(FORBIDDEN),
        Err(v2::PgError::ConnectionFailed(text)) if text == WORDS
    );
    must!(
        Connection::open("host=/tmp user=a"),
        Err(PgError::ConnectionFailed(_))
    );
    Ok(())
}

/// Makes a table of columns of these types, writes `values` to it and reads them back.
fn through_a_table(
    connection: &Connection,
    types: &[&str],
    values: &[ParameterValue],
) -> Result<Vec<DbValue>, String> {
    let named = types.iter().enumerate();
    let columns: Vec<_> = named.map(|(n, kind)| format!("c{n} {kind}")).collect();
    let places: Vec<_> = (1..=types.len()).map(|n| format!("${n}")).collect();
    let create = format!("CREATE TEMP TABLE conformance ({})", columns.join(", "));
    let insert = format!("INSERT INTO conformance VALUES ({})", places.join(", "));
    must!(connection.execute(&create, &[]), Ok(0));
    must!(connection.execute(&insert, values), Ok(1));
    let found = connection.query("SELECT * FROM conformance", &[]);
    let mut found = done("select", found)?;
    must!(found.columns.len(), columns if columns == types.len());
    must!(found.rows.len(), 1);
    must!(connection.execute("DROP TABLE conformance", &[]), Ok(0));
    Ok(found.rows.remove(0))
}

fn numbers(connection: &Connection) -> Outcome {
    use ParameterValue as P;
    let types = [
        "serial",
        "smallint",
        "int2",
        "int",
        "int4",
        "bigint",
        "int8",
        "real",
        "double precision",
        "numeric",
        "bool",
    ];
    let values = [
        P::Int32(1),
        P::Int16(13),
        P::Int16(14),
        P::Int32(15),
        P::Int32(16),
        P::Int64(17),
        P::Int64(18),
        P::Floating32(19.2),
        P::Floating64(20.3),
        P::Decimal("123456789.123456789".to_owned()),
        P::Boolean(true),
    ];
    must!(
        &through_a_table(connection, &types, &values)?[..],
        [
            DbValue::Int32(1),
            DbValue::Int16(13),
            DbValue::Int16(14),
            DbValue::Int32(15),
            DbValue::Int32(16),
            DbValue::Int64(17),
            DbValue::Int64(18),
            DbValue::Floating32(19.2),
            DbValue::Floating64(20.3),
            DbValue::Decimal(decimal),
            DbValue::Boolean(true),
        ] if decimal == "123456789.123456789"
    );
    Ok(())
}

fn texts(connection: &Connection) -> Outcome {
    use ParameterValue as P;
    let types = ["varchar(40)", "text", "char(10)", "bytea", "text"];
    let values = [
        P::Str("varchar".to_owned()),
        P::Str("text".to_owned()),
        P::Str("char".to_owned()),
        P::Binary(vec![0, 255]),
        P::DbNull,
    ];
    // A column of fixed width is filled with spaces.
    must!(
        &through_a_table(connection, &types, &values)?[..],
        [DbValue::Str(varchar), DbValue::Str(text), DbValue::Str(char), DbValue::Binary(bytes), DbValue::DbNull]
            if varchar == "varchar" && text == "text" && char == "char      " && bytes == &[0, 255]
    );
    Ok(())
}

fn times(connection: &Connection) -> Outcome {
    use ParameterValue as P;
    let types = ["date", "time", "timestamp", "interval"];
    let values = [
        P::Date((1901, 1, 2)),
        P::Time((14, 15, 16, 17_000_000)),
        P::Datetime((1999, 7, 12, 4, 3, 2, 1_000_000)),
        P::Interval(Interval {
            micros: 123_456,
            days: 10,
            months: 200,
        }),
    ];
    must!(
        &through_a_table(connection, &types, &values)?[..],
        [
            DbValue::Date((1901, 1, 2)),
            DbValue::Time((14, 15, 16, 17_000_000)),
            DbValue::Datetime((1999, 7, 12, 4, 3, 2, 1_000_000)),
            DbValue::Interval(Interval {
                micros: 123_456,
                days: 10,
                months: 200
            }),
        ]
    );
    Ok(())
}

fn documents(connection: &Connection) -> Outcome {
    use ParameterValue as P;
    const ID: &str = "fedcba98-fedc-fedc-fedc-fedcba987654";
    let values = [
        P::Jsonb(b"{\"n\":234,\"b\":false}".to_vec()),
        P::Uuid(ID.to_owned()),
    ];
    must!(
        &through_a_table(connection, &["jsonb", "uuid"], &values)?[..],
        [DbValue::Jsonb(json), DbValue::Uuid(id)]
            if id == ID && serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|json| json["n"] == 234)
    );
    Ok(())
}

fn ranges(connection: &Connection) -> Outcome {
    use ParameterValue as P;
    let types = ["int4range", "int8range", "numrange"];
    let (low, high) = ("1234.56".to_owned(), "456789012345.789123".to_owned());
    let values = [
        P::RangeInt32((Some((30, Exclusive)), Some((12_341_234, Exclusive)))),
        P::RangeInt64((Some((123_123_123_123, Inclusive)), None)),
        P::RangeDecimal((
            Some((low.clone(), Exclusive)),
            Some((high.clone(), Inclusive)),
        )),
    ];
    // Whole numbers come as the server normalizes them.
    must!(
        &through_a_table(connection, &types, &values)?[..],
        [
            DbValue::RangeInt32((Some((31, Inclusive)), Some((12_341_234, Exclusive)))),
            DbValue::RangeInt64((Some((123_123_123_123, Inclusive)), None)),
            DbValue::RangeDecimal((Some((from, Exclusive)), Some((to, Inclusive)))),
        ] if *from == low && *to == high
    );
    Ok(())
}

fn arrays(connection: &Connection) -> Outcome {
    use ParameterValue as P;
    let types = ["int4[]", "int8[]", "numeric[]", "text[]"];
    let many: Vec<Option<i64>> = (40_000_000_000_000..40_000_000_001_000).map(Some).collect();
    let values = [
        P::ArrayInt32(vec![Some(1), Some(123), None, Some(384_753)]),
        P::ArrayInt64(many.clone()),
        P::ArrayDecimal(vec![
            Some("100".to_owned()),
            Some("200.123456789".to_owned()),
        ]),
        P::ArrayStr(vec![
            Some("alice".to_owned()),
            None,
            Some("carol".to_owned()),
        ]),
    ];
    must!(
        &through_a_table(connection, &types, &values)?[..],
        [
            DbValue::ArrayInt32(small),
            DbValue::ArrayInt64(large),
            DbValue::ArrayDecimal(decimals),
            DbValue::ArrayStr(texts),
        ] if small == &[Some(1), Some(123), None, Some(384_753)]
            && *large == many
            && decimals[1].as_deref() == Some("200.123456789")
            && texts[0].as_deref() == Some("alice") && texts[1].is_none()
    );
    Ok(())
}

/// One handle is one session of the server.
fn one_session(connection: &Connection) -> Outcome {
    let pid = || connection.query("SELECT pg_backend_pid()", &[]);
    let first = format!("{:?}", done("pid", pid())?.rows);
    let second = format!("{:?}", done("pid", pid())?.rows);
    must!(second, second if second == first);
    Ok(())
}

fn errors(connection: &Connection) -> Outcome {
    let missing = connection.query("SELECT * FROM no_table", &[]);
    match missing {
        Err(PgError::QueryFailed(QueryError::DbError(error))) => {
            must!(error.code.as_str(), "42P01");
            must!(error.severity.as_str(), "ERROR");
            must!(
                error.message.as_str(),
                "relation \"no_table\" does not exist"
            );
            must!(error.as_text.contains(&error.message), true);
        }
        other => return Err(format!("a missing table gave {other:?}")),
    }
    let unsigned = ParameterValue::Decimal("no number".to_owned());
    must!(
        connection.query("SELECT $1::numeric", &[unsigned]),
        Err(PgError::BadParameter(_) | PgError::ValueConversionFailed(_))
    );
    Ok(())
}

fn older(address: &str) -> Outcome {
    let connection = done("open", v3::Connection::open(address))?;
    let day = [v3::ParameterValue::Date((2000, 2, 29))];
    let found = done("query", connection.query("SELECT $1::date", &day))?;
    must!(&found.rows[0][..], [v3::DbValue::Date((2000, 2, 29))]);
    must!(
        connection.query("NOT SQL", &[]),
        Err(v3::PgError::QueryFailed(text)) if text.contains("syntax error")
    );
    let connection = done("open", v2::Connection::open(address))?;
    let number = [v2::ParameterValue::Int64(7)];
    let found = done("query", connection.query("SELECT $1::int8", &number))?;
    must!(&found.rows[0][..], [v2::DbValue::Int64(7)]);
    must!(
        connection.query("SELECT $1", &[v2::ParameterValue::Uint64(1)]),
        Err(v2::PgError::BadParameter(_))
    );
    Ok(())
}
