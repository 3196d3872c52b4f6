//! `wasi:config/store`: the same values as `fermyon:spin/variables`.

use super::bindings::wasi::config::store::{Error, Host};
use crate::app::Component;

impl Host for &Component {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(Ok(self.variables.get(key.as_str()).cloned()))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let all = self
            .variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()));
        Ok(Ok(all.collect()))
    }
}
