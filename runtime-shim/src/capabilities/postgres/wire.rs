//! Values that PostgreSQL has and the client library has not, or not as they
//! are handed to guests.

use std::error::Error;

use bytes::{Buf, BufMut, BytesMut};
use postgres_range::{BoundSided, Normalizable, RangeBound};
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::v4;

type Encoded = Result<IsNull, Box<dyn Error + Sync + Send>>;
type Decoded<T> = Result<T, Box<dyn Error + Sync + Send>>;

/// NULL of whatever type is expected.
#[derive(Debug)]
pub(super) struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Encoded {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Any value, as the server sent it.
pub(super) struct Raw(pub(super) Vec<u8>);

impl FromSql<'_> for Raw {
    fn from_sql(_: &Type, raw: &[u8]) -> Decoded<Self> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A JSON text. In front of it the server has the version of the format.
#[derive(Debug)]
pub(super) struct Jsonb(Vec<u8>);

const JSONB_VERSION: u8 = 1;

impl Jsonb {
    pub(super) fn new(text: Vec<u8>) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<&RawValue>(&text)?;
        Ok(Self(text))
    }

    pub(super) fn into_text(self) -> Vec<u8> {
        self.0
    }
}

impl ToSql for Jsonb {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        out.put_u8(JSONB_VERSION);
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

impl FromSql<'_> for Jsonb {
    fn from_sql(_: &Type, raw: &[u8]) -> Decoded<Self> {
        match raw.split_first() {
            Some((&JSONB_VERSION, text)) => Ok(Self(text.to_vec())),
            _ => Err("a JSONB value of an unknown format".into()),
        }
    }

    accepts!(JSONB);
}

impl ToSql for v4::Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        out.put_i64(self.micros);
        out.put_i32(self.days);
        out.put_i32(self.months);
        Ok(IsNull::No)
    }

    accepts!(INTERVAL);
    to_sql_checked!();
}

impl FromSql<'_> for v4::Interval {
    fn from_sql(_: &Type, mut raw: &[u8]) -> Decoded<Self> {
        Ok(Self {
            micros: raw.try_get_i64()?,
            days: raw.try_get_i32()?,
            months: raw.try_get_i32()?,
        })
    }

    accepts!(INTERVAL);
}

/// The end of a range as it is: the library would move the ends of ranges of
/// whole numbers, and panic where that leaves the type.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Bound<T>(pub(super) T);

impl<T> Normalizable for Bound<T> {
    fn normalize<S: BoundSided>(bound: RangeBound<S, Self>) -> RangeBound<S, Self> {
        bound
    }
}

impl<T: ToSql> ToSql for Bound<T> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Encoded {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        T::accepts(kind)
    }

    to_sql_checked!();
}

impl<'a, T: FromSql<'a>> FromSql<'a> for Bound<T> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Decoded<Self> {
        T::from_sql(kind, raw).map(Self)
    }

    fn accepts(kind: &Type) -> bool {
        T::accepts(kind)
    }
}
