//! What a component sees of a request. The test sends each of these byte for byte.

use std::net::SocketAddr;

use spin_sdk::http::{IncomingRequest, Method, Scheme};
use spin_sdk::wit::wasi::http0_2_0::types::{HeaderError, IncomingBody};

use crate::must::{Outcome, done, must};

/// The request of Spin's own suite, to `/base/:path_segment/:path_end/...`.
pub(crate) fn whole(request: &IncomingRequest) -> Outcome {
    must!(request.method(), Method::Get);
    must!(request.authority().as_deref(), Some("example.com"));
    must!(request.scheme(), Some(Scheme::Http));
    must!(
        request.path_with_query().as_deref(),
        Some("/base/path/end/rest?key=value")
    );
    let mut headers: Vec<(String, String)> = request
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    headers.sort();
    let client = headers
        .iter()
        .position(|(name, _)| name == "spin-client-addr");
    let (_, client) = headers.remove(client.ok_or("no `spin-client-addr`")?);
    must!(client.parse::<SocketAddr>(), Ok(address) if address.ip().is_loopback());
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    must!(
        headers.as_slice(),
        [
            ("accept", "*/*"),
            ("spin-base-path", "/"),
            ("spin-component-route", "/base/:path_segment/:path_end"),
            (
                "spin-full-url",
                "http://example.com/base/path/end/rest?key=value"
            ),
            ("spin-matched-route", "/base/:path_segment/:path_end/..."),
            ("spin-path-info", "/rest"),
            ("spin-path-match-path-end", "end"),
            ("spin-path-match-path-segment", "path"),
            (
                "spin-raw-component-route",
                "/base/:path_segment/:path_end/..."
            ),
            ("user-agent", "my-agent"),
        ]
    );
    Ok(())
}

pub(crate) fn check(case: &str, request: &IncomingRequest) -> Outcome {
    match case.split('/').next().unwrap_or_default() {
        "method" => {
            let expected = header(request, "x-method")?;
            must!(request.method().to_string(), method if method == expected);
            Ok(())
        }
        "encoded" => encoded(request),
        "headers" => headers(request),
        "no-body" => body(request, b"", &[]),
        "body" => body(request, b"the body", &[]),
        "trailers" => body(request, b"in chunks", &[("x-sum", "9")]),
        "chained" => chained(request),
        "itself" => {
            must!(header(request, "spin-path-info")?.as_str(), "/itself");
            must!(
                header(request, "spin-raw-component-route")?.as_str(),
                "/granted/request/..."
            );
            Ok(())
        }
        _ => Err(format!("no such request: {case}")),
    }
}

/// Nothing is decoded, nothing tidied up.
fn encoded(request: &IncomingRequest) -> Outcome {
    const PATH: &str = "/granted/request/encoded/%2e%2E/%C3%A9+;a=b//%20?q=%26&&x=%3D+1?";
    must!(request.path_with_query().as_deref(), Some(PATH));
    must!(
        header(request, "spin-path-info")?.as_str(),
        "/encoded/%2e%2E/%C3%A9+;a=b//%20"
    );
    must!(header(request, "spin-full-url")?, url if url.ends_with(PATH));
    Ok(())
}

fn headers(request: &IncomingRequest) -> Outcome {
    let fields = request.headers();
    // In the order in which they came, whatever the case of the name.
    must!(fields.get("x-twice"), twice if twice == [b"one".to_vec(), b"two".to_vec()]);
    must!(fields.get("X-TWICE").len(), 2);
    must!(fields.has("x-empty"), true);
    must!(fields.get("x-empty"), empty if empty == [b"".to_vec()]);
    must!(fields.get("x-none").len(), 0);
    must!(header(request, "x-case")?.as_str(), "MiXed");
    must!(header(request, "cookie")?.as_str(), "a=1; b=2");
    // What only the connection is about, and what a client may not forge.
    for name in ["connection", "host", "spin-path-match-role", "spin_forged"] {
        let hidden = name != "spin_forged";
        must!(fields.has(name), seen if seen != hidden);
    }
    must!(fields.get("spin-client-addr"), values if values.len() == 1 && values[0] != b"6.6.6.6:6");
    must!(fields.append("x-more", b"1"), Err(HeaderError::Immutable));
    Ok(())
}

/// The body to its end, and what comes after it.
fn body(request: &IncomingRequest, expected: &[u8], trailers: &[(&str, &str)]) -> Outcome {
    let body = done("consume", request.consume())?;
    must!(request.consume().map(drop), Err(()));
    let stream = done("stream", body.stream())?;
    let mut read = Vec::new();
    loop {
        match stream.blocking_read(4096) {
            Ok(bytes) => read.extend(bytes),
            Err(error) => {
                must!(format!("{error:?}"), closed if closed.contains("Closed"));
                break;
            }
        }
    }
    drop(stream);
    must!(read.as_slice(), read if read == expected);
    let future = IncomingBody::finish(body);
    future.subscribe().block();
    let found = match future.get() {
        Some(Ok(Ok(found))) => found.map(|fields| fields.entries()).unwrap_or_default(),
        other => return Err(format!("the trailers are {other:?}")),
    };
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                std::str::from_utf8(value).unwrap_or_default(),
            )
        })
        .collect();
    must!(found.as_slice(), found if found == trailers);
    Ok(())
}

/// Called by another component, through service chaining.
fn chained(request: &IncomingRequest) -> Outcome {
    must!(request.authority().as_deref(), Some("called.spin.internal"));
    must!(
        header(request, "spin-path-info")?.as_str(),
        "/called/request/chained"
    );
    must!(
        header(request, "spin-raw-component-route")?.as_str(),
        "/..."
    );
    must!(header(request, "spin-component-route")?.as_str(), "");
    must!(header(request, "spin-client-addr")?.as_str(), "0.0.0.0:0");
    must!(
        header(request, "spin-full-url")?.as_str(),
        "http://called.spin.internal/called/request/chained?a=b"
    );
    Ok(())
}

/// The one value of a header.
fn header(request: &IncomingRequest, name: &str) -> Result<String, String> {
    let values = request.headers().get(name);
    match values.as_slice() {
        [value] => done(name, String::from_utf8(value.clone())),
        values => Err(format!("`{name}` has {} values", values.len())),
    }
}
