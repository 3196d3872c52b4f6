//! Does with the path in `?path=` what the last part of the request's path says,
//! and answers with what it saw, or with 500 and the kind of error.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use spin_sdk::http::{Request, Response};
use spin_sdk::http_component;

#[http_component]
fn handle(request: Request) -> Response {
    let route = request.path().trim_end_matches('/');
    let verb = route.rsplit('/').next().unwrap_or_default();
    let path = request.query().trim_start_matches("path=");
    match act(verb, path) {
        Ok(seen) => Response::new(200, seen),
        Err(error) => Response::new(500, format!("{:?}", error.kind())),
    }
}

fn act(verb: &str, path: &str) -> io::Result<Vec<u8>> {
    let done = |()| b"done".to_vec();
    match verb {
        "nothing" => Ok(Vec::new()),
        "read" => fs::read(path),
        "list" => list(path),
        "size" => Ok(fs::metadata(path)?.len().to_string().into()),
        "create" => fs::write(path, "created").map(done),
        "append" => OpenOptions::new()
            .append(true)
            .open(path)?
            .write_all(b"more")
            .map(done),
        "make-folder" => fs::create_dir(path).map(done),
        "remove" => fs::remove_file(path).map(done),
        "rename" => fs::rename(path, "renamed").map(done),
        "env" => Ok(std::env::var(path).unwrap_or_default().into()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Everything below `path`, a line each.
fn list(path: &str) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(path).to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found.sort();
    Ok(found.join("\n").into())
}
