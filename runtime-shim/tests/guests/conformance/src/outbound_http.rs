//! Outbound `wasi:http`, 0.2.0 by the SDK: the test's own server shows what came.

use spin_sdk::http::{
    ErrorCode, Headers, Method, OutgoingRequest, Request, Response, Scheme, send,
};
use spin_sdk::wit::wasi::http0_2_0::outgoing_handler::handle;
use spin_sdk::wit::wasi::http0_2_0::types::{IncomingBody, IncomingResponse, RequestOptions};

use crate::must::{Outcome, done, must};
use crate::setting;

pub(crate) async fn granted() -> Outcome {
    let server = setting("HTTP_ADDRESS")?;
    as_sent(&server).await?;
    as_received(&server).await?;
    trailers(&server)?;
    failures(&server)?;
    own_application().await?;
    refused()
}

pub(crate) fn refused() -> Outcome {
    let server = setting("HTTP_ADDRESS")?;
    let port = server.rsplit(':').next().unwrap_or_default();
    for (scheme, authority) in [
        (Scheme::Http, "127.0.0.1:1".to_owned()),
        (Scheme::Http, format!("127.0.0.2:{port}")),
        (Scheme::Https, server.clone()),
        (Scheme::Http, "other.spin.internal".to_owned()),
    ] {
        // The refusal comes as the response would.
        must!(
            fetch(Some(&scheme), Some(&authority), "/", None),
            Err(ErrorCode::HttpRequestDenied)
        );
    }
    Ok(())
}

/// Method, path, headers and body as the server gets them.
async fn as_sent(server: &str) -> Outcome {
    let request = Request::builder()
        .method(Method::Post)
        .uri(format!("http://{server}/raw/a%20b?q=1&q=2"))
        .header("X-Case", "MiXed")
        .body("Hello, world!")
        .build();
    let response: Response = done("send", send(request).await)?;
    must!(*response.status(), 200);
    let raw = String::from_utf8_lossy(response.body()).into_owned();
    must!(raw.lines().next(), Some("POST /raw/a%20b?q=1&q=2 HTTP/1.1"));
    must!(&raw, raw if raw.ends_with("Hello, world!") || raw.contains("Hello, world!\r\n0\r\n"));
    let has = |line: &str| {
        raw.lines()
            .filter(|&l| l.eq_ignore_ascii_case(line))
            .count()
    };
    must!(has(&format!("host: {server}")), 1);
    must!(has("x-case: MiXed"), 1);
    let get = Request::get(format!("http://{server}/raw/")).build();
    let response: Response = done("send", send(get).await)?;
    let raw = String::from_utf8_lossy(response.body()).into_owned();
    must!(raw.lines().next(), Some("GET /raw/ HTTP/1.1"));
    must!(&raw, raw if raw.ends_with("\r\n\r\n") && !raw.contains("chunked"));
    Ok(())
}

async fn as_received(server: &str) -> Outcome {
    let get = Request::get(format!("http://{server}/teapot")).build();
    let response: Response = done("send", send(get).await)?;
    must!(*response.status(), 418);
    must!(response.body(), b"short and stout");
    let fetched = fetch(Some(&Scheme::Http), Some(server), "/teapot", None);
    let fields = done("fetch", fetched)?.headers();
    must!(fields.get("X-Twice"), twice if twice == [b"one".to_vec(), b"two".to_vec()]);
    must!(fields.has("connection"), false);
    Ok(())
}

fn trailers(server: &str) -> Outcome {
    let fetched = fetch(Some(&Scheme::Http), Some(server), "/trailers", None);
    let body = done("consume", done("fetch", fetched)?.consume())?;
    let stream = done("stream", body.stream())?;
    let mut read = Vec::new();
    while let Ok(bytes) = stream.blocking_read(4096) {
        read.extend(bytes);
    }
    drop(stream);
    must!(read.as_slice(), b"summed up");
    let future = IncomingBody::finish(body);
    future.subscribe().block();
    must!(
        future.get(),
        Some(Ok(Ok(Some(fields)))) if fields.get("x-sum") == [b"9".to_vec()]
    );
    Ok(())
}

fn failures(server: &str) -> Outcome {
    // The manifest allows both; nobody listens there, and no name is so.
    let closed = setting("CLOSED_ADDRESS")?;
    let http = Some(&Scheme::Http);
    must!(
        fetch(http, Some(&closed), "/", None),
        Err(ErrorCode::ConnectionRefused)
    );
    must!(
        fetch(http, Some("nowhere.invalid"), "/", None),
        Err(ErrorCode::DnsError(error))
            if error.rcode.as_deref() == Some("address not available") && error.info_code == Some(0)
    );
    let options = RequestOptions::new();
    done("option", options.set_first_byte_timeout(Some(50_000_000)))?;
    must!(
        fetch(http, Some(server), "/hang", Some(options)),
        Err(ErrorCode::ConnectionReadTimeout)
    );
    must!(
        fetch(
            Some(&Scheme::Https),
            Some(&setting("TLS_ADDRESS")?),
            "/",
            None
        ),
        Err(ErrorCode::TlsProtocolError)
    );
    Ok(())
}

/// A request without an authority is one to the application itself.
async fn own_application() -> Outcome {
    let itself = fetch(None, None, "/granted/request/itself", None);
    must!(done("itself", itself)?.status(), 200);
    // As the SDK writes it, and as SDKs do that need a host.
    for url in [
        "/granted/request/itself",
        "http://self.alt/granted/request/itself",
    ] {
        let response: Response = done("itself", send(Request::get(url).build()).await)?;
        must!(String::from_utf8_lossy(response.body()).as_ref(), "ok");
    }
    let chained = Request::get("http://called.spin.internal/called/request/chained?a=b").build();
    let response: Response = done("chained", send(chained).await)?;
    must!(String::from_utf8_lossy(response.body()).as_ref(), "ok");
    Ok(())
}

/// Waits until the response begins.
fn fetch(
    scheme: Option<&Scheme>,
    authority: Option<&str>,
    path: &str,
    options: Option<RequestOptions>,
) -> Result<IncomingResponse, ErrorCode> {
    let bad = |()| ErrorCode::HttpRequestUriInvalid;
    let request = OutgoingRequest::new(Headers::new());
    request.set_scheme(scheme).map_err(bad)?;
    request.set_authority(authority).map_err(bad)?;
    request.set_path_with_query(Some(path)).map_err(bad)?;
    let future = handle(request, options)?;
    future.subscribe().block();
    match future.get() {
        Some(Ok(response)) => response,
        _ => Err(ErrorCode::InternalError(Some("no response".to_owned()))),
    }
}
