//! What a request asks of the portal, by method and path, and what it gets once
//! the queues have answered.

use queue::Depth;
use reply::{Reply, allow};
use serde::Serialize;

use crate::assets::{Asset, asset};

/// What has to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Send a file of the page.
    Asset(&'static Asset),
    /// Ask the queues whether they are there.
    Ready,
    /// Ask the queues what they hold.
    Stats,
}

/// Chooses by method and path. Paths are compared as they came: each file has one
/// address.
pub(crate) fn route(method: &str, path: &str) -> Route {
    let resource = match path {
        "/healthz/portal" => Route::Answer(reply::alive()),
        "/readyz/portal" => Route::Ready,
        "/portal/stats" => Route::Stats,
        _ => match asset(path) {
            Some(asset) => Route::Asset(asset),
            None => {
                let missing = Reply::problem(404, &format!("nothing is at `{path}`"));
                return Route::Answer(missing.with("cache-control", "no-store"));
            }
        },
    };
    allow(&["GET", "HEAD"], method).map_or(resource, |reply| {
        Route::Answer(reply.with("cache-control", "no-store"))
    })
}

#[derive(Serialize)]
struct Stats<'a> {
    queues: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    visible: u64,
    in_flight: u64,
}

/// The answer when the queues were asked.
pub(crate) fn stats(depths: Result<Vec<(&'static str, Depth)>, String>) -> Reply {
    let reply = match depths {
        Ok(depths) => {
            let entries = depths.iter().map(|(name, depth)| Entry {
                name,
                visible: depth.visible,
                in_flight: depth.in_flight,
            });
            Reply::json(
                200,
                &Stats {
                    queues: entries.collect(),
                },
            )
        }
        // The reason is for the operator's log: it may name addresses.
        Err(_) => Reply::unavailable("the queues cannot be asked now; try again"),
    };
    reply.with("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_route() {
        for (path, expected) in [
            ("/healthz/portal", Route::Answer(reply::alive())),
            ("/readyz/portal", Route::Ready),
            ("/portal/stats", Route::Stats),
            ("/", Route::Asset(asset("/").unwrap())),
            (
                "/openapi.json",
                Route::Asset(asset("/openapi.json").unwrap()),
            ),
        ] {
            assert_eq!(route("GET", path), expected, "{path}");
            assert_eq!(route("HEAD", path), expected, "{path}");
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        for (method, path, status) in [
            ("GET", "", 404),
            ("GET", "//", 404),
            ("GET", "/portal", 404),
            ("GET", "/portal/", 404),
            ("GET", "/portal/../openapi.json", 404),
            ("GET", "/portal/stats/", 404),
            ("GET", "/portal/%73tats", 404),
            ("POST", "/nowhere", 404),
            ("POST", "/", 405),
            ("DELETE", "/portal/stats", 405),
            ("OPTIONS", "/openapi.json", 204),
        ] {
            let Route::Answer(reply) = route(method, path) else {
                panic!("{method} {path} is not answered");
            };
            assert_eq!(reply.status, status, "{method} {path}");
        }
    }

    #[test]
    fn the_depths_of_the_queues_become_a_document() {
        let depth = |visible, in_flight| Depth { visible, in_flight };
        let reply = stats(Ok(vec![
            ("messages", depth(12, 3)),
            ("images", depth(0, 0)),
        ]));
        assert_eq!(
            String::from_utf8(reply.body).unwrap(),
            r#"{"queues":[{"name":"messages","visible":12,"in_flight":3},{"name":"images","visible":0,"in_flight":0}]}"#
        );
    }

    #[test]
    fn a_queue_failure_hides_its_reason_and_asks_to_retry() {
        let reply = stats(Err("10.0.0.1 refused".to_owned()));
        assert_eq!(reply.status, 503);
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(!String::from_utf8(reply.body).unwrap().contains("10.0.0.1"));
    }
}
