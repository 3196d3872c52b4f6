//! `fermyon:spin/mysql`: linked, because toolchains import the whole Spin world.
//! There is no client behind it: a connection cannot be opened, and so cannot exist.

use url::Url;
use wasmtime::component::Resource;

use super::bindings::fermyon::spin::mysql::{Error, Host, HostConnection, ParameterValue, RowSet};
use super::refusal;
use crate::app::Component;

/// Never made.
#[allow(unreachable_pub, reason = "the generated bindings export it again")]
pub enum Connection {}

/// A guest can name only resources that it was given, and it was given none.
#[derive(Debug, thiserror::Error)]
#[error("a MySQL connection that was never opened")]
struct NeverOpened;

impl Host for &Component {}

impl HostConnection for &Component {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, Error>> {
        Ok(Err(Error::ConnectionFailed(
            if is_allowed(self, &address) {
                "MySQL is not available: Gristmill has no client for it".to_owned()
            } else {
                // Spin's words.
                format!("address {address} is not permitted")
            },
        )))
    }

    async fn query(
        &mut self,
        _connection: Resource<Connection>,
        _statement: String,
        _params: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<RowSet, Error>> {
        Err(wasmtime::Error::new(NeverOpened))
    }

    async fn execute(
        &mut self,
        _connection: Resource<Connection>,
        _statement: String,
        _params: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Err(wasmtime::Error::new(NeverOpened))
    }

    async fn drop(&mut self, _connection: Resource<Connection>) -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(NeverOpened))
    }
}

fn is_allowed(component: &Component, address: &str) -> bool {
    if address.len() > refusal::MAX_ADDRESS_BYTES {
        return false;
    }
    Url::parse(address).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default();
        refusal::allows(component, url.scheme(), host, url.port())
    })
}
