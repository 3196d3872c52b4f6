//! `fermyon:spin/redis`, on the handle that was opened last.

use spin_sdk::redis::{Connection, RedisParameter};

pub(crate) fn step(open: &mut Vec<Connection>, words: &[&str]) -> String {
    if let ["open", address] = words {
        return match Connection::open(address) {
            Ok(connection) => {
                open.push(connection);
                "open".to_owned()
            }
            Err(error) => format!("Err({error:?})"),
        };
    }
    if *words == ["drop"] {
        open.pop();
        return "dropped".to_owned();
    }
    let Some(redis) = open.last() else {
        return "nothing is open".to_owned();
    };
    let owned = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    match words {
        ["publish", channel, payload] => {
            let payload = payload.as_bytes().to_vec();
            format!("{:?}", redis.publish(channel, &payload))
        }
        ["get", key] => {
            let value = redis.get(key);
            let text = value.map(|value| value.map(|v| String::from_utf8_lossy(&v).into_owned()));
            format!("{text:?}")
        }
        ["set", key, value] => format!("{:?}", redis.set(key, &value.as_bytes().to_vec())),
        ["incr", key] => format!("{:?}", redis.incr(key)),
        ["del", keys @ ..] => format!("{:?}", redis.del(&owned(keys))),
        ["sadd", key, values @ ..] => format!("{:?}", redis.sadd(key, &owned(values))),
        ["srem", key, values @ ..] => format!("{:?}", redis.srem(key, &owned(values))),
        ["smembers", key] => format!(
            "{:?}",
            redis.smembers(key).map(|mut members| {
                members.sort();
                members
            })
        ),
        ["execute", command, arguments @ ..] => execute(redis, command, arguments),
        _ => format!("no such step: {words:?}"),
    }
}

/// An argument that begins with `:` is a number.
fn execute(redis: &Connection, command: &str, arguments: &[&str]) -> String {
    let parameter = |&word: &&str| match word.strip_prefix(':').map(str::parse) {
        Some(Ok(number)) => RedisParameter::Int64(number),
        _ => RedisParameter::Binary(word.as_bytes().to_vec()),
    };
    let arguments: Vec<RedisParameter> = arguments.iter().map(parameter).collect();
    let results = redis.execute(command, &arguments);
    let shown = results.map(|results| results.iter().map(show).collect::<Vec<String>>());
    match shown {
        Ok(results) => format!("[{}]", results.join(", ")),
        Err(error) => format!("Err({error:?})"),
    }
}

fn show(result: &spin_sdk::redis::RedisResult) -> String {
    use spin_sdk::redis::RedisResult;
    match result {
        RedisResult::Nil => "nil".to_owned(),
        RedisResult::Status(text) => format!("status {text}"),
        RedisResult::Int64(number) => format!("int {number}"),
        RedisResult::Binary(bytes) => format!("binary {}", String::from_utf8_lossy(bytes)),
    }
}
