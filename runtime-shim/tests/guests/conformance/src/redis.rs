//! `fermyon:spin/redis` 2.0.0.

use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use crate::must::{Outcome, done, must};
use crate::setting;

pub(crate) fn granted() -> Outcome {
    let address = setting("REDIS_ADDRESS")?;
    let redis = done("open", Connection::open(&address))?;
    let eureka = b"Eureka!".to_vec();
    must!(redis.get("missing"), Ok(None));
    must!(redis.set("get-set", &eureka), Ok(()));
    must!(redis.get("get-set"), Ok(Some(value)) if value == eureka);
    must!(redis.set("incr", b"0"), Ok(()));
    must!(redis.incr("incr"), Ok(1));
    must!(redis.incr("new"), Ok(1));
    let keys = ["get-set", "incr", "new", "missing"].map(str::to_owned);
    must!(redis.del(&keys), Ok(3));
    must!(redis.publish("channel", &eureka), Ok(()));
    sets(&redis)?;
    any_command(&redis)?;

    // A server that the manifest does not name, by host and by port; and no address.
    for other in [
        address.replace("127.0.0.1", "127.0.0.2"),
        "redis://127.0.0.1:1".to_owned(),
        "nonsense".to_owned(),
    ] {
        must!(Connection::open(&other), Err(Error::InvalidAddress));
    }
    Ok(())
}

/// Where the list of allowed hosts names the server by a variable.
pub(crate) fn reached() -> Outcome {
    let redis = done("open", Connection::open(&setting("REDIS_ADDRESS")?))?;
    must!(redis.get("missing"), Ok(None));
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    let address = setting("REDIS_ADDRESS")?;
    must!(Connection::open(&address), Err(Error::InvalidAddress));
    Ok(())
}

fn sets(redis: &Connection) -> Outcome {
    let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    must!(redis.smembers("set"), Ok(members) if members.is_empty());
    must!(redis.sadd("set", &words(&["a", "b"])), Ok(2));
    must!(redis.sadd("set", &words(&["b", "c"])), Ok(1));
    must!(
        redis.smembers("set").map(|mut members| {
            members.sort();
            members
        }),
        Ok(members) if members == ["a", "b", "c"]
    );
    must!(redis.srem("set", &words(&["a", "x"])), Ok(1));
    must!(redis.set("text", b"x"), Ok(()));
    must!(redis.sadd("text", &words(&["a"])), Err(Error::TypeError));
    must!(redis.del(&words(&["set", "text"])), Ok(2));
    Ok(())
}

fn any_command(redis: &Connection) -> Outcome {
    let bytes = |text: &str| RedisParameter::Binary(text.as_bytes().to_vec());
    let status = redis.execute("set", &[bytes("key"), bytes("Eureka!")]);
    must!(status.as_deref(), Ok([RedisResult::Status(text)]) if text == "OK");
    let length = redis.execute("append", &[bytes("key"), bytes(" I've got it!")]);
    must!(length.as_deref(), Ok([RedisResult::Int64(20)]));
    let value = redis.execute("get", &[bytes("key")]);
    must!(value.as_deref(), Ok([RedisResult::Binary(text)]) if text == b"Eureka! I've got it!");
    let nil = redis.execute("get", &[bytes("missing")]);
    must!(nil.as_deref(), Ok([RedisResult::Nil]));
    let number = redis.execute("incrby", &[bytes("number"), RedisParameter::Int64(-7)]);
    must!(number.as_deref(), Ok([RedisResult::Int64(-7)]));
    let several = redis.execute("mget", &[bytes("key"), bytes("missing"), bytes("number")]);
    must!(
        several.as_deref(),
        Ok([RedisResult::Binary(_), RedisResult::Nil, RedisResult::Binary(seven)]) if seven == b"-7"
    );
    must!(redis.execute("flushall", &[]), Ok(_));
    must!(redis.execute("nonsense", &[]), Err(Error::Other(_)));
    Ok(())
}
