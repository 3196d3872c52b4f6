//! Values and rows: whole numbers and texts are all that the services store.

use crate::Error;

/// A value of a statement or of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `BIGINT`; also times, as milliseconds since 1970.
    Integer(i64),
    /// `TEXT`.
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Option<Value>>);

impl Row {
    /// From the values of its columns; `None` is one of an unknown type.
    pub fn new(values: Vec<Option<Value>>) -> Self {
        Self(values)
    }

    /// The whole number in a column, counted from 0.
    pub fn integer(&self, column: usize) -> Result<i64, Error> {
        match self.0.get(column) {
            Some(Some(Value::Integer(number))) => Ok(*number),
            _ => Err(Error::Column(column)),
        }
    }

    /// The text in a column, counted from 0.
    pub fn text(&self, column: usize) -> Result<&str, Error> {
        match self.0.get(column) {
            Some(Some(Value::Text(text))) => Ok(text),
            _ => Err(Error::Column(column)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_by_column() {
        let row = Row::new(vec![
            Some(7.into()),
            Some("x".into()),
            Some(Value::Null),
            None,
        ]);
        assert_eq!(row.integer(0), Ok(7));
        assert_eq!(row.text(1), Ok("x"));
        for column in [1, 2, 3, 4] {
            assert_eq!(row.integer(column), Err(Error::Column(column)));
        }
        assert_eq!(row.text(0), Err(Error::Column(0)));
    }
}
