//! What a request asks of the recommendations, by method and target, and what it
//! gets once the catalog has answered.

use std::time::{Duration, UNIX_EPOCH};

use database::Error;
use reply::{Reply, allow};
use request::Head;
use serde::Serialize;

use crate::trending::{Image, Trending};

/// What has to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Ask the catalog whether it is there.
    Ready,
    /// Read what is trending.
    Read { limit: u32 },
}

const DEFAULT_LIMIT: u32 = 10;
const MAX_LIMIT: u32 = 50;

/// Chooses by method and request target.
pub(crate) fn route(head: &Head) -> Route {
    let resource = match head.path() {
        "/healthz/recommend" => Route::Answer(reply::alive()),
        "/readyz/recommend" => Route::Ready,
        "/recommendations" => read(head),
        path => return refuse(404, &format!("nothing is at `{path}`")),
    };
    allow(&["GET", "HEAD"], &head.method).map_or(resource, |reply| {
        Route::Answer(reply.with("cache-control", "no-store"))
    })
}

fn read(head: &Head) -> Route {
    let mut limits = head.query().filter(|(name, _)| name == "limit");
    let limit = match (limits.next(), limits.next()) {
        (None, _) => Some(DEFAULT_LIMIT),
        (Some((_, text)), None) => request::parse_limit(&text, MAX_LIMIT),
        (Some(_), Some(_)) => None,
    };
    match limit {
        Some(limit) => Route::Read { limit },
        None => refuse(
            400,
            &format!("`limit` is one whole number from 1 to {MAX_LIMIT}"),
        ),
    }
}

fn refuse(status: u16, detail: &str) -> Route {
    Route::Answer(Reply::problem(status, detail).with("cache-control", "no-store"))
}

#[derive(Serialize)]
struct Document {
    computed_at: Option<String>,
    recommendations: Vec<Recommendation>,
}

#[derive(Serialize)]
struct Recommendation {
    url: String,
    thumbnail_url: String,
    id: String,
    r#type: String,
    width: i64,
    height: i64,
    views: i64,
    score: i64,
}

impl From<Image> for Recommendation {
    fn from(image: Image) -> Self {
        Self {
            url: format!("/images/{}", image.id),
            thumbnail_url: format!("/images/{}/thumbnail", image.id),
            id: image.id,
            r#type: image.media_type,
            width: image.width,
            height: image.height,
            views: image.views,
            score: image.score,
        }
    }
}

/// The answer when the catalog was asked. It is the same for everybody and
/// changes each minute: caches may keep it for a moment.
pub(crate) fn recommended(trending: Result<Trending, Error>) -> Reply {
    let Ok(trending) = trending else {
        // The reason is for the operator's log: it may name addresses.
        return Reply::unavailable("the catalog database cannot be reached now; try again")
            .with("cache-control", "no-store");
    };
    let time = |millis: i64| UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs());
    let document = Document {
        computed_at: trending.computed_at.map(time).map(reply::timestamp),
        recommendations: trending.images.into_iter().map(Into::into).collect(),
    };
    Reply::json(200, &document).with("cache-control", "public, max-age=5")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, target: &str) -> Route {
        super::route(&Head::new(method, target, &[]))
    }

    #[test]
    fn paths_find_their_route() {
        for (target, expected) in [
            ("/recommendations", Route::Read { limit: 10 }),
            ("/recommendations?other=x", Route::Read { limit: 10 }),
            ("/recommendations?limit=1", Route::Read { limit: 1 }),
            ("/recommendations?limit=%35%30", Route::Read { limit: 50 }),
            ("/readyz/recommend", Route::Ready),
            ("/healthz/recommend", Route::Answer(reply::alive())),
        ] {
            assert_eq!(route("GET", target), expected, "{target}");
            assert_eq!(route("HEAD", target), expected, "{target}");
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        for (method, target, status) in [
            ("GET", "/recommendations?limit=", 400),
            ("GET", "/recommendations?limit", 400),
            ("GET", "/recommendations?limit=0", 400),
            ("GET", "/recommendations?limit=51", 400),
            ("GET", "/recommendations?limit=-1", 400),
            ("GET", "/recommendations?limit=%2B1", 400),
            ("GET", "/recommendations?limit=01", 400),
            ("GET", "/recommendations?limit=1.0", 400),
            ("GET", "/recommendations?limit=99999999999999999999", 400),
            ("GET", "/recommendations?limit=1&limit=2", 400),
            ("POST", "/recommendations?limit=0", 405),
            ("OPTIONS", "/recommendations", 204),
            ("GET", "/recommendations/", 404),
            ("GET", "", 404),
        ] {
            let Route::Answer(reply) = route(method, target) else {
                panic!("{method} {target} is not answered");
            };
            assert_eq!(reply.status, status, "{method} {target}");
        }
    }

    #[test]
    fn what_is_trending_becomes_a_document() {
        let image = Image {
            id: "ab".to_owned(),
            media_type: "image/png".to_owned(),
            width: 4,
            height: 3,
            views: 2,
            score: 16,
        };
        let reply = recommended(Ok(Trending {
            computed_at: Some(1_767_225_600_123),
            images: vec![image],
        }));
        assert_eq!(reply.header("cache-control"), Some("public, max-age=5"));
        assert_eq!(
            String::from_utf8(reply.body).unwrap(),
            r#"{"computed_at":"2026-01-01T00:00:00.123Z","recommendations":[{"url":"/images/ab","thumbnail_url":"/images/ab/thumbnail","id":"ab","type":"image/png","width":4,"height":3,"views":2,"score":16}]}"#
        );
        let never = recommended(Ok(Trending::default()));
        assert_eq!(never.body, br#"{"computed_at":null,"recommendations":[]}"#);
    }

    #[test]
    fn a_failure_hides_its_reason_and_asks_to_retry() {
        let reply = recommended(Err(Error::Failed("10.0.0.1 refused".to_owned())));
        assert_eq!(reply.status, 503);
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(!String::from_utf8(reply.body).unwrap().contains("10.0.0.1"));
    }
}
