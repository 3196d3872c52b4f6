//! What Spin's conformance suite expects of a host, tried from inside a component
//! that is built as any component for Spin is: a module for each area, a route for
//! each module. `/granted/AREA` is asked of a component that may do it,
//! `/bare/AREA` of one that the manifest grants nothing. The answer is 200 `ok`, or
//! 500 with what was expected and what came.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

mod environment;
mod key_value;
mod mqtt;
mod must;
mod not_offered;
mod outbound_http;
mod postgres;
mod redis;
mod request_shape;
mod response_shape;
mod sqlite;
mod tcp_sockets;
mod udp_sockets;
mod variables;
mod wasi_keyvalue;

use must::Outcome;
use spin_sdk::http::{Headers, IncomingRequest, OutgoingResponse, ResponseOutparam};
use spin_sdk::http_component;

#[http_component]
async fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = request.path_with_query().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let mut words = path.trim_matches('/').splitn(3, '/');
    let (who, area) = (words.next().unwrap_or_default(), words.next());
    let rest = words.next().unwrap_or_default();
    let outcome = match (who, area.unwrap_or_default()) {
        ("granted", "response") => return response_shape::respond(rest, request, out).await,
        ("granted", "duplex") => return response_shape::duplex(request, out).await,
        ("base", _) => request_shape::whole(&request),
        (_, "request") => request_shape::check(rest, &request),
        (who, area) => expectations(who, area).await,
    };
    answer(out, outcome).await;
}

/// What `area` must do for a component of this name.
async fn expectations(who: &str, area: &str) -> Outcome {
    match (who, area) {
        ("granted", "key-value") => key_value::granted(),
        ("granted", "wasi-keyvalue") => wasi_keyvalue::granted(),
        ("granted", "variables") => variables::granted(),
        ("granted", "sqlite") => sqlite::granted(),
        ("granted", "postgres") => postgres::granted(),
        ("granted", "redis") => redis::granted(),
        ("granted", "mqtt") => mqtt::granted(),
        ("granted", "outbound-http") => outbound_http::granted().await,
        ("granted", "tcp-sockets") => tcp_sockets::granted(),
        ("granted", "udp-sockets") => udp_sockets::granted(),
        ("granted", "not-offered") => not_offered::granted(),
        ("bare", "key-value") => key_value::refused(),
        ("bare", "wasi-keyvalue") => wasi_keyvalue::refused(),
        ("bare", "variables") => variables::refused(),
        ("bare", "sqlite") => sqlite::refused(),
        ("bare", "postgres") => postgres::refused(),
        ("bare", "redis") => redis::refused(),
        ("bare", "mqtt") => mqtt::refused(),
        ("bare", "outbound-http") => outbound_http::refused(),
        ("bare", "tcp-sockets") => tcp_sockets::refused(),
        ("bare", "udp-sockets") => udp_sockets::refused(),
        ("bare", "not-offered") => not_offered::refused(),
        ("templated", "redis") => redis::reached(),
        ("templated", "tcp-sockets") => tcp_sockets::reached(),
        (_, "environment") => environment::everywhere(),
        ("called", "by-a-component") => Ok(()),
        _ => Err(format!("no expectations of `{area}` for `{who}`")),
    }
}

async fn answer(out: ResponseOutparam, outcome: Outcome) {
    let response = OutgoingResponse::new(Headers::new());
    let (status, text) = match outcome {
        Ok(()) => (200, "ok".to_owned()),
        Err(text) => (500, text),
    };
    response.set_status_code(status).expect("a valid status");
    out.set_with_body(response, text.into_bytes())
        .await
        .expect("send the answer");
}

/// A setting of the test that runs this.
fn setting(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("the environment has no `{name}`"))
}
