//! Key-value on Redis, laid out as Spin does it: keys and values as they are,
//! counters as decimal text, no namespace for the label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, Script};
use tokio::sync::{Mutex, Semaphore};

use super::{
    Fingerprint, Found, Limits, MAX_RESULT_BYTES, SCANS, StoreError, WAITING_KIB, idempotent,
    in_order, kib,
};
use crate::backends::{Backend, Backends, TooManyBackends};
use crate::redis_server::{OwnConnection, RedisServer, is_read_only, means_down};

/// One command on one key.
const COMMAND_LIMIT: Duration = Duration::from_secs(2);
/// One command on many keys.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// Keys that one `SCAN` looks at.
const SCAN_COUNT: usize = 1000;
/// Keys that one `MGET` or `DEL` names at most.
const KEYS_AT_ONCE: usize = 64;

/// Sets a key if its value is still the one that was read. `ARGV[1]` tells
/// whether there was one.
const SWAP: &str = "
local current = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  if current ~= ARGV[2] then return 0 end
elseif current then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3])
return 1";

/// The connection that all sandboxes share: commands are pipelined on it.
struct Link {
    server: RedisServer,
    /// Counts connections, so that a caller forgets the one that failed it and
    /// not its successor.
    current: RwLock<(u64, Option<Arc<OwnConnection>>)>,
    connecting: Mutex<()>,
    /// A write was answered by a replica: the probe must find a primary.
    refuses_writes: AtomicBool,
}

impl Link {
    /// The connection, unless it has ended: what is never sent is never in doubt.
    fn current(&self) -> Option<(u64, Arc<OwnConnection>)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let connection = current.1.as_ref().filter(|found| !found.has_ended())?;
        Some((current.0, Arc::clone(connection)))
    }

    fn replace(&self, connection: Arc<OwnConnection>) -> u64 {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, Some(connection));
        current.0
    }

    async fn get(&self) -> Result<(u64, Arc<OwnConnection>), RedisError> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let _alone = self.connecting.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let connection = Arc::new(self.server.connect().await?);
        Ok((self.replace(Arc::clone(&connection)), connection))
    }

    fn forget(&self, number: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == number {
            *current = (number + 1, None);
        }
    }
}

/// A store: one database of one server.
#[derive(Clone)]
pub struct RedisStore {
    link: Arc<Link>,
    backend: Arc<Backend>,
    /// KiB of values that may be on their way to the server.
    budget: Arc<Semaphore>,
    /// Answers of many keys that are read at once.
    scans: Arc<Semaphore>,
    swap: Arc<Script>,
    limits: Limits,
}

impl RedisStore {
    /// The store on `server`, which need not be there yet.
    pub fn new(
        server: RedisServer,
        backends: &Backends,
        limits: Limits,
    ) -> Result<Self, TooManyBackends> {
        let link = Arc::new(Link {
            server,
            current: RwLock::new((0, None)),
            connecting: Mutex::new(()),
            refuses_writes: AtomicBool::new(false),
        });
        let probed = Arc::clone(&link);
        let name = link.server.name().to_owned();
        let backend = backends.watch(name, move || {
            let link = Arc::clone(&probed);
            async move {
                let must_write = link.refuses_writes.load(Ordering::Relaxed);
                let connection = link.server.probe(must_write).await;
                let connection = connection.map_err(|error| error.to_string())?;
                link.refuses_writes.store(false, Ordering::Relaxed);
                // The old one may hang on a server that is gone.
                link.replace(Arc::new(connection));
                Ok(())
            }
        })?;
        backend.establish();
        Ok(Self {
            link,
            backend,
            budget: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            scans: Arc::new(Semaphore::new(SCANS)),
            swap: Arc::new(Script::new(SWAP)),
            limits,
        })
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Runs `command` once.
    async fn once<T, F>(
        &self,
        limit: Duration,
        command: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let call = async {
            let (number, connection) = self.link.get().await?;
            // Held until the answer is there: the connection ends with its last user.
            let answer = command(connection.commands()).await;
            if let Err(error) = &answer {
                if is_read_only(error) {
                    self.link.refuses_writes.store(true, Ordering::Relaxed);
                }
                if error.is_unrecoverable_error() {
                    self.link.forget(number);
                }
            }
            answer
        };
        let answer = self.backend.call(limit, means_down, call).await;
        answer.map_err(|error| StoreError::of_call(error, |failed| explain(&failed)))
    }

    /// Runs `command`, which may run any number of times, until it is answered.
    async fn ask<T: FromRedisValue>(
        &self,
        limit: Duration,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        idempotent(|| {
            self.once(limit, async |mut connection| {
                command.query_async(&mut connection).await
            })
        })
        .await
    }

    /// The value of `key`.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(COMMAND_LIMIT, &Cmd::get(key)).await
    }

    /// Whether `key` has a value.
    pub(super) async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        self.ask(COMMAND_LIMIT, &Cmd::exists(key)).await
    }

    /// Every key.
    pub(super) async fn keys(&self) -> Result<Vec<String>, StoreError> {
        let _alone = self.scans.acquire().await;
        // While the server rehashes, a key may come twice.
        let mut keys = BTreeSet::new();
        let mut size = 0;
        let mut cursor = 0;
        loop {
            let (next, page) = self.scan(cursor).await?;
            for key in page {
                size += size_of::<String>() + key.len();
                if size > MAX_RESULT_BYTES {
                    return Err(StoreError::too_large());
                }
                keys.insert(key);
            }
            if next == 0 {
                return Ok(keys.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// A page of keys, and the cursor of the next one: Redis' own.
    pub(super) async fn keys_after(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        let mut cursor = match cursor {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| StoreError::Database("the cursor is not one of this store".into()))?,
        };
        loop {
            let (next, page) = self.scan(cursor).await?;
            if next == 0 || !page.is_empty() {
                return Ok((page, (next != 0).then(|| next.to_string())));
            }
            cursor = next;
        }
    }

    async fn scan(&self, cursor: u64) -> Result<(u64, Vec<String>), StoreError> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("COUNT").arg(SCAN_COUNT);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(BATCH_LIMIT, &command).await?;
        // A key that is not text cannot be named by a component.
        let keys = keys
            .into_iter()
            .filter_map(|key| String::from_utf8(key).ok());
        Ok((next, keys.collect()))
    }

    /// The values of `keys`, in their order.
    pub(super) async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Found>, StoreError> {
        let _alone = self.scans.acquire().await;
        let distinct: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let distinct: Vec<&str> = distinct.into_iter().collect();
        // No answer is out of bounds before it can be measured.
        let at_once = (MAX_RESULT_BYTES / self.limits.max_value).clamp(1, KEYS_AT_ONCE);
        let mut values = BTreeMap::new();
        let mut size = 0;
        for chunk in distinct.chunks(at_once) {
            let mut command = redis::cmd("MGET");
            command.arg(chunk);
            let answer: Vec<Option<Vec<u8>>> = self.ask(BATCH_LIMIT, &command).await?;
            for (key, value) in chunk.iter().zip(answer) {
                size += value.as_ref().map_or(0, Vec::len);
                if size > MAX_RESULT_BYTES {
                    return Err(StoreError::too_large());
                }
                values.insert(*key, value);
            }
        }
        in_order(&keys, &values)
    }

    /// Stores `value` under `key`.
    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        let bytes = self.limits.check(&key, &value)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        self.ask(COMMAND_LIMIT, &Cmd::set(key, value)).await
    }

    /// Stores `value` under `key`, for so long.
    pub(super) async fn set_expiring(
        &self,
        key: String,
        value: Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let bytes = self.limits.check(&key, &value)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        let secs = lifetime.as_secs().max(1);
        self.ask(COMMAND_LIMIT, &Cmd::set_ex(key, value, secs))
            .await
    }

    /// Stores all the pairs, or none.
    pub(super) async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        if pairs.is_empty() {
            return Ok(());
        }
        let bytes = self.limits.check_all(&pairs)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        self.ask(BATCH_LIMIT, &Cmd::mset(&pairs)).await
    }

    /// Removes `key`, if it is there.
    pub(super) async fn delete(&self, key: String) -> Result<(), StoreError> {
        self.ask(COMMAND_LIMIT, &Cmd::del(key)).await
    }

    /// Removes all the keys.
    pub(super) async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let () = self.ask(BATCH_LIMIT, &Cmd::del(keys)).await?;
        }
        Ok(())
    }

    /// Adds `delta` to the counter under `key` and returns its new value.
    pub(super) async fn increment(&self, key: String, delta: i64) -> Result<i64, StoreError> {
        self.limits.check(&key, &[])?;
        let command = Cmd::incr(&key, delta);
        let answer = self
            .once(COMMAND_LIMIT, async |mut connection| {
                // Redis tells the two apart by text alone.
                let answer: Result<i64, RedisError> = command.query_async(&mut connection).await;
                match answer {
                    Ok(count) => Ok(Ok(count)),
                    Err(error) if error.code() == Some("WRONGTYPE") => {
                        Ok(Err(Refused::NotACounter))
                    }
                    Err(error) => match error.detail() {
                        Some(text) if text.contains("would overflow") => Ok(Err(Refused::Overflow)),
                        Some(text) if text.contains("not an integer") => {
                            Ok(Err(Refused::NotACounter))
                        }
                        _ => Err(error),
                    },
                }
            })
            .await?;
        answer.map_err(|refused| match refused {
            Refused::NotACounter => StoreError::NotACounter { key },
            Refused::Overflow => StoreError::Overflow { key, delta },
        })
    }

    /// Stores `value` under `key` if its value is still `expected`.
    pub(super) async fn compare_and_swap(
        &self,
        key: String,
        expected: Option<Fingerprint>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let bytes = self.limits.check(&key, &value)?;
        let current = self.get(&key).await?;
        if current.as_deref().map(Fingerprint::of) != expected {
            return Ok(false);
        }
        let _share = self.budget.acquire_many(kib(bytes)).await;
        let mut swap = self.swap.key(key);
        swap.arg(i32::from(current.is_some()))
            .arg(current.unwrap_or_default())
            .arg(value);
        self.once(COMMAND_LIMIT, async |mut connection| {
            swap.invoke_async(&mut connection).await
        })
        .await
    }
}

/// Why Redis did not count.
enum Refused {
    NotACounter,
    Overflow,
}

fn explain(error: &RedisError) -> StoreError {
    if means_down(error) {
        StoreError::Broken(error.to_string())
    } else {
        StoreError::Database(error.to_string())
    }
}
