//! Key-value on Redis, laid out as Spin does it: keys and values as they are,
//! counters as decimal text, no namespace for the label.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, Script};
use tokio::sync::{Mutex, Semaphore};

use super::{
    Fingerprint, Found, Limits, MAX_RESULT_BYTES, StoreError, WAITING_KIB, idempotent, kib,
};
use crate::backends::{Backend, Backends, CallError, TooManyBackends};
use crate::redis_server::{RedisServer, means_down};

/// One command on one key.
const COMMAND_LIMIT: Duration = Duration::from_secs(2);
/// One command on many keys.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// Keys that one `SCAN` looks at.
const SCAN_COUNT: usize = 1000;
/// Keys that one `MGET` or `DEL` names, so that no answer is out of bounds
/// before it can be measured.
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
    current: RwLock<(u64, Option<MultiplexedConnection>)>,
    connecting: Mutex<()>,
}

impl Link {
    fn current(&self) -> (u64, Option<MultiplexedConnection>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn replace(&self, connection: Option<MultiplexedConnection>) -> u64 {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, connection);
        current.0
    }

    async fn get(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let (number, Some(connection)) = self.current() {
            return Ok((number, connection));
        }
        let _alone = self.connecting.lock().await;
        if let (number, Some(connection)) = self.current() {
            return Ok((number, connection));
        }
        let connection = self.server.connect().await?;
        Ok((self.replace(Some(connection.clone())), connection))
    }

    fn forget(&self, number: u64) {
        if self.current().0 == number {
            self.replace(None);
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
        });
        let probed = Arc::clone(&link);
        let backend = backends.watch(link.server.name().to_owned(), move || {
            let link = Arc::clone(&probed);
            async move {
                let connection = link.server.probe().await.map_err(|e| e.to_string())?;
                // The old one may hang on a server that is gone.
                link.replace(Some(connection));
                Ok(())
            }
        })?;
        backend.establish();
        Ok(Self {
            link,
            backend,
            budget: Arc::new(Semaphore::new(WAITING_KIB as usize)),
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
            let answer = command(connection).await;
            if answer
                .as_ref()
                .is_err_and(RedisError::is_unrecoverable_error)
            {
                self.link.forget(number);
            }
            answer
        };
        let answer = self.backend.call(limit, means_down, call).await;
        answer.map_err(StoreError::from)
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
        let mut found = Vec::with_capacity(keys.len());
        let mut size = 0;
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let mut command = redis::cmd("MGET");
            command.arg(keys);
            let values: Vec<Option<Vec<u8>>> = self.ask(BATCH_LIMIT, &command).await?;
            for (key, value) in keys.iter().zip(values) {
                size += key.len() + value.as_ref().map_or(0, Vec::len);
                if size > MAX_RESULT_BYTES {
                    return Err(StoreError::too_large());
                }
                found.push((key.clone(), value));
            }
        }
        Ok(found)
    }

    /// Stores `value` under `key`.
    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        let bytes = self.limits.check(&value)?;
        let _share = self.budget.acquire_many(kib(bytes)).await;
        self.ask(COMMAND_LIMIT, &Cmd::set(key, value)).await
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
        let bytes = self.limits.check(&value)?;
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

impl From<CallError<RedisError>> for StoreError {
    fn from(error: CallError<RedisError>) -> Self {
        match error {
            CallError::Down(unavailable) => Self::Down(unavailable),
            CallError::TimedOut { backend, limit } => Self::TimedOut { backend, limit },
            CallError::Failed(error) if means_down(&error) => Self::Broken(error.to_string()),
            CallError::Failed(error) => Self::Database(error.to_string()),
        }
    }
}
