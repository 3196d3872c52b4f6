//! Responses of every kind: what of them reaches the client, the test looks at.

use futures::{SinkExt, StreamExt};
use spin_sdk::http::{Headers, IncomingRequest, OutgoingResponse, ResponseOutparam, Trailers};
use spin_sdk::key_value::Store;
use spin_sdk::wit::wasi::http0_2_0::types::{self, ErrorCode, HeaderError, OutgoingBody};

pub(crate) async fn respond(case: &str, _request: IncomingRequest, out: ResponseOutparam) {
    let (case, argument) = case.split_once('/').unwrap_or((case, ""));
    match case {
        "silent" => {}
        "trap" => panic!("as asked"),
        "error" => {
            let error = ErrorCode::InternalError(Some("as asked".to_owned()));
            types::ResponseOutparam::set(out.into_inner(), Err(error));
        }
        "no-body" => out.set(response(200, &[])),
        "empty-body" => drop(begin(out, response(200, &[]))),
        "status" => out.set(response(argument.parse().expect("a status"), &[])),
        "headers" => out.set(response(
            200,
            &[
                ("set-cookie", "a=1; Path=/"),
                ("X-Case", "MiXed"),
                ("set-cookie", "b=2; HttpOnly"),
                ("x-empty", ""),
            ],
        )),
        "length" => {
            let mut body = begin(out, response(200, &[("content-length", "5")]));
            body.send(b"12345".to_vec()).await.expect("send");
        }
        "chunks" => {
            let mut body = begin(out, response(200, &[]));
            for chunk in ["one ", "two ", "three"] {
                body.send(chunk.into()).await.expect("send");
            }
        }
        "trailers" => trailers(out),
        "late-trap" => {
            let mut body = begin(out, response(200, &[]));
            body.send(b"begun".to_vec()).await.expect("send");
            panic!("as asked");
        }
        "after" => {
            drop(begin(out, response(200, &[])));
            let store = Store::open("after").expect("a store");
            store.set("after", b"the response").expect("set");
        }
        "was-after" => {
            let store = Store::open("after").expect("a store");
            let found = store.exists("after").expect("exists");
            out.set(response(if found { 200 } else { 404 }, &[]));
        }
        "forbidden" => out.set(response(forbidden(), &[])),
        _ => out.set(response(404, &[])),
    }
}

/// Sends back each part of the body when it comes.
pub(crate) async fn duplex(request: IncomingRequest, out: ResponseOutparam) {
    let mut sent = request.into_body_stream();
    let mut body = begin(out, response(200, &[]));
    while let Some(Ok(part)) = sent.next().await {
        body.send(part).await.expect("send");
    }
}

fn response(status: u16, headers: &[(&str, &str)]) -> OutgoingResponse {
    let fields = Headers::new();
    for (name, value) in headers {
        let (name, value) = ((*name).to_owned(), value.as_bytes().to_vec());
        fields.append(&name, &value).expect("a valid header");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a valid status");
    response
}

/// The status goes out before there is a body.
fn begin(
    out: ResponseOutparam,
    response: OutgoingResponse,
) -> impl futures::Sink<Vec<u8>, Error: std::fmt::Debug> + Unpin {
    let body = Box::pin(response.take_body());
    out.set(response);
    body
}

fn trailers(out: ResponseOutparam) {
    let response = response(200, &[("trailer", "x-sum")]);
    let body = response.body().expect("a body");
    out.set(response);
    let stream = body.write().expect("a stream");
    stream
        .blocking_write_and_flush(b"summed up")
        .expect("write");
    drop(stream);
    let fields = Trailers::new();
    fields.append("x-sum", b"9").expect("a valid header");
    OutgoingBody::finish(body, Some(fields)).expect("finish");
}

/// Headers that are the host's to set, and such as cannot be: 200 if they are refused.
fn forbidden() -> u16 {
    let fields = Headers::new();
    let try_to_set = |name: &str, value: &[u8]| fields.append(name, value);
    let hop_by_hop = [
        "connection",
        "host",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
    ];
    let kept = hop_by_hop
        .iter()
        .all(|name| matches!(try_to_set(name, b"x"), Err(HeaderError::Forbidden)));
    let syntax = matches!(
        try_to_set("white space", b"x"),
        Err(HeaderError::InvalidSyntax)
    ) && matches!(
        try_to_set("x-lines", b"a\r\nb: c"),
        Err(HeaderError::InvalidSyntax)
    );
    let status = OutgoingResponse::new(Headers::new());
    let no_status = status.set_status_code(99).is_err() && status.set_status_code(1000).is_err();
    if kept && syntax && no_status {
        200
    } else {
        500
    }
}
