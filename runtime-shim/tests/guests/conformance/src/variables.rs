//! `fermyon:spin/variables` 2.0.0, and `wasi:config/store` with the same values.

use spin_sdk::variables::{Error, get};
use spin_sdk::wit::wasi::config::store as config;

use crate::must::{Outcome, must};

/// What no variable can be called. Spin: `Key::validate`.
const INVALID: [&str; 9] = [
    "invalid-name",
    "invalid!name",
    "4invalidname",
    "Upper",
    "_before",
    "after_",
    "two__lines",
    "",
    "ключ",
];

pub(crate) fn granted() -> Outcome {
    must!(get("variable"), Ok(value) if value == "value");
    must!(get("templated"), Ok(value) if value == "to 127.0.0.1, 127.0.0.1 }}");
    must!(get("hidden"), Ok(value) if value == "s3cret");
    must!(get("empty"), Ok(value) if value.is_empty());
    must!(get("non_existent"), Err(Error::Undefined(_)));
    // A variable of the application is not the component's.
    must!(get("host"), Err(Error::Undefined(_)));
    must!(get("a_1"), Err(Error::Undefined(_)));
    invalid()?;
    must!(config::get("variable"), Ok(Some(value)) if value == "value");
    must!(config::get("non_existent"), Ok(None));
    must!(config::get("invalid-name"), Ok(None));
    let all = config::get_all().map(|mut all| {
        all.sort();
        all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    });
    must!(all, Ok(names) if names == ["empty", "hidden", "templated", "variable"]);
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    must!(get("variable"), Err(Error::Undefined(_)));
    must!(config::get("variable"), Ok(None));
    must!(config::get_all().as_deref(), Ok([]));
    invalid()
}

fn invalid() -> Outcome {
    for name in INVALID {
        must!(get(name), Err(Error::InvalidName(_)));
    }
    Ok(())
}
