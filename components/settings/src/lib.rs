//! The variables of a component with their types. A variable that is missing or
//! no number is an error with its name, and never with its value.

/// A variable that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The manifest does not give it to this component, or its provider failed.
    #[error("variable `{name}`: {reason}")]
    Missing {
        /// Its name.
        name: String,
        /// What the host said.
        reason: String,
    },
    /// Its text is no whole number, or one out of range.
    #[error("variable `{name}` must be a whole number from {least} to {most}")]
    Number {
        /// Its name.
        name: String,
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// Its text is of another form.
    #[error("variable `{name}` must be {form}")]
    Form {
        /// Its name.
        name: String,
        /// What was expected.
        form: &'static str,
    },
    /// Its text is neither `true` nor `false`.
    #[error("variable `{name}` must be `true` or `false`")]
    Flag {
        /// Its name.
        name: String,
    },
}

/// A text; empty when it is set to nothing.
#[cfg(target_family = "wasm")]
pub fn text(name: &str) -> Result<String, Error> {
    spin_sdk::variables::get(name).map_err(|error| Error::Missing {
        name: name.to_owned(),
        reason: error.to_string(),
    })
}

/// A text, or nothing when it is empty.
#[cfg(target_family = "wasm")]
pub fn optional(name: &str) -> Result<Option<String>, Error> {
    Ok(Some(text(name)?).filter(|text| !text.is_empty()))
}

/// A whole number from `least` to `most`.
#[cfg(target_family = "wasm")]
pub fn number(name: &str, least: u64, most: u64) -> Result<u64, Error> {
    parse_number(name, &text(name)?, least, most)
}

/// Where a site is, as in `https://example.com`, without a slash at its end; empty
/// when it is set to nothing.
#[cfg(target_family = "wasm")]
pub fn origin(name: &str) -> Result<String, Error> {
    parse_origin(name, &text(name)?)
}

/// `true` or `false`.
#[cfg(target_family = "wasm")]
pub fn flag(name: &str) -> Result<bool, Error> {
    parse_flag(name, &text(name)?)
}

#[cfg(any(target_family = "wasm", test))]
fn parse_number(name: &str, text: &str, least: u64, most: u64) -> Result<u64, Error> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Error::Number {
            name: name.to_owned(),
            least,
            most,
        })
}

#[cfg(any(target_family = "wasm", test))]
fn parse_origin(name: &str, text: &str) -> Result<String, Error> {
    let origin = text.trim();
    let origin = origin.strip_suffix('/').unwrap_or(origin);
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let is_host = |host: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        !host.is_empty() && host.chars().all(fits)
    };
    if origin.is_empty() || authority.is_some_and(is_host) {
        return Ok(origin.to_owned());
    }
    Err(Error::Form {
        name: name.to_owned(),
        form: "empty or an origin, as in `https://example.com`",
    })
}

#[cfg(any(target_family = "wasm", test))]
fn parse_flag(name: &str, text: &str) -> Result<bool, Error> {
    text.trim().parse().map_err(|_| Error::Flag {
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds() {
        for (text, expected) in [("1", Some(1)), (" 24 ", Some(24)), ("100", Some(100))] {
            assert_eq!(parse_number("n", text, 1, 100).ok(), expected, "{text}");
        }
        for text in ["", "0", "101", "-1", "1.5", "many", "99999999999999999999"] {
            let error = parse_number("n", text, 1, 100).unwrap_err().to_string();
            assert_eq!(
                error, "variable `n` must be a whole number from 1 to 100",
                "{text}"
            );
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, expected) in [
            ("", ""),
            ("https://example.com", "https://example.com"),
            (" https://example.com:8443/ ", "https://example.com:8443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(parse_origin("o", text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "example.com",
            "ftp://example.com",
            "https://",
            "https://example.com/shop",
            "https://user@example.com",
            "https://a.test, https://b.test",
        ] {
            assert!(parse_origin("o", text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_are_true_or_false() {
        assert_eq!(parse_flag("f", "true"), Ok(true));
        assert_eq!(parse_flag("f", "false "), Ok(false));
        for text in ["", "yes", "1", "TRUE"] {
            assert!(parse_flag("f", text).is_err(), "{text}");
        }
    }
}
