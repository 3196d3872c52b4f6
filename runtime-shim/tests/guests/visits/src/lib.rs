//! Notes visits, greets, and tries what the host offers to a dependency.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::fmt::Debug;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::time::SystemTime;

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::{atomics, store};
use spin_sdk::http::{Request, Response};
use spin_sdk::key_value::Store;

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["wit", "../../../../wit/wasi-keyvalue.wit", "../../../../wit/wasi-config.wit"],
        inline: "
            package gristmill:visits;
            world visits {
                include acme:visits/visits@1.0.0;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:config/store@0.2.0-draft-2024-09-27;
            }
        ",
        world: "gristmill:visits/visits",
        generate_all,
    });
}

struct Visits;

impl bindings::exports::acme::visits::register::Guest for Visits {
    fn note(who: String) -> Result<u64, String> {
        let store = Store::open("results").map_err(|error| format!("{error:?}"))?;
        let noted = store.get(&who).map_err(|error| format!("{error:?}"))?;
        let count = noted.map_or(0, |bytes| bytes.len() as u64) + 1;
        let marks = vec![b'|'; usize::try_from(count).unwrap_or_default()];
        let set = store.set(&who, &marks);
        set.map_err(|error| format!("{error:?}"))?;
        Ok(count)
    }

    fn attempt(what: String, place: String) -> String {
        match what.as_str() {
            "key-value" => told(Store::open(&place)),
            "keyvalue" => {
                told(store::open(&place).and_then(|bucket| atomics::increment(&bucket, "n", 1)))
            }
            "sqlite" => told(spin_sdk::sqlite::Connection::open(&place)),
            "variable" => told(spin_sdk::variables::get(&place)),
            "config" => told(config::get(&place)),
            "all-config" => told(config::get_all()),
            "environment" => format!("{:?} {}", std::env::var(&place), std::env::args().count()),
            "files" => told(std::fs::read_dir(&place).map(Iterator::count)),
            "fetch" => fetch(&place),
            "redis" => told(spin_sdk::redis::Connection::open(&place)),
            "mqtt" => told(spin_sdk::mqtt::Connection::open(&place, "", "", 1)),
            "postgres" => told(spin_sdk::pg::Connection::open(&place)),
            "postgres3" => told(spin_sdk::pg3::Connection::open(&place)),
            "postgres4" => told(spin_sdk::pg4::Connection::open(&place)),
            "tcp" => told(TcpStream::connect(&place)),
            "udp" => told(UdpSocket::bind(&place)),
            "look-up" => told(place.to_socket_addrs().map(Iterator::count)),
            "basics" => {
                println!("{place}");
                told(
                    SystemTime::UNIX_EPOCH
                        .elapsed()
                        .map(|since| since.as_secs() > 0),
                )
            }
            other => format!("no such attempt: {other}"),
        }
    }
}

fn fetch(url: &str) -> String {
    let request = Request::get(url).build();
    told(spin_sdk::http::run(async {
        let response = spin_sdk::http::send::<_, Response>(request).await;
        response.map(|response| *response.status())
    }))
}

fn told<T: Told, E: Debug>(outcome: Result<T, E>) -> String {
    match outcome {
        Ok(value) => value.told(),
        Err(error) => format!("{error:?}"),
    }
}

/// A handle tells nothing but that it is there.
trait Told {
    fn told(self) -> String;
}

macro_rules! told {
    (handles: $($handle:ty),*; values: $($value:ty),*) => {
        $(impl Told for $handle {
            fn told(self) -> String {
                "open".to_owned()
            }
        })*
        $(impl Told for $value {
            fn told(self) -> String {
                format!("{self:?}")
            }
        })*
    };
}

told!(
    handles: Store, spin_sdk::sqlite::Connection, spin_sdk::redis::Connection,
        spin_sdk::mqtt::Connection, spin_sdk::pg::Connection, spin_sdk::pg3::Connection,
        spin_sdk::pg4::Connection, TcpStream, UdpSocket;
    values: String, Option<String>, Vec<(String, String)>, usize, i64, u16, bool
);

impl bindings::exports::acme::visits::greeting::Guest for Visits {
    fn greet(who: String) -> String {
        format!("Welcome, {who}.")
    }
}

impl bindings::exports::acme::manners::greeting::Guest for Visits {
    fn greet(who: String) -> String {
        format!("How do you do, {who}?")
    }

    fn farewell(who: String) -> String {
        format!("Good-bye, {who}.")
    }
}

impl bindings::Guest for Visits {
    fn shout(text: String) -> String {
        text.to_uppercase()
    }
}

bindings::export!(Visits with_types_in bindings);
