//! `fermyon:spin/variables`: the component's own variables, rendered at start.

use super::bindings::fermyon::spin::variables::{Error, Host};
use crate::app::Component;
use crate::names::VariableName;

impl Host for &Component {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        if let Err(error) = VariableName::new(&name) {
            return Ok(Err(Error::InvalidName(error.to_string())));
        }
        Ok(self.variables.get(name.as_str()).cloned().ok_or_else(|| {
            Error::Undefined(format!("component `{}` has no variable `{name}`", self.id))
        }))
    }
}
