//! Who is asking: the session of a request is shown to the `auth` service, which
//! tells the name. Nothing but the session is passed on.

use outbound::{Answer, Call};
use reply::Reply;
use request::{Head, SESSION_COOKIE};
use serde::Deserialize;

/// A token has 43 characters; this is for tokens to come.
const MAX_TOKEN_CHARS: usize = 512;

/// Why nobody is known to be asking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoUser {
    /// There is no session, or it has ended.
    NoSession,
    /// Nobody could be asked; the reason is for the log.
    Unavailable(String),
}

#[derive(Deserialize)]
struct Profile {
    username: String,
}

/// The request that asks `auth` for the name; nothing when there is no session
/// to ask for. A bearer token counts more than a cookie.
pub(crate) fn question(head: &Head, auth_origin: &str) -> Option<Call> {
    let call = Call::new("GET", at(auth_origin, "/auth/profile"));
    let usable = |token: &&str| {
        (1..=MAX_TOKEN_CHARS).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic())
    };
    if let Some(token) = head.bearer() {
        let token = Some(token).filter(usable)?;
        return Some(call.with("authorization", &format!("Bearer {token}")));
    }
    let token = head.cookie(SESSION_COOKIE).filter(usable)?;
    Some(call.with("cookie", &format!("{SESSION_COOKIE}={token}")))
}

/// The request that asks `auth` whether it is there.
pub(crate) fn ping(auth_origin: &str) -> Call {
    Call::new("GET", at(auth_origin, "/healthz/auth"))
}

fn at(auth_origin: &str, path: &str) -> String {
    format!("{}{path}", auth_origin.trim_end_matches('/'))
}

/// The name that `auth` answered.
pub(crate) fn username(answer: &Answer) -> Result<String, NoUser> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map(|profile: Profile| profile.username)
            .map_err(|error| {
                NoUser::Unavailable(format!("the answer of auth cannot be read: {error}"))
            }),
        401 => Err(NoUser::NoSession),
        status => Err(NoUser::Unavailable(format!("auth answered {status}"))),
    }
}

impl NoUser {
    /// What the caller is told.
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Self::NoSession => Reply::problem(401, "this needs a session: log in first")
                .with("www-authenticate", "Bearer"),
            Self::Unavailable(_) => {
                Reply::unavailable("the auth service cannot be reached now; try again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(headers: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let head = Head::new("GET", "/images", headers);
        question(&head, "http://auth.spin.internal/").map(|call| {
            assert_eq!(call.url, "http://auth.spin.internal/auth/profile");
            call.headers
        })
    }

    fn header(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn only_the_session_is_passed_on() {
        let cookies = ("cookie", "other=1; gm_session=abc; more=2");
        let bearer = ("authorization", "Bearer xyz");
        let basic = ("authorization", "Basic xyz");
        assert_eq!(ask(&[cookies]), Some(header("cookie", "gm_session=abc")));
        assert_eq!(ask(&[bearer]), Some(header("authorization", "Bearer xyz")));
        assert_eq!(
            ask(&[cookies, bearer]),
            Some(header("authorization", "Bearer xyz"))
        );
        assert_eq!(
            ask(&[cookies, basic]),
            Some(header("cookie", "gm_session=abc"))
        );
    }

    #[test]
    fn without_a_usable_token_nobody_is_asked() {
        let long = format!("gm_session={}", "x".repeat(MAX_TOKEN_CHARS + 1));
        for (name, value) in [
            ("x", "y"),
            ("cookie", "gm_session="),
            ("cookie", "gm_session=a\tb"),
            ("cookie", &long),
            ("authorization", "Bearer "),
            ("authorization", "Bearer a b"),
            ("authorization", "Bearer ä"),
        ] {
            assert_eq!(ask(&[(name, value)]), None, "{value}");
        }
    }

    #[test]
    fn the_answer_names_the_user_or_why_there_is_none() {
        let answer = |status, body: &str| Answer {
            status,
            body: body.into(),
        };
        let known = r#"{"username":"ann","created_at":"x","expires_at":"y"}"#;
        assert_eq!(username(&answer(200, known)), Ok("ann".to_owned()));
        assert_eq!(username(&answer(401, "{}")), Err(NoUser::NoSession));
        for (status, body) in [
            (200, "{}"),
            (200, "<html>"),
            (500, ""),
            (404, ""),
            (429, ""),
        ] {
            let unknown = username(&answer(status, body)).unwrap_err();
            assert_eq!(unknown.reply().status, 503, "{status} {body}");
        }
        let reply = NoUser::NoSession.reply();
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
}
