//! How using a database fails, and what is said about it: everything to the
//! guest whose address it is, and to nobody else a user's name.

use std::error::Error;

use tokio_postgres::error::DbError;

use super::v4;
use crate::backends::Unavailable;
use crate::stores::MAX_RESULT_BYTES;

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    #[error("the address cannot be used: {0}")]
    Address(String),
    /// Spin's words.
    #[error("address postgres://{0} is not permitted")]
    NotAllowed(String),
    #[error("too many connections")]
    TooManyHandles,
    #[error("more than {0} different addresses are in use")]
    TooManyAddresses(usize),
    #[error("all {limit} connections to {server} are in use")]
    Exhausted { server: String, limit: usize },
    #[error(transparent)]
    Down(#[from] Unavailable),
    #[error("cannot connect to {server}: {reason}")]
    Connect { server: String, reason: String },
    /// The same, where nobody answered.
    #[error("cannot connect to {server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the connection was given up in the middle of a statement")]
    Lost,
    #[error("parameter {number}: {reason}")]
    Parameter { number: usize, reason: String },
    #[error("{}", with_causes(.0))]
    Statement(#[from] tokio_postgres::Error),
    #[error("column {number} cannot be handed over: {}", with_causes(.source))]
    Value {
        number: usize,
        source: tokio_postgres::Error,
    },
    /// Spin's words, which components may look for.
    #[error("query result exceeds limit of {MAX_RESULT_BYTES} bytes")]
    TooLarge,
}

/// The client says what failed; why is in the errors behind.
pub(super) fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether the server is not there: nobody answered, or it comes up or goes down.
/// PostgreSQL, Appendix A: class 57, operator intervention.
pub(super) fn is_absence(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_none_or(|code| code.code().starts_with("57"))
}

/// The same for logs and `/readyz`: a server's own words may name the user.
pub(super) fn without_names(error: &tokio_postgres::Error) -> String {
    match error.code() {
        Some(code) => format!("the server refuses it with SQLSTATE {}", code.code()),
        None => with_causes(error),
    }
}

impl From<PostgresError> for v4::Error {
    fn from(error: PostgresError) -> Self {
        match &error {
            PostgresError::Address(_)
            | PostgresError::NotAllowed(_)
            | PostgresError::TooManyHandles
            | PostgresError::TooManyAddresses(_)
            | PostgresError::Exhausted { .. }
            | PostgresError::Down(_)
            | PostgresError::Connect { .. }
            | PostgresError::Unreachable { .. }
            | PostgresError::Lost => Self::ConnectionFailed(error.to_string()),
            PostgresError::Parameter { .. } => Self::BadParameter(error.to_string()),
            PostgresError::Value { .. } => Self::ValueConversionFailed(error.to_string()),
            PostgresError::TooLarge => Self::QueryFailed(v4::QueryError::Text(error.to_string())),
            PostgresError::Statement(cause) => Self::QueryFailed(match cause.as_db_error() {
                Some(said) => v4::QueryError::DbError(structured(said, error.to_string())),
                None => v4::QueryError::Text(error.to_string()),
            }),
        }
    }
}

fn structured(said: &DbError, as_text: String) -> v4::DbError {
    let line = said.line().map(|line| line.to_string());
    // The names are Spin's.
    let extras = [
        ("column", said.column()),
        ("constraint", said.constraint()),
        ("routine", said.routine()),
        ("hint", said.hint()),
        ("table", said.table()),
        ("datatype", said.datatype()),
        ("schema", said.schema()),
        ("file", said.file()),
        ("line", line.as_deref()),
        ("where_", said.where_()),
    ];
    v4::DbError {
        as_text,
        severity: said.severity().to_owned(),
        code: said.code().code().to_owned(),
        message: said.message().to_owned(),
        detail: said.detail().map(str::to_owned),
        extras: extras
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect(),
    }
}
