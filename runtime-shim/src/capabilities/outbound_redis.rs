//! `fermyon:spin/redis`: commands to the servers that the manifest allows. Each
//! handle has a connection to itself, so that what one guest sets on it is
//! never seen by another.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, ParsingError, RedisError, Value};
use url::Url;
use wasmtime::component::{HasData, Resource, ResourceTable};

use super::bindings::fermyon::spin::redis::{
    Error, Host, HostConnection, RedisParameter, RedisResult,
};
use super::{Grants, refusal};
use crate::backends::CallError;
use crate::redis_pool::{Lease, LendError, PoolsError, RedisPool, RedisPools};
use crate::stores::MAX_RESULT_BYTES;

/// Connections that one sandbox may hold open.
const MAX_OPEN_CONNECTIONS: usize = 16;

/// Commands that set nothing on the connection they are sent on. After any
/// other one, `MULTI`, `SELECT` or an unknown one, nobody else gets it.
#[rustfmt::skip]
const STATELESS: &[&str] = &[
    "APPEND", "BITCOUNT", "BITPOS", "COPY", "DBSIZE", "DECR", "DECRBY", "DEL", "ECHO", "EXISTS",
    "EXPIRE", "EXPIREAT", "EXPIRETIME", "GET", "GETBIT", "GETDEL", "GETEX", "GETRANGE", "GETSET",
    "HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET",
    "HMSET", "HSCAN", "HSET", "HSETNX", "HSTRLEN", "HVALS", "INCR", "INCRBY", "INCRBYFLOAT",
    "KEYS", "LINDEX", "LINSERT", "LLEN", "LMOVE", "LPOP", "LPOS", "LPUSH", "LPUSHX", "LRANGE",
    "LREM", "LSET", "LTRIM", "MGET", "MSET", "MSETNX", "PERSIST", "PEXPIRE", "PEXPIREAT", "PFADD",
    "PFCOUNT", "PFMERGE", "PING", "PSETEX", "PTTL", "PUBLISH", "RANDOMKEY", "RENAME", "RENAMENX",
    "RPOP", "RPOPLPUSH", "RPUSH", "RPUSHX", "SADD", "SCAN", "SCARD", "SDIFF", "SDIFFSTORE", "SET",
    "SETBIT", "SETEX", "SETNX", "SETRANGE", "SINTER", "SINTERSTORE", "SISMEMBER", "SMEMBERS",
    "SMISMEMBER", "SMOVE", "SPOP", "SRANDMEMBER", "SREM", "SSCAN", "STRLEN", "SUNION",
    "SUNIONSTORE", "TIME", "TOUCH", "TTL", "TYPE", "UNLINK", "XACK", "XADD", "XDEL", "XLEN",
    "XRANGE", "XREVRANGE", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZINCRBY", "ZMSCORE", "ZPOPMAX",
    "ZPOPMIN", "ZRANGE", "ZRANGEBYSCORE", "ZRANK", "ZREM", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE",
    "ZREVRANGE", "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE",
];

fn is_stateless(command: &str) -> bool {
    STATELESS
        .binary_search(&command.to_ascii_uppercase().as_str())
        .is_ok()
}

/// Marks the view for the linker.
pub(super) struct OutboundRedis;

impl HasData for OutboundRedis {
    type Data<'a> = RedisView<'a>;
}

/// What Redis calls see of a sandbox.
pub(super) struct RedisView<'a> {
    pub(super) grants: &'a Grants,
    pub(super) pools: &'a RedisPools,
    pub(super) table: &'a mut ResourceTable,
    pub(super) open: &'a mut usize,
}

/// A guest's handle.
#[allow(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Connection {
    pool: Arc<RedisPool>,
    /// None after it broke.
    lease: Option<Lease>,
    /// The guest may have set something on it.
    marked: bool,
}

/// Why a command has no result for the guest.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Lend(#[from] CallError<LendError>),
    #[error(transparent)]
    Call(#[from] CallError<RedisError>),
    #[error("the connection was lost, and with it what earlier commands had set on it")]
    StateLost,
    // Spin's words, which its conformance tests look for.
    #[error("query result exceeds limit of {MAX_RESULT_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Unexpected(#[from] ParsingError),
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        match &error {
            CommandError::Lend(CallError::Failed(LendError::Busy)) => Self::TooManyConnections,
            CommandError::Unexpected(_) => Self::TypeError,
            CommandError::Call(CallError::Failed(said)) if said.code() == Some("WRONGTYPE") => {
                Self::TypeError
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

impl Connection {
    async fn run(&mut self, command: &Cmd, marks: bool) -> Result<Value, CommandError> {
        if self.lease.as_ref().is_some_and(|lease| !lease.is_usable()) {
            self.lease = None;
        }
        let lease = match &mut self.lease {
            Some(lease) => lease,
            None if self.marked => return Err(CommandError::StateLost),
            lost => lost.insert(self.pool.lend().await?),
        };
        self.marked |= marks;
        let answer = lease.run(command, marks).await?;
        // It is in memory by now; the guest is spared.
        if size(&answer) > MAX_RESULT_BYTES {
            return Err(CommandError::TooLarge);
        }
        Ok(answer)
    }
}

fn size(answer: &Value) -> usize {
    let content = match answer {
        Value::BulkString(bytes) => bytes.len(),
        Value::SimpleString(text) => text.len(),
        Value::Array(items) | Value::Set(items) => items.iter().map(size).sum(),
        _ => 0,
    };
    size_of::<RedisResult>() + content
}

impl RedisView<'_> {
    /// The connections to `address`, if it is one and allowed.
    fn pool(&self, address: &str) -> Result<Arc<RedisPool>, Error> {
        if address.len() > refusal::MAX_ADDRESS_BYTES {
            return Err(Error::InvalidAddress);
        }
        let url = Url::parse(address).map_err(|_| Error::InvalidAddress)?;
        let host = url.host_str().unwrap_or_default();
        // Other schemes lead to Unix sockets.
        if !matches!(url.scheme(), "redis" | "rediss")
            || !refusal::allows(&self.grants.component, url.scheme(), host, url.port())
        {
            return Err(Error::InvalidAddress);
        }
        self.pools.to(address).map_err(|error| match error {
            PoolsError::Address(_) => Error::InvalidAddress,
            error => Error::Other(error.to_string()),
        })
    }

    async fn connect(&mut self, address: &str) -> Result<Connection, Error> {
        let pool = self.pool(address)?;
        let lease = pool.lend().await.map_err(CommandError::from)?;
        self.grants.dependencies.add(pool.backend());
        Ok(Connection {
            pool,
            lease: Some(lease),
            marked: false,
        })
    }

    async fn run<T: FromRedisValue>(
        &mut self,
        connection: &Resource<Connection>,
        command: &Cmd,
    ) -> wasmtime::Result<Result<T, Error>> {
        let answer = self.table.get_mut(connection)?.run(command, false).await;
        Ok(answer.and_then(convert).map_err(Error::from))
    }
}

impl Host for RedisView<'_> {}

impl HostConnection for RedisView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, Error>> {
        if *self.open >= MAX_OPEN_CONNECTIONS {
            return Ok(Err(Error::TooManyConnections));
        }
        Ok(match self.connect(&address).await {
            Ok(connection) => {
                *self.open += 1;
                Ok(self.table.push(connection)?)
            }
            Err(error) => Err(error),
        })
    }

    async fn publish(
        &mut self,
        connection: Resource<Connection>,
        channel: String,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.run(&connection, redis::cmd("PUBLISH").arg(channel).arg(payload))
            .await
    }

    async fn get(
        &mut self,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.run(&connection, redis::cmd("GET").arg(key)).await
    }

    async fn set(
        &mut self,
        connection: Resource<Connection>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.run(&connection, redis::cmd("SET").arg(key).arg(value))
            .await
    }

    async fn incr(
        &mut self,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<i64, Error>> {
        let command = redis::cmd("INCR").arg(key).clone();
        let answer = self.table.get_mut(&connection)?.run(&command, false).await;
        Ok(answer.and_then(convert).map_err(|error| match &error {
            CommandError::Call(CallError::Failed(said)) if is_no_integer(said) => Error::TypeError,
            _ => error.into(),
        }))
    }

    async fn del(
        &mut self,
        connection: Resource<Connection>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<u32, Error>> {
        self.run(&connection, redis::cmd("DEL").arg(keys)).await
    }

    async fn sadd(
        &mut self,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<u32, Error>> {
        self.run(&connection, redis::cmd("SADD").arg(key).arg(values))
            .await
    }

    async fn smembers(
        &mut self,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<Vec<String>, Error>> {
        self.run(&connection, redis::cmd("SMEMBERS").arg(key)).await
    }

    async fn srem(
        &mut self,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<u32, Error>> {
        self.run(&connection, redis::cmd("SREM").arg(key).arg(values))
            .await
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        command: String,
        arguments: Vec<RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<RedisResult>, Error>> {
        let marks = !is_stateless(&command);
        let mut request = redis::cmd(&command);
        for argument in arguments {
            match argument {
                RedisParameter::Int64(number) => request.arg(number),
                RedisParameter::Binary(bytes) => request.arg(bytes),
            };
        }
        let connection = self.table.get_mut(&connection)?;
        let mut results = Vec::new();
        let answer = connection.run(&request, marks).await;
        Ok(answer
            .and_then(|value| flatten(value, &mut results))
            .map(|()| results)
            .map_err(Error::from))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        *self.open -= 1;
        Ok(())
    }
}

fn convert<T: FromRedisValue>(answer: Value) -> Result<T, CommandError> {
    Ok(redis::from_redis_value(answer)?)
}

/// The server has no code of its own for it.
fn is_no_integer(said: &RedisError) -> bool {
    said.detail()
        .is_some_and(|detail| detail.starts_with("value is not an integer"))
}

/// Spin's mapping: arrays lose their nesting, and what only newer versions of
/// the protocol have is an error.
fn flatten(value: Value, results: &mut Vec<RedisResult>) -> Result<(), CommandError> {
    results.push(match value {
        Value::Nil => RedisResult::Nil,
        Value::Int(number) => RedisResult::Int64(number),
        Value::Boolean(truth) => RedisResult::Int64(truth.into()),
        Value::BulkString(bytes) | Value::BigNumber(bytes) => RedisResult::Binary(bytes),
        Value::Double(number) => RedisResult::Binary(number.to_string().into_bytes()),
        Value::SimpleString(text) => RedisResult::Status(text),
        Value::Okay => RedisResult::Status("OK".to_owned()),
        Value::Array(items) | Value::Set(items) => {
            for item in items {
                flatten(item, results)?;
            }
            return Ok(());
        }
        _ => return Err(ParsingError::from("an answer of a newer protocol").into()),
    });
    Ok(())
}
