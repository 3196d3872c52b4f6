//! `wasi:keyvalue` 0.2.0-draft2, for which the SDK has no wrappers.

use spin_sdk::wit::wasi::keyvalue::atomics::{self, Cas, CasError};
use spin_sdk::wit::wasi::keyvalue::batch;
use spin_sdk::wit::wasi::keyvalue::store::{self, Error};

use crate::must::{Outcome, done, must};

/// Not that of `key_value`, which runs at the same time.
const LABEL: &str = "wasi";

pub(crate) fn granted() -> Outcome {
    must!(store::open("forbidden"), Err(Error::AccessDenied));
    let bucket = done("open", store::open(LABEL))?;
    must!(bucket.get("wasi"), Ok(None));
    must!(bucket.exists("wasi"), Ok(false));
    must!(bucket.set("wasi", b"one"), Ok(()));
    must!(bucket.get("wasi"), Ok(Some(value)) if value == b"one");
    must!(bucket.exists("wasi"), Ok(true));
    must!(bucket.list_keys(None), Ok(page) if page.keys == ["wasi"] && page.cursor.is_none());

    // The other interface has the same stores.
    let spin = done("open", spin_sdk::key_value::Store::open(LABEL))?;
    must!(spin.get("wasi"), Ok(Some(value)) if value == b"one");
    batches(&bucket)?;
    counters(&bucket)?;
    swaps(&bucket)?;
    must!(bucket.delete("wasi"), Ok(()));
    must!(bucket.delete("wasi"), Ok(()));
    must!(bucket.list_keys(None), Ok(page) if page.keys.is_empty() && page.cursor.is_none());
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    must!(store::open(LABEL), Err(Error::AccessDenied));
    Ok(())
}

fn batches(bucket: &store::Bucket) -> Outcome {
    must!(batch::get_many(bucket, &[]).as_deref(), Ok([]));
    must!(batch::set_many(bucket, &[]), Ok(()));
    must!(batch::delete_many(bucket, &[]), Ok(()));
    let pairs = [("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])];
    must!(batch::set_many(bucket, &pairs), Ok(()));
    let keys = ["a".to_owned(), "b".to_owned()];
    must!(
        batch::get_many(bucket, &keys).as_deref(),
        Ok([(a, Some(one)), (b, Some(two))]) if a == "a" && b == "b" && one == &[1] && two == &[2]
    );
    must!(batch::delete_many(bucket, &keys), Ok(()));
    must!(bucket.exists("a"), Ok(false));
    Ok(())
}

fn counters(bucket: &store::Bucket) -> Outcome {
    must!(atomics::increment(bucket, "counter", 1), Ok(1));
    must!(atomics::increment(bucket, "counter", 2), Ok(3));
    must!(atomics::increment(bucket, "counter", -10), Ok(-7));
    must!(bucket.delete("counter"), Ok(()));
    Ok(())
}

fn swaps(bucket: &store::Bucket) -> Outcome {
    let cas = done("cas", Cas::new(bucket, "cas"))?;
    must!(cas.current(), Ok(None));
    must!(atomics::swap(cas, b"first"), Ok(()));
    let cas = done("cas", Cas::new(bucket, "cas"))?;
    must!(cas.current(), Ok(Some(value)) if value == b"first");
    must!(bucket.set("cas", b"theirs"), Ok(()));
    let again = match atomics::swap(cas, b"mine") {
        Err(CasError::CasFailed(again)) => again,
        other => return Err(format!("a lost race gave {other:?}")),
    };
    must!(again.current(), Ok(Some(value)) if value == b"theirs");
    must!(atomics::swap(again, b"mine"), Ok(()));
    must!(bucket.get("cas"), Ok(Some(value)) if value == b"mine");
    must!(bucket.delete("cas"), Ok(()));
    Ok(())
}
