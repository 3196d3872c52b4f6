//! `fermyon:spin/key-value`: the stores whose labels the manifest grants.

use std::collections::BTreeMap;

use wasmtime::component::{HasData, Resource, ResourceTable};

use super::MAX_OPEN_STORES;
use super::bindings::fermyon::spin::key_value::{Error, Host, HostStore};
use crate::names::StoreLabel;
use crate::stores::{Store, StoreError};

/// Marks the view for the linker.
pub(super) struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// What key-value calls see of a sandbox.
pub(super) struct KeyValueView<'a> {
    pub(super) granted: &'a BTreeMap<StoreLabel, Store>,
    pub(super) table: &'a mut ResourceTable,
    pub(super) open: &'a mut usize,
}

/// Why a store did not open.
pub(super) enum OpenError {
    NotGranted,
    TooMany,
}

impl KeyValueView<'_> {
    pub(super) fn open(
        &mut self,
        label: &str,
    ) -> wasmtime::Result<Result<Resource<Store>, OpenError>> {
        // Every granted label was opened at start, so one that is not here is
        // not granted.
        let Some(store) = self.granted.get(label) else {
            return Ok(Err(OpenError::NotGranted));
        };
        if *self.open >= MAX_OPEN_STORES {
            return Ok(Err(OpenError::TooMany));
        }
        *self.open += 1;
        Ok(Ok(self.table.push(store.clone())?))
    }

    pub(super) fn close(&mut self, store: Resource<Store>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        *self.open -= 1;
        Ok(())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

impl Host for KeyValueView<'_> {}

impl HostStore for KeyValueView<'_> {
    async fn open(&mut self, label: String) -> wasmtime::Result<Result<Resource<Store>, Error>> {
        Ok(
            KeyValueView::open(self, &label)?.map_err(|error| match error {
                OpenError::NotGranted => Error::AccessDenied,
                OpenError::TooMany => Error::StoreTableFull,
            }),
        )
    }

    async fn get(
        &mut self,
        store: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        Ok(self.table.get(&store)?.get(&key).await.map_err(Error::from))
    }

    async fn set(
        &mut self,
        store: Resource<Store>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .table
            .get(&store)?
            .set(key, value)
            .await
            .map_err(Error::from))
    }

    async fn delete(
        &mut self,
        store: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .table
            .get(&store)?
            .delete(key)
            .await
            .map_err(Error::from))
    }

    async fn exists(
        &mut self,
        store: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        Ok(self
            .table
            .get(&store)?
            .exists(&key)
            .await
            .map_err(Error::from))
    }

    async fn get_keys(
        &mut self,
        store: Resource<Store>,
    ) -> wasmtime::Result<Result<Vec<String>, Error>> {
        Ok(self.table.get(&store)?.keys().await.map_err(Error::from))
    }

    async fn drop(&mut self, store: Resource<Store>) -> wasmtime::Result<()> {
        self.close(store)
    }
}
