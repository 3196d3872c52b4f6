//! What a request asks of the image service, by method and path.

use reply::{Reply, allow};
use request::Head;

use crate::id::is_id;

/// What has to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Ask everything that the service needs whether it is there.
    Ready,
    /// Take in the picture in the body.
    Upload,
    /// Tell the caller's own images.
    List { limit: u32, after: Option<String> },
    /// Return an image.
    Show { id: String },
    /// Return a thumbnail.
    Thumbnail { id: String },
    /// Delete an image of the caller.
    Delete { id: String },
}

/// Images on one page, unless the request says otherwise.
const DEFAULT_LIMIT: u32 = 50;

/// The most images on one page.
const MAX_LIMIT: u32 = 100;

/// Chooses by method and request target.
pub(crate) fn route(head: &Head) -> Route {
    const READ: &[&str] = &["GET", "HEAD"];
    let path = head.path();
    let method = head.method.as_str();
    let (resource, methods): (Route, &[&str]) = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "healthz", "images"] => (Route::Answer(reply::alive()), READ),
        ["", "readyz", "images"] => (Route::Ready, READ),
        ["", "images"] => (list(head), READ),
        ["", "images", "upload"] => (Route::Upload, &["POST"]),
        ["", "images", id] if is_id(id) => {
            let id = id.to_owned();
            let resource = match method {
                "DELETE" => Route::Delete { id },
                _ => Route::Show { id },
            };
            (resource, &["GET", "HEAD", "DELETE"])
        }
        ["", "images", id, "thumbnail"] if is_id(id) => {
            (Route::Thumbnail { id: id.to_owned() }, READ)
        }
        _ => {
            return Route::Answer(Reply::problem(404, &format!("nothing is at `{path}`")));
        }
    };
    allow(methods, method).map_or(resource, Route::Answer)
}

fn list(head: &Head) -> Route {
    let (mut limit, mut after) = (None, None);
    for (name, value) in head.query() {
        let field = match &*name {
            "limit" => &mut limit,
            "after" => &mut after,
            _ => continue,
        };
        if field.replace(value.into_owned()).is_some() {
            return bad_list(&format!("`{name}` may be given only once"));
        }
    }
    let Some(limit) = limit.map_or(Some(DEFAULT_LIMIT), |text| {
        request::parse_limit(&text, MAX_LIMIT)
    }) else {
        return bad_list(&format!("`limit` is a whole number from 1 to {MAX_LIMIT}"));
    };
    if after.as_ref().is_some_and(|after| !is_id(after)) {
        return bad_list("`after` is the id of an image");
    }
    Route::List { limit, after }
}

fn bad_list(detail: &str) -> Route {
    Route::Answer(Reply::problem(400, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn at(method: &str, target: &str) -> Route {
        route(&Head::new(method, target, &[]))
    }

    #[test]
    fn paths_find_their_route() {
        let id = || ID.to_owned();
        let image = format!("/images/{ID}");
        let list = |limit, after| Route::List { limit, after };
        for (method, target, expected) in [
            ("POST", "/images/upload", Route::Upload),
            ("GET", "/images", list(50, None)),
            ("HEAD", "/images?limit=1", list(1, None)),
            (
                "GET",
                &format!("/images?after={ID}&limit=100&x=y"),
                list(100, Some(id())),
            ),
            ("GET", &image, Route::Show { id: id() }),
            ("HEAD", &image, Route::Show { id: id() }),
            ("DELETE", &image, Route::Delete { id: id() }),
            (
                "GET",
                &format!("{image}/thumbnail?1"),
                Route::Thumbnail { id: id() },
            ),
            ("GET", "/readyz/images", Route::Ready),
            ("GET", "/healthz/images", Route::Answer(reply::alive())),
        ] {
            assert_eq!(at(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        let image = format!("/images/{ID}");
        let after = format!("after={ID}");
        for (method, target, status, allowed) in [
            ("GET", "/images/upload", 405, Some("POST, OPTIONS")),
            ("OPTIONS", "/images/upload", 204, Some("POST, OPTIONS")),
            ("POST", "/images", 405, Some("GET, HEAD, OPTIONS")),
            ("PUT", &image, 405, Some("GET, HEAD, DELETE, OPTIONS")),
            (
                "DELETE",
                &format!("{image}/thumbnail"),
                405,
                Some("GET, HEAD, OPTIONS"),
            ),
            ("GET", "/images?limit=0", 400, None),
            ("GET", "/images?limit=101", 400, None),
            ("GET", "/images?limit=", 400, None),
            ("GET", "/images?limit=-1", 400, None),
            ("GET", "/images?limit=%2B1", 400, None),
            ("GET", "/images?limit=01", 400, None),
            ("GET", "/images?limit=1.0", 400, None),
            ("GET", "/images?limit=99999999999999999999", 400, None),
            ("GET", "/images?limit=1&limit=1", 400, None),
            ("GET", "/images?after=", 400, None),
            ("GET", "/images?after=1", 400, None),
            (
                "GET",
                &format!("/images?{after}&limit=1&{after}"),
                400,
                None,
            ),
            ("GET", "/images/", 404, None),
            ("GET", "/images/x", 404, None),
            ("GET", &image.to_uppercase(), 404, None),
            ("GET", &format!("{image}/"), 404, None),
            ("GET", &format!("{image}.thumbnail"), 404, None),
            ("GET", "", 404, None),
        ] {
            let Route::Answer(reply) = at(method, target) else {
                panic!("{method} {target} is not answered");
            };
            assert_eq!(reply.status, status, "{method} {target}");
            assert_eq!(reply.header("allow"), allowed, "{method} {target}");
        }
    }
}
