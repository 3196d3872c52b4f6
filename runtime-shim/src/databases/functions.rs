//! SQLite's own text functions that take quadratic time, and nothing can
//! interrupt while they do, in versions that take linear time or refuse what is
//! too long. They answer as SQLite's do.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};

/// Characters that `trim` and its kind take off, and bytes that `instr` looks
/// for in a blob.
const MAX_PATTERN: usize = 1024;

/// Puts them in the place of SQLite's.
pub(super) fn replace(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("trim", 2, flags, |call| {
        trimmed(call, |text, taken| text.trim_matches(taken))
    })?;
    connection.create_scalar_function("ltrim", 2, flags, |call| {
        trimmed(call, |text, taken| text.trim_start_matches(taken))
    })?;
    connection.create_scalar_function("rtrim", 2, flags, |call| {
        trimmed(call, |text, taken| text.trim_end_matches(taken))
    })?;
    connection.create_scalar_function("instr", 2, flags, position)?;
    connection.create_scalar_function("replace", 3, flags, replaced)
}

fn trimmed(
    call: &Context<'_>,
    trim: impl for<'a> FnOnce(&'a str, &[char]) -> &'a str,
) -> Result<Option<String>> {
    let (Some(text), Some(taken)) = (text(call, 0), text(call, 1)) else {
        return Ok(None);
    };
    if taken.len() > MAX_PATTERN {
        return Err(too_long("what is to be trimmed"));
    }
    let taken: Vec<char> = taken.chars().collect();
    Ok(Some(trim(&text, &taken).to_owned()))
}

/// Counted from 1: bytes where both are blobs, else characters.
fn position(call: &Context<'_>) -> Result<Option<i64>> {
    let found = match (call.get_raw(0), call.get_raw(1)) {
        (ValueRef::Null, _) | (_, ValueRef::Null) => return Ok(None),
        (ValueRef::Blob(_), ValueRef::Blob([])) => Some(0),
        (ValueRef::Blob(bytes), ValueRef::Blob(wanted)) => {
            if wanted.len() > MAX_PATTERN {
                return Err(too_long("what is looked for"));
            }
            bytes.windows(wanted.len()).position(|part| part == wanted)
        }
        _ => {
            let (text, wanted) = (text(call, 0), text(call, 1));
            let (text, wanted) = (text.unwrap_or_default(), wanted.unwrap_or_default());
            text.find(&wanted).map(|at| text[..at].chars().count())
        }
    };
    Ok(Some(found.map_or(0, |at| at as i64 + 1)))
}

fn replaced(call: &Context<'_>) -> Result<Option<String>> {
    let (Some(text), Some(old), Some(new)) = (text(call, 0), text(call, 1), text(call, 2)) else {
        return Ok(None);
    };
    if old.is_empty() {
        return Ok(Some(text));
    }
    let more = text.matches(&old).count().saturating_mul(new.len());
    if text.len().saturating_add(more) > super::rules::MAX_VALUE_BYTES as usize {
        return Err(too_long("the result"));
    }
    Ok(Some(text.replace(&old, &new)))
}

/// An argument as text; nothing for NULL.
fn text(call: &Context<'_>, index: usize) -> Option<String> {
    match call.get_raw(index) {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        // `1.0` rather than `1`, as SQLite has it.
        ValueRef::Real(number) => Some(format!("{number:?}")),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

fn too_long(what: &str) -> Error {
    Error::UserFunctionError(format!("{what} is too long").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each expression gives, by SQLite's own functions and by these.
    #[test]
    fn they_answer_as_sqlite_does() {
        let own = Connection::open_in_memory().expect("a database");
        let ours = Connection::open_in_memory().expect("a database");
        replace(&ours).expect("replaced");
        for expression in [
            "trim('xxaxbxx', 'x')",
            "ltrim('xyxa', 'yx')",
            "rtrim('añé', 'éñ')",
            "trim('  a  ')",
            "trim('abc', '')",
            "trim(NULL, 'x')",
            "trim('x', NULL)",
            "trim(121, 1)",
            "instr('häh', 'h')",
            "instr('äbc', 'c')",
            "instr('abc', 'd')",
            "instr('abc', '')",
            "instr(x'010203', x'03')",
            "instr(x'0102', x'')",
            "instr(NULL, 'a')",
            "instr(12345, 34)",
            "replace('aXbX', 'X', 'yy')",
            "replace('abc', '', 'x')",
            "replace('abc', NULL, 'x')",
            "replace(101, 0, 'o')",
            "replace('äöä', 'ä', '')",
        ] {
            let ask = |connection: &Connection| {
                let sql = format!("SELECT typeof({expression}), {expression}");
                connection.query_row(&sql, [], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, rusqlite::types::Value>(1)?,
                    ))
                })
            };
            assert_eq!(ask(&ours), ask(&own), "{expression}");
        }
    }

    #[test]
    fn what_would_take_for_ever_is_refused_or_quick() {
        let connection = Connection::open_in_memory().expect("a database");
        replace(&connection).expect("replaced");
        let long = "hex(zeroblob(500000))";
        for expression in [
            format!("trim({long}, {long})"),
            "instr(zeroblob(1000000), zeroblob(500000))".to_owned(),
            format!("replace({long}, '0', {long})"),
        ] {
            let asked = connection.query_row(&format!("SELECT {expression}"), [], |_| Ok(()));
            let error = asked.expect_err(&expression).to_string();
            assert!(error.contains("too long"), "{error}");
        }
        let quick = format!("SELECT instr({long}, {long} || 'x')");
        let found: i64 = connection
            .query_row(&quick, [], |row| row.get(0))
            .expect("an answer");
        assert_eq!(found, 0);
    }
}
