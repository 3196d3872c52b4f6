//! Tries one capability of the host for each path, and answers with what it saw.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

mod keyvalue;

use std::time::Duration;

use anyhow::Context;
use futures::SinkExt;
use spin_sdk::http::{
    Headers, IncomingRequest, Method, OutgoingResponse, Request, Response, ResponseOutparam,
};
use spin_sdk::http_component;
use spin_sdk::key_value::Store;

#[http_component]
async fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = request.path_with_query().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    // Service chaining hands the path over as it was asked for.
    let path = path.strip_prefix("/probe").unwrap_or(&path).to_owned();
    let (verb, rest) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((&path[1..], ""));
    match verb {
        "silent" => {}
        "stream" => stream(out, rest.parse().unwrap_or(0)).await,
        _ => {
            let answer = answer(verb, rest, &target, request).await;
            let (status, body) = answer.unwrap_or_else(|error| (500, format!("{error:?}").into()));
            out.set_with_body(plain(status), body)
                .await
                .expect("send the answer");
        }
    }
}

fn plain(status: u16) -> OutgoingResponse {
    let headers = Headers::new();
    headers
        .append("content-type", b"text/plain")
        .expect("a valid header");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("a valid status");
    response
}

async fn stream(out: ResponseOutparam, chunks: usize) {
    let response = plain(200);
    let mut body = response.take_body();
    out.set(response);
    for _ in 0..chunks {
        if body.send(vec![b'x'; 64 * 1024]).await.is_err() {
            return;
        }
    }
}

async fn answer(
    verb: &str,
    rest: &str,
    target: &str,
    request: IncomingRequest,
) -> anyhow::Result<(u16, Vec<u8>)> {
    Ok(match verb {
        "headers" => {
            let mut lines: Vec<String> = request
                .headers()
                .entries()
                .into_iter()
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
                .collect();
            lines.sort();
            (200, lines.join("\n").into())
        }
        "echo" => (200, request.into_body().await?),
        "open" => match Store::open(rest) {
            Ok(_) => (200, b"open".to_vec()),
            Err(error) => (403, format!("{error:?}").into()),
        },
        "kv" => kv(request.method(), rest, request).await?,
        "keyvalue" => (200, keyvalue::suite(rest).into()),
        "count" | "append" | "large" => {
            let (label, rest) = rest.split_once('/').context("a label, then what to do")?;
            let answer = match verb {
                "count" => keyvalue::count(label, rest),
                "append" => keyvalue::append(label, rest),
                _ => keyvalue::large(label, rest.parse()?),
            };
            match answer {
                Ok(answer) => (200, answer.into()),
                Err(error) => (503, error.into()),
            }
        }
        "variable" => match spin_sdk::variables::get(rest) {
            Ok(value) => (200, value.into()),
            Err(error) => (404, format!("{error:?}").into()),
        },
        "config" => (200, format!("{:?}", keyvalue::config(rest)).into()),
        "env" => (
            200,
            std::env::var(rest)
                .unwrap_or_else(|_| "unset".to_owned())
                .into(),
        ),
        "fetch" => {
            let url = target.split_once("?url=").context("?url=")?.1.to_owned();
            let request = Request::builder().method(Method::Get).uri(url).build();
            match spin_sdk::http::send::<_, Response>(request).await {
                Ok(response) => (*response.status(), response.into_body()),
                Err(error) => (502, format!("{error:?}").into()),
            }
        }
        "cycle" => {
            let uri = format!("http://{rest}.spin.internal/cycle/{rest}");
            let request = Request::builder().method(Method::Get).uri(uri).build();
            match spin_sdk::http::send::<_, Response>(request).await {
                Ok(response) => (*response.status(), response.into_body()),
                Err(error) => (508, format!("{error:?}").into()),
            }
        }
        "sleep" => {
            std::thread::sleep(Duration::from_millis(rest.parse()?));
            (200, b"awake".to_vec())
        }
        "trap" => panic!("asked to panic"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "file" => (200, format!("{:?}", std::fs::read(rest)).into()),
        "socket" => (
            200,
            format!("{:?}", std::net::TcpStream::connect(rest)).into(),
        ),
        _ => (404, b"the probe knows no such thing".to_vec()),
    })
}

async fn kv(method: Method, key: &str, request: IncomingRequest) -> anyhow::Result<(u16, Vec<u8>)> {
    let store = Store::open("results")?;
    Ok(match method {
        Method::Put => {
            store.set(key, &request.into_body().await?)?;
            (204, vec![])
        }
        Method::Delete => {
            store.delete(key)?;
            (204, vec![])
        }
        _ if key.is_empty() => {
            let mut keys = store.get_keys()?;
            keys.sort();
            (200, keys.join("\n").into())
        }
        _ => match store.get(key)? {
            Some(value) => (200, value),
            None => (404, vec![]),
        },
    })
}
