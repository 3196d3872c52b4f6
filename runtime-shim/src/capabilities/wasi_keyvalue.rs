//! `wasi:keyvalue` 0.2.0-draft2 (store, atomics, batch), on the same stores as
//! `fermyon:spin/key-value`.

use wasmtime::component::Resource;

use super::MAX_OPEN_STORES;
use super::bindings::wasi::keyvalue::{atomics, batch, store};
use super::key_value::{KeyValueView, OpenError};
use crate::stores::{Fingerprint, Store, StoreError};

use atomics::CasError;
use store::{Error, KeyResponse};

/// A compare-and-swap under way: what it saw, as a fingerprint, so that a guest
/// cannot make the host hoard values.
#[allow(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Cas {
    store: Store,
    key: String,
    seen: Option<Fingerprint>,
}

impl Cas {
    async fn read(store: Store, key: String) -> Result<Self, StoreError> {
        let seen = store.current(&key).await?.as_deref().map(Fingerprint::of);
        Ok(Self { store, key, seen })
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

impl store::Host for KeyValueView<'_> {
    async fn open(
        &mut self,
        identifier: String,
    ) -> wasmtime::Result<Result<Resource<Store>, Error>> {
        Ok(
            KeyValueView::open(self, &identifier)?.map_err(|error| match error {
                OpenError::NotGranted => Error::AccessDenied,
                OpenError::TooMany => Error::Other("too many open buckets".to_owned()),
            }),
        )
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .get(&key)
            .await
            .map_err(Error::from))
    }

    async fn set(
        &mut self,
        bucket: Resource<Store>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .set(key, value)
            .await
            .map_err(Error::from))
    }

    async fn delete(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .delete(key)
            .await
            .map_err(Error::from))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .exists(&key)
            .await
            .map_err(Error::from))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Store>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<KeyResponse, Error>> {
        let page = self.table.get(&bucket)?.keys_after(cursor).await;
        Ok(page
            .map(|(keys, cursor)| KeyResponse { keys, cursor })
            .map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Store>) -> wasmtime::Result<()> {
        self.close(bucket)
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Store>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .increment(key, delta)
            .await
            .map_err(Error::from))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { store, key, seen } = self.table.delete(cas)?;
        *self.open -= 1;
        let retry = match store.compare_and_swap(key.clone(), seen, value).await {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => Cas::read(store, key).await,
            Err(error) => Err(error),
        };
        Ok(Err(match retry {
            Ok(cas) => {
                *self.open += 1;
                CasError::CasFailed(self.table.push(cas)?)
            }
            Err(error) => CasError::StoreError(error.into()),
        }))
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Cas>, Error>> {
        if *self.open >= MAX_OPEN_STORES {
            return Ok(Err(Error::Other("too many open handles".to_owned())));
        }
        match Cas::read(self.table.get(&bucket)?.clone(), key).await {
            Ok(cas) => {
                *self.open += 1;
                Ok(Ok(self.table.push(cas)?))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn current(
        &mut self,
        cas: Resource<Cas>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let cas = self.table.get_mut(&cas)?;
        match cas.store.current(&cas.key).await {
            Ok(value) => {
                cas.seen = value.as_deref().map(Fingerprint::of);
                Ok(Ok(value))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        *self.open -= 1;
        Ok(())
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Store>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<(String, Option<Vec<u8>>)>, Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .get_many(keys)
            .await
            .map_err(Error::from))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Store>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .set_many(pairs)
            .await
            .map_err(Error::from))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Store>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .table
            .get(&bucket)?
            .delete_many(keys)
            .await
            .map_err(Error::from))
    }
}
