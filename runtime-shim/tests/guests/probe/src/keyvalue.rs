//! `wasi:keyvalue` and `wasi:config`, bound directly: the SDK has no wrappers.

use bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use bindings::wasi::keyvalue::{batch, store};

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../../wit/wasi-keyvalue.wit", "../../../../wit/wasi-config.wit"],
        inline: "
            package gristmill:probe;
            world probe {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
                import wasi:config/store@0.2.0-draft-2024-09-27;
            }
        ",
        world: "gristmill:probe/probe",
        generate_all,
    });
}

pub(crate) fn config(key: &str) -> impl std::fmt::Debug {
    if key.is_empty() {
        return bindings::wasi::config::store::get_all().map(|mut all| {
            all.sort();
            format!("{all:?}")
        });
    }
    bindings::wasi::config::store::get(key).map(|value| format!("{value:?}"))
}

/// Every call of the three interfaces once; `passed`, or where it went wrong.
pub(crate) fn suite(label: &str) -> String {
    match store::open("not-granted") {
        Err(store::Error::AccessDenied) => {}
        other => return format!("an ungranted label gave {other:?}"),
    }
    match run(label) {
        Ok(()) => "passed".to_owned(),
        Err(failure) => failure,
    }
}

macro_rules! expect {
    ($actual:expr, $expected:pat $(if $guard:expr)?) => {
        match $actual {
            $expected $(if $guard)? => {}
            other => return Err(format!("{}: {other:?}", stringify!($actual))),
        }
    };
}

/// Keys that are easy to get wrong, and values from nothing to 350 KiB.
const ODD_KEYS: [&str; 8] = [
    "plain",
    "with space",
    "line\nbreak",
    "nul\0byte",
    "ключ/ \u{1F600}'\"",
    "%2e%2e/../\\",
    "*?[a]{b}$:;--",
    "{{ variable }}",
];
const SIZES: [usize; 5] = [0, 1, 255, 64 * 1024, 350 * 1024];
/// More than one page of any backend's batch calls.
const BATCH: usize = 230;

fn run(label: &str) -> Result<(), String> {
    let bucket = store::open(label).map_err(|e| format!("open: {e:?}"))?;
    keys_and_values(&bucket)?;
    batches(&bucket)?;
    counters(&bucket)?;
    swaps(&bucket)?;
    expect!(bucket.list_keys(None), Ok(page) if page.keys.is_empty() && page.cursor.is_none());
    Ok(())
}

/// Every byte value, repeated.
fn binary(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8 ^ 0xA5).collect()
}

fn keys_and_values(bucket: &store::Bucket) -> Result<(), String> {
    for key in ODD_KEYS {
        expect!(bucket.get(key), Ok(None));
        expect!(bucket.exists(key), Ok(false));
        for bytes in SIZES {
            let value = binary(bytes);
            expect!(bucket.set(key, &value), Ok(()));
            expect!(bucket.get(key), Ok(Some(found)) if found == value);
        }
        expect!(bucket.exists(key), Ok(true));
    }
    let mut keys = all_keys(bucket)?;
    keys.sort();
    let mut expected = ODD_KEYS.map(str::to_owned);
    expected.sort();
    if keys != expected {
        return Err(format!("list-keys gave {keys:?}"));
    }
    for key in ODD_KEYS {
        expect!(bucket.delete(key), Ok(()));
        expect!(bucket.delete(key), Ok(()));
        expect!(bucket.exists(key), Ok(false));
    }
    Ok(())
}

fn all_keys(bucket: &store::Bucket) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    let mut cursor = None;
    loop {
        let page = bucket
            .list_keys(cursor.as_deref())
            .map_err(|e| format!("list-keys: {e:?}"))?;
        keys.extend(page.keys);
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(keys),
        }
    }
}

fn batches(bucket: &store::Bucket) -> Result<(), String> {
    let pairs: Vec<(String, Vec<u8>)> = (0..BATCH)
        .map(|i| (format!("batch {i}"), binary(i)))
        .collect();
    let mut keys: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
    expect!(batch::set_many(bucket, &[]), Ok(()));
    expect!(batch::get_many(bucket, &[]).as_deref(), Ok([]));
    expect!(batch::delete_many(bucket, &[]), Ok(()));
    expect!(batch::set_many(bucket, &pairs), Ok(()));
    // Asked for in another order, one that is not there, one twice.
    keys.reverse();
    keys.insert(0, "none".to_owned());
    keys.push("batch 7".to_owned());
    let found = batch::get_many(bucket, &keys).map_err(|e| format!("get-many: {e:?}"))?;
    let expected = keys.iter().map(|key| {
        let stored = pairs.iter().find(|(stored, _)| stored == key);
        (key.clone(), stored.map(|(_, value)| value.clone()))
    });
    if found != expected.collect::<Vec<_>>() {
        return Err(format!(
            "get-many gave {} values, not those that were asked for",
            found.len()
        ));
    }
    // The last value of a key that is set twice is the one that stays.
    let twice = [
        ("batch 0".to_owned(), vec![1]),
        ("batch 0".to_owned(), vec![2]),
    ];
    expect!(batch::set_many(bucket, &twice), Ok(()));
    expect!(bucket.get("batch 0"), Ok(Some(value)) if value == [2]);
    expect!(all_keys(bucket), Ok(all) if all.len() == BATCH);
    expect!(batch::delete_many(bucket, &keys), Ok(()));
    expect!(all_keys(bucket), Ok(all) if all.is_empty());
    Ok(())
}

fn counters(bucket: &store::Bucket) -> Result<(), String> {
    expect!(atomics::increment(bucket, "n", 0), Ok(0));
    expect!(atomics::increment(bucket, "n", 5), Ok(5));
    expect!(atomics::increment(bucket, "n", -7), Ok(-2));
    expect!(atomics::increment(bucket, "n", 0), Ok(-2));
    expect!(
        atomics::increment(bucket, "n", i64::MIN),
        Err(store::Error::Other(_))
    );
    expect!(
        atomics::increment(bucket, "n", i64::MAX),
        Ok(9_223_372_036_854_775_805)
    );
    expect!(
        atomics::increment(bucket, "n", 3),
        Err(store::Error::Other(_))
    );
    expect!(
        atomics::increment(bucket, "n", 0),
        Ok(9_223_372_036_854_775_805)
    );
    expect!(bucket.set("text", b"abc"), Ok(()));
    expect!(
        atomics::increment(bucket, "text", 1),
        Err(store::Error::Other(_))
    );
    expect!(bucket.get("text"), Ok(Some(value)) if value == b"abc");
    expect!(bucket.delete("n"), Ok(()));
    expect!(bucket.delete("text"), Ok(()));
    Ok(())
}

fn swaps(bucket: &store::Bucket) -> Result<(), String> {
    let new = || Cas::new(bucket, "cas").map_err(|e| format!("cas: {e:?}"));
    let first = new()?;
    expect!(first.current(), Ok(None));
    expect!(bucket.set("cas", b"theirs"), Ok(()));
    let again = match atomics::swap(first, b"mine") {
        Err(CasError::CasFailed(again)) => again,
        other => return Err(format!("a lost race gave {other:?}")),
    };
    expect!(again.current(), Ok(Some(value)) if value == b"theirs");
    expect!(atomics::swap(again, b"mine"), Ok(()));
    expect!(bucket.get("cas"), Ok(Some(value)) if value == b"mine");
    // Not asked what is there: what was there when it began counts.
    let unasked = new()?;
    expect!(bucket.delete("cas"), Ok(()));
    expect!(atomics::swap(unasked, b"late"), Err(CasError::CasFailed(_)));
    expect!(bucket.exists("cas"), Ok(false));
    expect!(atomics::swap(new()?, b""), Ok(()));
    expect!(atomics::swap(new()?, b"\0"), Ok(()));
    expect!(bucket.get("cas"), Ok(Some(value)) if value == b"\0");
    expect!(bucket.delete("cas"), Ok(()));
    Ok(())
}

/// Adds one to a counter; its new value.
pub(crate) fn count(label: &str, key: &str) -> Result<String, String> {
    let bucket = store::open(label).map_err(|e| format!("{e:?}"))?;
    let count = atomics::increment(&bucket, key, 1).map_err(|e| format!("{e:?}"))?;
    Ok(count.to_string())
}

/// Adds a letter to a value by compare-and-swap, against whoever does the same;
/// how many times that failed.
pub(crate) fn append(label: &str, key: &str) -> Result<String, String> {
    let bucket = store::open(label).map_err(|e| format!("{e:?}"))?;
    let mut cas = Cas::new(&bucket, key).map_err(|e| format!("{e:?}"))?;
    for lost in 0..1000 {
        let mut value = cas
            .current()
            .map_err(|e| format!("{e:?}"))?
            .unwrap_or_default();
        value.push(b'x');
        match atomics::swap(cas, &value) {
            Ok(()) => return Ok(lost.to_string()),
            Err(CasError::CasFailed(again)) => cas = again,
            Err(CasError::StoreError(error)) => return Err(format!("{error:?}")),
        }
    }
    Err("lost every race".to_owned())
}

/// Stores so many bytes and reads them back.
pub(crate) fn large(label: &str, bytes: usize) -> Result<String, String> {
    let bucket = store::open(label).map_err(|e| format!("{e:?}"))?;
    let value = binary(bytes);
    bucket.set("large", &value).map_err(|e| format!("{e:?}"))?;
    let found = bucket.get("large").map_err(|e| format!("{e:?}"))?;
    let same = found.as_ref() == Some(&value);
    bucket.delete("large").map_err(|e| format!("{e:?}"))?;
    Ok(same.to_string())
}
