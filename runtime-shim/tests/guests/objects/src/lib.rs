//! `PUT`, `GET` and `DELETE /objects/<key>` against the bucket that the variables
//! name; `POST /objects/` creates it, and `GET /link/<key>` answers with a link
//! that anybody may follow for a minute.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    clippy::same_length_and_capacity,
    reason = "generated bindings"
)]

use std::time::Duration;

use anyhow::Context;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use spin_sdk::http::{IntoResponse, Method, Request, Response};
use spin_sdk::{http_component, variables};

const VALID: Duration = Duration::from_secs(60);

#[http_component]
async fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let path = request.path().to_owned();
    let (bucket, keys) = (bucket()?, credentials()?);
    if let Some(key) = path.strip_prefix("/link/") {
        let link = bucket.get_object(Some(&keys), key).sign(VALID);
        return Ok(Response::new(200, link.to_string()));
    }
    let key = path.strip_prefix("/objects/").context("a key")?;
    let (method, url) = match request.method() {
        Method::Post => (Method::Put, bucket.create_bucket(&keys).sign(VALID)),
        Method::Put => (Method::Put, bucket.put_object(Some(&keys), key).sign(VALID)),
        Method::Delete => (
            Method::Delete,
            bucket.delete_object(Some(&keys), key).sign(VALID),
        ),
        _ => (Method::Get, bucket.get_object(Some(&keys), key).sign(VALID)),
    };
    let call = Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(request.into_body())
        .build();
    match spin_sdk::http::send::<_, Response>(call).await {
        Ok(answer) => Ok(Response::new(*answer.status(), answer.into_body())),
        Err(error) => Ok(Response::new(502, format!("{error:?}"))),
    }
}

fn bucket() -> anyhow::Result<Bucket> {
    let endpoint = variables::get("endpoint")?.parse()?;
    Ok(Bucket::new(
        endpoint,
        UrlStyle::Path,
        "pictures",
        "us-east-1",
    )?)
}

fn credentials() -> anyhow::Result<Credentials> {
    Ok(Credentials::new(
        variables::get("access_key")?,
        variables::get("secret_key")?,
    ))
}
