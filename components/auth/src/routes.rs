//! What a request asks of the component, by method and path, and the answers.

use std::time::Duration;

use reply::{Reply, allow};
use serde::Serialize;

use crate::session::{self, Session, Token};

/// What has to be done for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: this is the answer.
    Answer(Reply),
    /// Ask the database and the store whether they are there.
    Ready,
    /// Change something.
    Change(Change),
    /// Say whose session it is.
    Profile,
}

/// What a page of another site must not ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Register,
    Login,
    Logout,
}

/// Chooses by method and path.
pub(crate) fn route(method: &str, path: &str) -> Route {
    const READ: &[&str] = &["GET", "HEAD"];
    const CHANGE: &[&str] = &["POST"];
    let (resource, methods) = match path {
        "/healthz/auth" => (Route::Answer(reply::alive()), READ),
        "/readyz/auth" => (Route::Ready, READ),
        "/auth/profile" => (Route::Profile, READ),
        "/auth/register" => (Route::Change(Change::Register), CHANGE),
        "/auth/login" => (Route::Change(Change::Login), CHANGE),
        "/auth/logout" => (Route::Change(Change::Logout), CHANGE),
        _ => return Route::Answer(Reply::problem(404, &format!("nothing is at `{path}`"))),
    };
    allow(methods, method).map_or(resource, Route::Answer)
}

#[derive(Serialize)]
struct Registered<'a> {
    username: &'a str,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    token: &'a str,
    expires_at: &'a str,
    username: &'a str,
}

/// The answer to a registration; `is_new` unless the name was taken.
pub(crate) fn registered(username: &str, is_new: bool) -> Reply {
    if !is_new {
        return Reply::problem(409, "this username is taken");
    }
    Reply::json(201, &Registered { username }).with("location", "/auth/profile")
}

/// The answer to the right name and password.
pub(crate) fn logged_in(
    token: &Token,
    session: &Session,
    lifetime: Duration,
    is_https: bool,
) -> Reply {
    let logged_in = LoggedIn {
        token: token.text(),
        expires_at: &session.expires_at,
        username: &session.username,
    };
    Reply::json(200, &logged_in).with("set-cookie", session::cookie(token, lifetime, is_https))
}

/// The answer to a wrong name or password: one for both.
pub(crate) fn wrong() -> Reply {
    unauthorized("wrong username or password")
}

/// The answer when the session was ended, or there was none.
pub(crate) fn logged_out(is_https: bool) -> Reply {
    Reply::empty(204).with("set-cookie", session::no_cookie(is_https))
}

/// The answer to who asks whose session it is.
pub(crate) fn profile(session: Option<&Session>) -> Reply {
    match session {
        Some(session) => Reply::json(200, session),
        None => unauthorized("this needs a session: log in first"),
    }
}

fn unauthorized(detail: &str) -> Reply {
    Reply::problem(401, detail).with("www-authenticate", "Bearer")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn paths_find_their_route() {
        for (method, path, expected) in [
            ("POST", "/auth/register", Route::Change(Change::Register)),
            ("POST", "/auth/login", Route::Change(Change::Login)),
            ("POST", "/auth/logout", Route::Change(Change::Logout)),
            ("GET", "/auth/profile", Route::Profile),
            ("HEAD", "/auth/profile", Route::Profile),
            ("GET", "/readyz/auth", Route::Ready),
            ("GET", "/healthz/auth", Route::Answer(reply::alive())),
        ] {
            assert_eq!(route(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        for (method, path, status, allowed) in [
            ("GET", "/auth/login", 405, Some("POST, OPTIONS")),
            ("HEAD", "/auth/register", 405, Some("POST, OPTIONS")),
            ("OPTIONS", "/auth/logout", 204, Some("POST, OPTIONS")),
            ("POST", "/auth/profile", 405, Some("GET, HEAD, OPTIONS")),
            ("post", "/auth/login", 405, Some("POST, OPTIONS")),
            ("GET", "/auth", 404, None),
            ("GET", "/auth/", 404, None),
            ("POST", "/auth/login/", 404, None),
            ("POST", "/auth//login", 404, None),
            ("POST", "/auth/%6cogin", 404, None),
            ("GET", "", 404, None),
        ] {
            let Route::Answer(reply) = route(method, path) else {
                panic!("{method} {path} is not answered");
            };
            assert_eq!(reply.status, status, "{method} {path}");
            assert_eq!(reply.header("allow"), allowed, "{method} {path}");
        }
    }

    fn body(reply: Reply) -> String {
        String::from_utf8(reply.body).unwrap()
    }

    #[test]
    fn a_registration_says_who_it_was() {
        let reply = registered("bob", true);
        assert_eq!(reply.status, 201);
        assert_eq!(reply.header("location"), Some("/auth/profile"));
        assert_eq!(body(reply), r#"{"username":"bob"}"#);
        assert_eq!(registered("bob", false).status, 409);
    }

    #[test]
    fn a_login_hands_out_the_token_twice() {
        let token = Token::new([0; session::TOKEN_BYTES]);
        let session = Session::new("bob", UNIX_EPOCH, UNIX_EPOCH);
        let reply = logged_in(&token, &session, Duration::from_mins(1), false);
        let cookie = reply.header("set-cookie").unwrap();
        assert!(cookie.starts_with(&format!("gm_session={};", token.text())));
        assert_eq!(
            body(reply),
            format!(
                r#"{{"token":"{}","expires_at":"1970-01-01T00:00:00.000Z","username":"bob"}}"#,
                token.text()
            )
        );
    }

    #[test]
    fn without_a_session_the_answer_says_what_is_needed() {
        for reply in [profile(None), wrong()] {
            assert_eq!(reply.status, 401);
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        let session = Session::new("bob", UNIX_EPOCH, UNIX_EPOCH);
        assert_eq!(profile(Some(&session)).status, 200);
        assert_eq!(logged_out(false).status, 204);
    }
}
