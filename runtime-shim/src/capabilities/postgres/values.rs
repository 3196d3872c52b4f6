//! The values of `spin:postgres` 4.0.0, to and from PostgreSQL's own. The older
//! versions are parts of it.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use postgres_range::{BoundSided, BoundType, Range, RangeBound};
use rust_decimal::Decimal;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

use super::error::PostgresError;
use super::v4::{self, DbDataType, DbValue, ParameterValue, RangeBoundKind};
use super::wire::{Bound, Jsonb, Null, Raw};

type Parameter = Box<dyn ToSql + Sync + Send>;
type Date = (i32, u8, u8);
type Time = (u8, u8, u8, u32);
type Datetime = (i32, u8, u8, u8, u8, u8, u32);
/// The end of a range in the WIT, and both ends.
type End<T> = Option<(T, RangeBoundKind)>;
type Ends<T> = (End<T>, End<T>);

/// What the server takes for `values`; fails on one that is no value of its type.
pub(super) fn parameters(values: Vec<ParameterValue>) -> Result<Vec<Parameter>, PostgresError> {
    let numbered = values.into_iter().zip(1..);
    numbered
        .map(|(value, number)| {
            parameter(value).map_err(|reason| PostgresError::Parameter { number, reason })
        })
        .collect()
}

fn parameter(value: ParameterValue) -> Result<Parameter, String> {
    Ok(match value {
        ParameterValue::Boolean(value) => Box::new(value),
        ParameterValue::Int8(value) => Box::new(value),
        ParameterValue::Int16(value) => Box::new(value),
        ParameterValue::Int32(value) => Box::new(value),
        ParameterValue::Int64(value) => Box::new(value),
        ParameterValue::Floating32(value) => Box::new(value),
        ParameterValue::Floating64(value) => Box::new(value),
        ParameterValue::Str(value) => Box::new(value),
        ParameterValue::Binary(value) => Box::new(value),
        ParameterValue::Date(value) => Box::new(to_date(value)?),
        ParameterValue::Time(value) => Box::new(to_time(value)?),
        ParameterValue::Datetime((year, month, day, hour, minute, second, nano)) => {
            let date = to_date((year, month, day))?;
            Box::new(date.and_time(to_time((hour, minute, second, nano))?))
        }
        ParameterValue::Timestamp(seconds) => Box::new(
            DateTime::<Utc>::from_timestamp(seconds, 0)
                .ok_or_else(|| format!("{seconds} s is out of the range of timestamps"))?,
        ),
        ParameterValue::Uuid(text) => {
            Box::new(Uuid::parse_str(&text).map_err(|error| error.to_string())?)
        }
        ParameterValue::Jsonb(text) => {
            Box::new(Jsonb::new(text).map_err(|error| error.to_string())?)
        }
        ParameterValue::Decimal(text) => Box::new(to_decimal(&text)?),
        ParameterValue::RangeInt32(ends) => Box::new(to_range(ends, Ok)?),
        ParameterValue::RangeInt64(ends) => Box::new(to_range(ends, Ok)?),
        ParameterValue::RangeDecimal(ends) => Box::new(to_range(ends, |text| to_decimal(&text))?),
        ParameterValue::ArrayInt32(values) => Box::new(values),
        ParameterValue::ArrayInt64(values) => Box::new(values),
        ParameterValue::ArrayDecimal(values) => {
            let values = values.into_iter();
            let numbers = values.map(|value| value.as_deref().map(to_decimal).transpose());
            Box::new(numbers.collect::<Result<Vec<_>, _>>()?)
        }
        ParameterValue::ArrayStr(values) => Box::new(values),
        ParameterValue::Interval(value) => Box::new(value),
        ParameterValue::DbNull => Box::new(Null),
    })
}

/// What a column of PostgreSQL's type `kind` holds.
pub(super) fn data_type(kind: &Type) -> DbDataType {
    match *kind {
        Type::BOOL => DbDataType::Boolean,
        Type::CHAR => DbDataType::Int8,
        Type::INT2 => DbDataType::Int16,
        Type::INT4 => DbDataType::Int32,
        Type::INT8 => DbDataType::Int64,
        Type::FLOAT4 => DbDataType::Floating32,
        Type::FLOAT8 => DbDataType::Floating64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => DbDataType::Str,
        Type::BYTEA => DbDataType::Binary,
        Type::DATE => DbDataType::Date,
        Type::TIME => DbDataType::Time,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DbDataType::Datetime,
        Type::UUID => DbDataType::Uuid,
        Type::JSONB => DbDataType::Jsonb,
        Type::NUMERIC => DbDataType::Decimal,
        Type::INT4_RANGE => DbDataType::RangeInt32,
        Type::INT8_RANGE => DbDataType::RangeInt64,
        Type::NUM_RANGE => DbDataType::RangeDecimal,
        Type::INT4_ARRAY => DbDataType::ArrayInt32,
        Type::INT8_ARRAY => DbDataType::ArrayInt64,
        Type::NUMERIC_ARRAY => DbDataType::ArrayDecimal,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => DbDataType::ArrayStr,
        Type::INTERVAL => DbDataType::Interval,
        _ => DbDataType::Other(kind.name().to_owned()),
    }
}

/// The values of a row.
pub(super) fn row(row: &Row) -> Result<v4::Row, PostgresError> {
    let value_at = |index| {
        value(row, index).map_err(|source| PostgresError::Value {
            number: index + 1,
            source,
        })
    };
    (0..row.len()).map(value_at).collect()
}

fn value(row: &Row, index: usize) -> Result<DbValue, tokio_postgres::Error> {
    match data_type(row.columns()[index].type_()) {
        DbDataType::Boolean => read(row, index, DbValue::Boolean),
        DbDataType::Int8 => read(row, index, DbValue::Int8),
        DbDataType::Int16 => read(row, index, DbValue::Int16),
        DbDataType::Int32 => read(row, index, DbValue::Int32),
        DbDataType::Int64 => read(row, index, DbValue::Int64),
        DbDataType::Floating32 => read(row, index, DbValue::Floating32),
        DbDataType::Floating64 => read(row, index, DbValue::Floating64),
        DbDataType::Str => read(row, index, DbValue::Str),
        DbDataType::Binary => read(row, index, DbValue::Binary),
        DbDataType::Date => read(row, index, |date| DbValue::Date(from_date(date))),
        DbDataType::Time => read(row, index, |time| DbValue::Time(from_time(time))),
        DbDataType::Datetime | DbDataType::Timestamp => read(row, index, |Instant(instant)| {
            DbValue::Datetime(from_datetime(instant))
        }),
        DbDataType::Uuid => read(row, index, |uuid: Uuid| DbValue::Uuid(uuid.to_string())),
        DbDataType::Jsonb => read(row, index, |json: Jsonb| DbValue::Jsonb(json.into_text())),
        DbDataType::Decimal => read(row, index, |number: Decimal| {
            DbValue::Decimal(number.to_string())
        }),
        DbDataType::RangeInt32 => read(row, index, |range| {
            DbValue::RangeInt32(from_range(&range, |number: &i32| *number))
        }),
        DbDataType::RangeInt64 => read(row, index, |range| {
            DbValue::RangeInt64(from_range(&range, |number: &i64| *number))
        }),
        DbDataType::RangeDecimal => read(row, index, |range| {
            DbValue::RangeDecimal(from_range(&range, Decimal::to_string))
        }),
        DbDataType::ArrayInt32 => read(row, index, DbValue::ArrayInt32),
        DbDataType::ArrayInt64 => read(row, index, DbValue::ArrayInt64),
        DbDataType::ArrayDecimal => read(row, index, |numbers: Vec<Option<Decimal>>| {
            let texts = numbers.iter().map(|number| number.map(|n| n.to_string()));
            DbValue::ArrayDecimal(texts.collect())
        }),
        DbDataType::ArrayStr => read(row, index, DbValue::ArrayStr),
        DbDataType::Interval => read(row, index, DbValue::Interval),
        DbDataType::Other(_) => read(row, index, |Raw(bytes)| DbValue::Unsupported(bytes)),
    }
}

fn read<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    wrap: impl FnOnce(T) -> DbValue,
) -> Result<DbValue, tokio_postgres::Error> {
    let value: Option<T> = row.try_get(index)?;
    Ok(value.map_or(DbValue::DbNull, wrap))
}

/// A timestamp with or without a time zone: both are UTC to a guest.
struct Instant(NaiveDateTime);

impl<'a> FromSql<'a> for Instant {
    fn from_sql(
        kind: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        // On the wire they are the same.
        NaiveDateTime::from_sql(kind, raw).map(Self)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }
}

fn to_date((year, month, day): Date) -> Result<NaiveDate, String> {
    NaiveDate::from_ymd_opt(year, month.into(), day.into())
        .ok_or_else(|| format!("{year}-{month}-{day} is not a date"))
}

fn to_time((hour, minute, second, nano): Time) -> Result<NaiveTime, String> {
    NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), second.into(), nano)
        .ok_or_else(|| format!("{hour}:{minute}:{second} and {nano} ns is not a time"))
}

fn to_decimal(text: &str) -> Result<Decimal, String> {
    Decimal::from_str_exact(text).map_err(|error| format!("`{text}` is not a decimal: {error}"))
}

fn from_date(date: NaiveDate) -> Date {
    (date.year(), date.month() as u8, date.day() as u8)
}

fn from_time(time: NaiveTime) -> Time {
    let (hour, minute, second) = (time.hour() as u8, time.minute() as u8, time.second() as u8);
    (hour, minute, second, time.nanosecond())
}

fn from_datetime(instant: NaiveDateTime) -> Datetime {
    let (year, month, day) = from_date(instant.date());
    let (hour, minute, second, nano) = from_time(instant.time());
    (year, month, day, hour, minute, second, nano)
}

fn to_range<W, T: PartialOrd>(
    (lower, upper): Ends<W>,
    convert: impl Fn(W) -> Result<T, String>,
) -> Result<Range<Bound<T>>, String> {
    Ok(Range::new(
        to_bound(lower, &convert)?,
        to_bound(upper, &convert)?,
    ))
}

fn to_bound<S: BoundSided, W, T: PartialOrd>(
    end: End<W>,
    convert: impl Fn(W) -> Result<T, String>,
) -> Result<Option<RangeBound<S, Bound<T>>>, String> {
    let Some((value, kind)) = end else {
        return Ok(None);
    };
    let kind = match kind {
        RangeBoundKind::Inclusive => BoundType::Inclusive,
        RangeBoundKind::Exclusive => BoundType::Exclusive,
    };
    Ok(Some(RangeBound::new(Bound(convert(value)?), kind)))
}

fn from_range<T: PartialOrd, W>(range: &Range<Bound<T>>, convert: impl Fn(&T) -> W) -> Ends<W> {
    (
        range.lower().map(|end| from_bound(end, &convert)),
        range.upper().map(|end| from_bound(end, &convert)),
    )
}

fn from_bound<S: BoundSided, T: PartialOrd, W>(
    bound: &RangeBound<S, Bound<T>>,
    convert: impl Fn(&T) -> W,
) -> (W, RangeBoundKind) {
    let kind = match bound.type_ {
        BoundType::Inclusive => RangeBoundKind::Inclusive,
        BoundType::Exclusive => RangeBoundKind::Exclusive,
    };
    (convert(&bound.value.0), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_none_of_its_type_is_a_bad_parameter() {
        for (value, reason) in [
            (
                ParameterValue::Date((2026, 2, 29)),
                "2026-2-29 is not a date",
            ),
            (ParameterValue::Time((24, 0, 0, 0)), "24:0:0"),
            (ParameterValue::Timestamp(i64::MAX), "out of the range"),
            (ParameterValue::Uuid("x".into()), "invalid"),
            (ParameterValue::Jsonb(b"{\"a\":".to_vec()), "EOF"),
            (ParameterValue::Jsonb(b"\xff".to_vec()), "line 1"),
            (
                ParameterValue::Decimal("1,5".into()),
                "`1,5` is not a decimal",
            ),
        ] {
            let shown = format!("{value:?}");
            let error = parameters(vec![ParameterValue::DbNull, value]).err();
            let error = error.expect(&shown).to_string();
            assert!(error.contains("parameter 2"), "{error}");
            assert!(error.contains(reason), "`{reason}` not in `{error}`");
        }
    }

    /// The library's own ranges would panic here.
    #[test]
    fn ranges_may_end_where_their_type_does() {
        let end = Some((i32::MAX, RangeBoundKind::Inclusive));
        assert!(parameter(ParameterValue::RangeInt32((end, end))).is_ok());
    }
}
