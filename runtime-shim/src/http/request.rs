//! What a component is told of a request: Spin's headers, and nothing that a
//! client could have forged in their place.

use http::header::{CONNECTION, HOST};
use http::{HeaderName, HeaderValue, Request};

use super::router::RouteMatch;

/// Headers under it are the host's to set. Spin: trigger-http/src/headers.rs.
const PREFIX: &str = "spin-";
const DEFAULT_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// Sets the headers of `matched`; `client` is the peer's address with port.
pub fn prepare<B>(request: &mut Request<B>, matched: &RouteMatch, client: &str) {
    let full_url = full_url(request);
    let headers = request.headers_mut();
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    // Meant for the server alone; a guest that forwards the request must not pass it on.
    headers.remove(CONNECTION);
    headers.entry(HOST).or_insert(DEFAULT_HOST);

    let prefix = matched.route.strip_suffix("/...").unwrap_or(&matched.route);
    let mut set = |name: HeaderName, value: &str| {
        // A path that is no header's value, with control characters, has none.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    set(HeaderName::from_static("spin-full-url"), &full_url);
    set(
        HeaderName::from_static("spin-path-info"),
        &matched.path_info,
    );
    set(
        HeaderName::from_static("spin-matched-route"),
        &matched.route,
    );
    set(
        HeaderName::from_static("spin-raw-component-route"),
        &matched.route,
    );
    set(HeaderName::from_static("spin-component-route"), prefix);
    set(HeaderName::from_static("spin-base-path"), "/");
    set(HeaderName::from_static("spin-client-addr"), client);
    for (name, value) in &matched.captures {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let name = format!("{PREFIX}path-match-{name}");
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set(name, value);
        }
    }
}

fn full_url<B>(request: &Request<B>) -> String {
    let uri = request.uri();
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers()
            .get(HOST)
            .and_then(|h| h.to_str().ok())
            .unwrap_or("localhost"),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{}://{host}{path}", uri.scheme_str().unwrap_or("http"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router::Router;
    use crate::names::ComponentId;

    #[test]
    fn sets_spins_headers_and_drops_forged_ones() {
        let component = ComponentId::new("users").expect("test id");
        let router = Router::new([("/users/:User_ID/...".to_owned(), component)]).expect("routes");
        let mut request = Request::get("/users/7/a?b=c")
            .header("host", "example.com:3000")
            .header("spin-client-addr", "6.6.6.6:1")
            .header("spin-path-match-admin", "yes")
            .header("connection", "keep-alive")
            .header("x-own", "kept")
            .body(())
            .expect("request");
        let matched = router.find("/users/7/a").expect("route");
        prepare(&mut request, &matched, "127.0.0.1:5555");
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        headers.sort();
        assert_eq!(
            headers,
            [
                "host: example.com:3000",
                "spin-base-path: /",
                "spin-client-addr: 127.0.0.1:5555",
                "spin-component-route: /users/:User_ID",
                "spin-full-url: http://example.com:3000/users/7/a?b=c",
                "spin-matched-route: /users/:User_ID/...",
                "spin-path-info: /a",
                "spin-path-match-user-id: 7",
                "spin-raw-component-route: /users/:User_ID/...",
                "x-own: kept",
            ]
        );
    }
}
