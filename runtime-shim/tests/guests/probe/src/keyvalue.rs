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

fn run(label: &str) -> Result<(), String> {
    let bucket = store::open(label).map_err(|e| format!("open: {e:?}"))?;
    let long = vec![7_u8; 350 * 1024];
    for (key, value) in [
        ("plain", &b"v"[..]),
        ("empty", b""),
        ("ключ/ \u{1F600}'\"", &long),
    ] {
        expect!(bucket.get(key), Ok(None));
        expect!(bucket.exists(key), Ok(false));
        expect!(bucket.set(key, value), Ok(()));
        expect!(bucket.get(key), Ok(Some(found)) if found == value);
        expect!(bucket.exists(key), Ok(true));
    }
    expect!(
        batch::get_many(&bucket, &["plain".to_owned(), "none".to_owned()]).as_deref(),
        Ok([(a, Some(v)), (b, None)]) if a == "plain" && v == b"v" && b == "none"
    );
    let pairs = [("b1".to_owned(), vec![1]), ("b2".to_owned(), vec![2])];
    expect!(batch::set_many(&bucket, &pairs), Ok(()));
    expect!(bucket.list_keys(None), Ok(page) if page.keys.len() == 5 && page.cursor.is_none());
    let keys: Vec<String> = ["b1", "b2", "plain", "empty", "none"]
        .map(str::to_owned)
        .into();
    expect!(batch::delete_many(&bucket, &keys), Ok(()));
    expect!(bucket.get("b1"), Ok(None));

    expect!(atomics::increment(&bucket, "n", 5), Ok(5));
    expect!(atomics::increment(&bucket, "n", -7), Ok(-2));
    expect!(atomics::increment(&bucket, "n", 0), Ok(-2));
    expect!(bucket.set("text", b"abc"), Ok(()));
    expect!(
        atomics::increment(&bucket, "text", 1),
        Err(store::Error::Other(_))
    );

    let first = Cas::new(&bucket, "cas").map_err(|e| format!("cas: {e:?}"))?;
    expect!(first.current(), Ok(None));
    expect!(bucket.set("cas", b"theirs"), Ok(()));
    let again = match atomics::swap(first, b"mine") {
        Err(CasError::CasFailed(again)) => again,
        other => return Err(format!("a lost race gave {other:?}")),
    };
    expect!(again.current(), Ok(Some(value)) if value == b"theirs");
    expect!(atomics::swap(again, b"mine"), Ok(()));
    expect!(bucket.get("cas"), Ok(Some(value)) if value == b"mine");
    expect!(bucket.delete("cas"), Ok(()));
    expect!(bucket.delete("cas"), Ok(()));
    Ok(())
}
