//! The older versions of the interface, as parts of the newest: what they have
//! no word for is `unsupported`, or a bad parameter.

use wasmtime::component::Resource;

use super::super::bindings::fermyon::spin::{postgres as v2, rdbms_types as v2_types};
use super::super::bindings::spin::postgres3_0_0::postgres as v3;
use super::error::PostgresError;
use super::session::Session;
use super::{PostgresView, v4};

/// The results of both versions. In parentheses the values that only 3.0.0 has.
macro_rules! convert_results {
    ($version:ident ($($later:ident),*)) => {
        impl From<v4::DbDataType> for $version::DbDataType {
            fn from(kind: v4::DbDataType) -> Self {
                match kind {
                    v4::DbDataType::Boolean => Self::Boolean,
                    v4::DbDataType::Int8 => Self::Int8,
                    v4::DbDataType::Int16 => Self::Int16,
                    v4::DbDataType::Int32 => Self::Int32,
                    v4::DbDataType::Int64 => Self::Int64,
                    v4::DbDataType::Floating32 => Self::Floating32,
                    v4::DbDataType::Floating64 => Self::Floating64,
                    v4::DbDataType::Str => Self::Str,
                    v4::DbDataType::Binary => Self::Binary,
                    $(v4::DbDataType::$later => Self::$later,)*
                    _ => Self::Other,
                }
            }
        }

        impl From<v4::DbValue> for $version::DbValue {
            fn from(value: v4::DbValue) -> Self {
                match value {
                    v4::DbValue::Boolean(value) => Self::Boolean(value),
                    v4::DbValue::Int8(value) => Self::Int8(value),
                    v4::DbValue::Int16(value) => Self::Int16(value),
                    v4::DbValue::Int32(value) => Self::Int32(value),
                    v4::DbValue::Int64(value) => Self::Int64(value),
                    v4::DbValue::Floating32(value) => Self::Floating32(value),
                    v4::DbValue::Floating64(value) => Self::Floating64(value),
                    v4::DbValue::Str(value) => Self::Str(value),
                    v4::DbValue::Binary(value) => Self::Binary(value),
                    v4::DbValue::DbNull => Self::DbNull,
                    $(v4::DbValue::$later(value) => Self::$later(value),)*
                    _ => Self::Unsupported,
                }
            }
        }

        impl From<v4::RowSet> for $version::RowSet {
            fn from(found: v4::RowSet) -> Self {
                let column = |column: v4::Column| $version::Column {
                    name: column.name,
                    data_type: column.data_type.into(),
                };
                let row = |row: v4::Row| row.into_iter().map(Into::into).collect();
                Self {
                    columns: found.columns.into_iter().map(column).collect(),
                    rows: found.rows.into_iter().map(row).collect(),
                }
            }
        }

        impl From<PostgresError> for $version::Error {
            fn from(error: PostgresError) -> Self {
                match error.into() {
                    v4::Error::ConnectionFailed(text) => Self::ConnectionFailed(text),
                    v4::Error::BadParameter(text) => Self::BadParameter(text),
                    v4::Error::QueryFailed(v4::QueryError::Text(text)) => Self::QueryFailed(text),
                    v4::Error::QueryFailed(v4::QueryError::DbError(error)) => {
                        Self::QueryFailed(error.as_text)
                    }
                    v4::Error::ValueConversionFailed(text) => Self::ValueConversionFailed(text),
                    v4::Error::Other(text) => Self::Other(text),
                }
            }
        }
    };
}

convert_results!(v2_types());
convert_results!(v3(Date, Time, Datetime, Timestamp));

impl From<v3::ParameterValue> for v4::ParameterValue {
    fn from(value: v3::ParameterValue) -> Self {
        match value {
            v3::ParameterValue::Boolean(value) => Self::Boolean(value),
            v3::ParameterValue::Int8(value) => Self::Int8(value),
            v3::ParameterValue::Int16(value) => Self::Int16(value),
            v3::ParameterValue::Int32(value) => Self::Int32(value),
            v3::ParameterValue::Int64(value) => Self::Int64(value),
            v3::ParameterValue::Floating32(value) => Self::Floating32(value),
            v3::ParameterValue::Floating64(value) => Self::Floating64(value),
            v3::ParameterValue::Str(value) => Self::Str(value),
            v3::ParameterValue::Binary(value) => Self::Binary(value),
            v3::ParameterValue::Date(value) => Self::Date(value),
            v3::ParameterValue::Time(value) => Self::Time(value),
            v3::ParameterValue::Datetime(value) => Self::Datetime(value),
            v3::ParameterValue::Timestamp(value) => Self::Timestamp(value),
            v3::ParameterValue::DbNull => Self::DbNull,
        }
    }
}

fn from_v2(
    values: Vec<v2_types::ParameterValue>,
) -> Result<Vec<v4::ParameterValue>, PostgresError> {
    let unsigned = |number| PostgresError::Parameter {
        number,
        reason: "PostgreSQL has no unsigned integers".to_owned(),
    };
    let numbered = values.into_iter().zip(1..);
    let converted = numbered.map(|(value, number)| {
        Ok(match value {
            v2_types::ParameterValue::Boolean(value) => v4::ParameterValue::Boolean(value),
            v2_types::ParameterValue::Int8(value) => v4::ParameterValue::Int8(value),
            v2_types::ParameterValue::Int16(value) => v4::ParameterValue::Int16(value),
            v2_types::ParameterValue::Int32(value) => v4::ParameterValue::Int32(value),
            v2_types::ParameterValue::Int64(value) => v4::ParameterValue::Int64(value),
            v2_types::ParameterValue::Floating32(value) => v4::ParameterValue::Floating32(value),
            v2_types::ParameterValue::Floating64(value) => v4::ParameterValue::Floating64(value),
            v2_types::ParameterValue::Str(value) => v4::ParameterValue::Str(value),
            v2_types::ParameterValue::Binary(value) => v4::ParameterValue::Binary(value),
            v2_types::ParameterValue::DbNull => v4::ParameterValue::DbNull,
            v2_types::ParameterValue::Uint8(_)
            | v2_types::ParameterValue::Uint16(_)
            | v2_types::ParameterValue::Uint32(_)
            | v2_types::ParameterValue::Uint64(_) => return Err(unsigned(number)),
        })
    });
    converted.collect()
}

impl v3::Host for PostgresView<'_> {}

impl v3::HostConnection for PostgresView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Session>, v3::Error>> {
        Ok(PostgresView::open(self, address).await?.map_err(Into::into))
    }

    async fn query(
        &mut self,
        connection: Resource<Session>,
        statement: String,
        params: Vec<v3::ParameterValue>,
    ) -> wasmtime::Result<Result<v3::RowSet, v3::Error>> {
        let params = params.into_iter().map(Into::into).collect();
        let found = PostgresView::query(self, &connection, &statement, params).await?;
        Ok(found.map(Into::into).map_err(Into::into))
    }

    async fn execute(
        &mut self,
        connection: Resource<Session>,
        statement: String,
        params: Vec<v3::ParameterValue>,
    ) -> wasmtime::Result<Result<u64, v3::Error>> {
        let params = params.into_iter().map(Into::into).collect();
        let touched = PostgresView::execute(self, &connection, &statement, params).await?;
        Ok(touched.map_err(Into::into))
    }

    async fn drop(&mut self, connection: Resource<Session>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}

impl v2_types::Host for PostgresView<'_> {}

impl v2::Host for PostgresView<'_> {}

impl v2::HostConnection for PostgresView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Session>, v2::Error>> {
        Ok(PostgresView::open(self, address).await?.map_err(Into::into))
    }

    async fn query(
        &mut self,
        connection: Resource<Session>,
        statement: String,
        params: Vec<v2::ParameterValue>,
    ) -> wasmtime::Result<Result<v2::RowSet, v2::Error>> {
        let params = match from_v2(params) {
            Ok(params) => params,
            Err(error) => return Ok(Err(error.into())),
        };
        let found = PostgresView::query(self, &connection, &statement, params).await?;
        Ok(found.map(Into::into).map_err(Into::into))
    }

    async fn execute(
        &mut self,
        connection: Resource<Session>,
        statement: String,
        params: Vec<v2::ParameterValue>,
    ) -> wasmtime::Result<Result<u64, v2::Error>> {
        let params = match from_v2(params) {
            Ok(params) => params,
            Err(error) => return Ok(Err(error.into())),
        };
        let touched = PostgresView::execute(self, &connection, &statement, params).await?;
        Ok(touched.map_err(Into::into))
    }

    async fn drop(&mut self, connection: Resource<Session>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}
