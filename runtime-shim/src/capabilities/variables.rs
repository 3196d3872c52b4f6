//! `fermyon:spin/variables`: the component's own variables, rendered at start.

use super::bindings::fermyon::spin::variables::{Error, Host};
use crate::app::Component;

impl Host for &Component {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        if !is_name(&name) {
            return Ok(Err(Error::InvalidName(format!(
                "`{name}` is not a valid variable name: use lower-case letters, digits and \
                 single `_` between them, and begin with a letter"
            ))));
        }
        Ok(self.variables.get(name.as_str()).cloned().ok_or_else(|| {
            Error::Undefined(format!("component `{}` has no variable `{name}`", self.id))
        }))
    }
}

/// What Spin looks up: more than what a manifest can define. Spin: `Key::validate`.
fn is_name(name: &str) -> bool {
    let words = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(words)
        && !name.ends_with('_')
        && !name.contains("__")
}
