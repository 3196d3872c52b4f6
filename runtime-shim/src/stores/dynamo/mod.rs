//! Key-value on one DynamoDB table, shared with Spin: `layout` has the items,
//! `errors` what the service's refusals mean.
//!
//! Conditions compare values rather than versions: they hold also against
//! writers that leave the version alone.

mod errors;
mod layout;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, KeysAndAttributes, PutRequest, WriteRequest,
};
use tokio::sync::Semaphore;

use errors::{is_refused_for_now, lost_the_race, malformed, means_down};
use layout::{
    EXPIRES, KEY, VALUE, VERSION, binary, checked, counter, expiry, fits, item, key_of, text,
    value_of, version,
};

use super::limits::check_sum;
use super::tally::Tally;
use super::{
    Fingerprint, Found, Limits, MAX_RESULT_BYTES, SCANS, StoreError, WAITING_KIB, idempotent,
    in_order, kib,
};
use crate::aws::{self, AwsSettings, Calling, Identity, explain};
use crate::backends::{Backend, Backends, CallError, TooManyBackends};

/// One call that concerns one key, and one that concerns many.
const CALL_LIMIT: Duration = Duration::from_secs(3);
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// A probe may have to wait for credentials, which may come from another
/// program or service.
const PROBE_LIMIT: Duration = Duration::from_secs(15);
/// Service quotas: entries of one batch call.
const MAX_GETS: usize = 100;
const MAX_WRITES: usize = 25;
/// How often what a batch left undone, or a counter that others changed at the
/// same time, is tried again.
const RETRIES: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Bytes of the largest value, under a key of reasonable length.
pub(super) fn largest_value() -> usize {
    layout::largest_value(64)
}

/// `type = "aws_dynamo"`
#[derive(PartialEq)]
pub struct DynamoConfig {
    /// AWS' region.
    pub region: String,
    /// The table.
    pub table: String,
    /// Access key, secret key and session token, where they are given.
    pub keys: Option<(String, String, Option<String>)>,
    /// Whether reads see every write that was acknowledged before.
    pub consistent_read: bool,
}

/// A store: one table.
#[derive(Clone)]
pub struct DynamoStore {
    table: Arc<Table>,
    backend: Arc<Backend>,
    /// KiB of values that may be on their way to the service.
    budget: Arc<Semaphore>,
    /// Answers of many keys that are read at once.
    scans: Arc<Semaphore>,
    tally: Arc<Tally>,
    limits: Limits,
}

/// The table, without regard to whether it answers.
struct Table {
    /// Tries once: only the caller knows what may be done twice.
    client: Client,
    name: String,
    consistent_read: bool,
}

impl DynamoStore {
    /// The store in the table of `config`, which need not answer yet.
    pub async fn new(
        config: &DynamoConfig,
        settings: &AwsSettings,
        backends: &Backends,
        limits: Limits,
    ) -> Result<Self, TooManyBackends> {
        let identity = match config.keys.clone() {
            Some((access_key, secret_key, token)) => Identity::Keys {
                access_key,
                secret_key,
                token,
            },
            None => Identity::Chain,
        };
        let calling = Calling {
            region: Some(&config.region),
            endpoint: settings.dynamodb_endpoint.as_deref(),
            // Calls have limits of their own; this one ends what they cut off.
            attempt_timeout: PROBE_LIMIT,
            max_attempts: 1,
        };
        let shared = aws::sdk_config(settings, identity, calling).await;
        let table = Arc::new(Table {
            client: Client::new(&shared),
            name: config.table.clone(),
            consistent_read: config.consistent_read,
        });
        let probed = Arc::clone(&table);
        let name = format!("dynamodb table {} in {}", table.name, config.region);
        let backend = backends.watch_patiently(name, PROBE_LIMIT, move || {
            let table = Arc::clone(&probed);
            async move { table.probe().await }
        })?;
        backend.establish();
        Ok(Self {
            table,
            backend,
            budget: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            scans: Arc::new(Semaphore::new(SCANS)),
            tally: Arc::default(),
            limits,
        })
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Makes a call, which may be made any number of times, until it is
    /// answered. The client's futures are large: they are boxed, so that those
    /// of the other stores, which share an enum with them, stay small.
    async fn ask<T, E, F>(&self, limit: Duration, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        idempotent(|| self.once(limit, Box::pin(call()))).await
    }

    async fn once<T, E, F>(&self, limit: Duration, call: Pin<Box<F>>) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = self.backend.call(limit, means_down, call).await;
        answer.map_err(|error| self.explain(error))
    }

    fn explain<E>(&self, error: CallError<SdkError<E>>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        StoreError::of_call(error, |error| match &error {
            SdkError::TimeoutError(_) => StoreError::TimedOut {
                backend: self.backend.name().into(),
                limit: PROBE_LIMIT,
            },
            error if is_refused_for_now(error) => StoreError::Throttled,
            error if means_down(error) => StoreError::Broken(explain(error)),
            error => StoreError::Database(explain(error)),
        })
    }

    /// The value of `key`.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(key, self.table.consistent_read).await
    }

    async fn read(&self, key: &str, consistent: bool) -> Result<Option<Vec<u8>>, StoreError> {
        let key = checked(key)?;
        let read = self.table.client.get_item().table_name(&self.table.name);
        let read = read.consistent_read(consistent).key(KEY, text(key));
        let read = read.projection_expression(VALUE);
        let answer = self.ask(CALL_LIMIT, || read.clone().send()).await?;
        Ok(answer.item.and_then(value_of))
    }

    /// The value of `key`, however the table is read otherwise.
    pub(super) async fn current(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(key, true).await
    }

    /// Waits for increments that go on although their callers are gone.
    pub(super) async fn close(&self) {
        self.tally.close().await;
    }

    /// Whether `key` has a value.
    pub(super) async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let key = checked(key)?;
        let read = self.table.client.get_item().table_name(&self.table.name);
        let read = read.consistent_read(self.table.consistent_read);
        let read = read.key(KEY, text(key)).projection_expression(KEY);
        Ok(self
            .ask(CALL_LIMIT, || read.clone().send())
            .await?
            .item
            .is_some())
    }

    /// Every key: a scan of the table.
    pub(super) async fn keys(&self) -> Result<Vec<String>, StoreError> {
        let _alone = self.scans.acquire().await;
        let mut keys = Vec::new();
        let mut size = 0;
        let mut cursor = None;
        loop {
            let (page, next) = self.keys_after(cursor).await?;
            size += page
                .iter()
                .map(|key| size_of::<String>() + key.len())
                .sum::<usize>();
            if size > MAX_RESULT_BYTES {
                return Err(StoreError::too_large());
            }
            keys.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(keys),
            }
        }
    }

    /// A page of keys after `cursor`, the last key of the page before.
    pub(super) async fn keys_after(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        let start = cursor.map(|key| HashMap::from([(KEY.to_owned(), text(&key))]));
        let scan = self.table.client.scan().table_name(&self.table.name);
        let scan = scan
            .projection_expression(KEY)
            .set_exclusive_start_key(start);
        let scan = scan.consistent_read(self.table.consistent_read);
        let page = self.ask(BATCH_LIMIT, || scan.clone().send()).await?;
        let keys = page.items.unwrap_or_default().into_iter();
        let next = page.last_evaluated_key.and_then(key_of);
        Ok((keys.filter_map(key_of).collect(), next))
    }

    /// The values of `keys`, in their order.
    pub(super) async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Found>, StoreError> {
        let _alone = self.scans.acquire().await;
        let mut values: BTreeMap<&str, Option<Vec<u8>>> = BTreeMap::new();
        for key in &keys {
            values.insert(checked(key)?, None);
        }
        let distinct: Vec<&str> = values.keys().copied().collect();
        let mut size = 0;
        for chunk in distinct.chunks(MAX_GETS) {
            for (key, value) in self.get_chunk(chunk).await? {
                size += key.len() + value.len();
                if size > MAX_RESULT_BYTES {
                    return Err(StoreError::too_large());
                }
                if let Some(found) = values.get_mut(key.as_str()) {
                    *found = Some(value);
                }
            }
        }
        in_order(&keys, &values)
    }

    async fn get_chunk(&self, keys: &[&str]) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut wanted = KeysAndAttributes::builder()
            .projection_expression(format!("{KEY},{VALUE}"))
            .consistent_read(self.table.consistent_read);
        for key in keys {
            wanted = wanted.keys(HashMap::from([(KEY.to_owned(), text(key))]));
        }
        let mut wanted = wanted.build().map_err(malformed)?;
        let mut found = Vec::with_capacity(keys.len());
        for attempt in 0..=RETRIES {
            pause(attempt).await;
            let call = self.table.client.batch_get_item();
            let call = call.request_items(&self.table.name, wanted);
            let answer = self.ask(BATCH_LIMIT, || call.clone().send()).await?;
            let items = answer
                .responses
                .and_then(|mut of| of.remove(&self.table.name));
            for mut item in items.unwrap_or_default() {
                if let Some(AttributeValue::S(key)) = item.remove(KEY)
                    && let Some(value) = value_of(item)
                {
                    found.push((key, value));
                }
            }
            let left = answer
                .unprocessed_keys
                .and_then(|mut of| of.remove(&self.table.name));
            match left {
                Some(left) => wanted = left,
                None => return Ok(found),
            }
        }
        Err(StoreError::Throttled)
    }

    /// Stores `value` under `key`.
    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        let bytes = fits(&key, &value, self.limits)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        let put = self.table.client.put_item().table_name(&self.table.name);
        let put = put.set_item(Some(item(key, value)));
        self.ask(CALL_LIMIT, || put.clone().send()).await?;
        Ok(())
    }

    /// Stores `value` under `key`, for so long: until the table's time to live, if
    /// it is set up, removes it.
    pub(super) async fn set_expiring(
        &self,
        key: String,
        value: Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let bytes = fits(&key, &value, self.limits)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        let mut item = item(key, value);
        item.insert(EXPIRES.to_owned(), expiry(lifetime));
        let put = self.table.client.put_item().table_name(&self.table.name);
        let put = put.set_item(Some(item));
        self.ask(CALL_LIMIT, || put.clone().send()).await?;
        Ok(())
    }

    /// Stores the pairs, 25 at a time.
    pub(super) async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        let mut bytes = 0;
        for (key, value) in &pairs {
            bytes += fits(key, value, self.limits)?;
        }
        check_sum(bytes)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        // The last value of a key wins; a batch must not name it twice.
        let pairs: BTreeMap<String, Vec<u8>> = pairs.into_iter().collect();
        let writes = pairs.into_iter().map(|(key, value)| {
            let put = PutRequest::builder().set_item(Some(item(key, value)));
            let put = put.build().map_err(malformed)?;
            Ok(WriteRequest::builder().put_request(put).build())
        });
        self.write_all(writes.collect::<Result<_, StoreError>>()?)
            .await
    }

    /// Removes `key`, if it is there.
    pub(super) async fn delete(&self, key: String) -> Result<(), StoreError> {
        let delete = self.table.client.delete_item().table_name(&self.table.name);
        let delete = delete.key(KEY, text(checked(&key)?));
        self.ask(CALL_LIMIT, || delete.clone().send()).await?;
        Ok(())
    }

    /// Removes the keys, 25 at a time.
    pub(super) async fn delete_many(&self, mut keys: Vec<String>) -> Result<(), StoreError> {
        keys.sort_unstable();
        keys.dedup();
        let writes = keys.iter().map(|key| {
            let delete = DeleteRequest::builder().key(KEY, text(checked(key)?));
            let delete = delete.build().map_err(malformed)?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        });
        self.write_all(writes.collect::<Result<_, StoreError>>()?)
            .await
    }

    async fn write_all(&self, mut writes: Vec<WriteRequest>) -> Result<(), StoreError> {
        let mut attempt = 0;
        while !writes.is_empty() {
            if attempt > RETRIES {
                return Err(StoreError::Throttled);
            }
            pause(attempt).await;
            let rest = writes.split_off(writes.len().min(MAX_WRITES));
            let call = self.table.client.batch_write_item();
            let call = call.request_items(&self.table.name, writes);
            let answer = self.ask(BATCH_LIMIT, || call.clone().send()).await?;
            let left = answer
                .unprocessed_items
                .and_then(|mut of| of.remove(&self.table.name));
            writes = left.unwrap_or_default();
            // Patience is for what the service keeps putting off.
            attempt = if writes.is_empty() { 0 } else { attempt + 1 };
            writes.extend(rest);
        }
        Ok(())
    }

    /// Adds `delta` to the counter under `key` and returns its new value.
    /// Callers in this process that count under one key at the same time are
    /// served by one write.
    pub(super) async fn increment(&self, key: String, delta: i64) -> Result<i64, StoreError> {
        checked(&key)?;
        let store = self.clone();
        let add = move |key: String, deltas: Vec<i64>| {
            let store = store.clone();
            async move { store.add_all(&key, &deltas).await }
        };
        self.tally.add(key, delta, add).await
    }

    /// The counter after each of `deltas`; those that would leave its range
    /// fail and change nothing.
    async fn add_all(
        &self,
        key: &str,
        deltas: &[i64],
    ) -> Result<Vec<Result<i64, StoreError>>, StoreError> {
        for attempt in 0..=RETRIES {
            pause(attempt).await;
            let before = self.current(key).await?;
            let mut count = match &before {
                None => 0,
                Some(bytes) => counter(bytes).ok_or_else(|| StoreError::NotACounter {
                    key: key.to_owned(),
                })?,
            };
            let counts = deltas.iter().map(|delta| match count.checked_add(*delta) {
                Some(sum) => {
                    count = sum;
                    Ok(sum)
                }
                None => Err(StoreError::Overflow {
                    key: key.to_owned(),
                    delta: *delta,
                }),
            });
            let counts: Vec<_> = counts.collect();
            if counts.iter().all(Result::is_err)
                || self
                    .replace(key, before, count.to_string().into_bytes())
                    .await?
            {
                return Ok(counts);
            }
        }
        Err(StoreError::Contended {
            key: key.to_owned(),
        })
    }

    /// Stores `value` under `key` if its value is still `expected`.
    pub(super) async fn compare_and_swap(
        &self,
        key: String,
        expected: Option<Fingerprint>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let bytes = fits(&key, &value, self.limits)?;
        let current = self.current(&key).await?;
        if current.as_deref().map(Fingerprint::of) != expected {
            return Ok(false);
        }
        let _share = self.budget.acquire_many(kib(bytes)).await;
        self.replace(&key, current, value).await
    }

    /// Puts `new` in the place of `old`, and tells whether `old` was still
    /// there. Never tried again by itself: a second try would find the first.
    async fn replace(
        &self,
        key: &str,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let update = self.table.client.update_item().table_name(&self.table.name);
        let update = update
            .key(KEY, text(key))
            .update_expression("SET #value = :new, #version = :version")
            .expression_attribute_names("#value", VALUE)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_values(":new", binary(new))
            .expression_attribute_values(":version", version());
        let update = match old {
            None => update.condition_expression("attribute_not_exists(#value)"),
            Some(old) => update
                .condition_expression("#value = :old")
                .expression_attribute_values(":old", binary(old)),
        };
        for attempt in 0..=RETRIES {
            pause(attempt).await;
            let answer = self
                .backend
                .call(CALL_LIMIT, means_down, Box::pin(update.clone().send()))
                .await;
            match answer {
                Ok(_) => return Ok(true),
                Err(CallError::Failed(error)) if lost_the_race(&error) => return Ok(false),
                // The service did nothing: this may be tried again.
                Err(CallError::Failed(error)) if is_refused_for_now(&error) => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
        Err(StoreError::Throttled)
    }
}

impl Table {
    /// Reads an item, which need not exist.
    async fn probe(&self) -> Result<(), String> {
        let read = self.client.get_item().table_name(&self.name);
        match read.key(KEY, text("gristmill-ready")).send().await {
            Err(error) if means_down(&error) => Err(explain(&error)),
            // Being throttled, or denied this key, is an answer, too.
            _ => Ok(()),
        }
    }
}

/// A jittered pause before every attempt but the first.
async fn pause(attempt: u32) {
    if attempt > 0 {
        let longest = (FIRST_PAUSE * 2_u32.pow(attempt - 1)).min(LONGEST_PAUSE);
        tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
    }
}
