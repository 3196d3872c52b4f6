//! Sessions: the token that a caller holds, the key and the document that are
//! stored for it, and the cookie. The token itself is stored nowhere.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reply::timestamp;
use request::{Head, SESSION_COOKIE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// 256 bits: nobody guesses one.
pub(crate) const TOKEN_BYTES: usize = 32;

/// What proves a session. Without a `Debug`: it must not reach a log.
pub(crate) struct Token(String);

impl Token {
    /// From random bytes.
    pub(crate) fn new(random: [u8; TOKEN_BYTES]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(random))
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == TOKEN_BYTES).then(|| Self(text.to_owned()))
    }

    /// Of the request: the bearer token when there is one, else the cookie's.
    pub(crate) fn of(head: &Head) -> Option<Self> {
        match head.bearer() {
            Some(bearer) => Self::parse(bearer),
            None => Self::of_cookie(head),
        }
    }

    /// Of the request's cookie.
    pub(crate) fn of_cookie(head: &Head) -> Option<Self> {
        head.cookie(SESSION_COOKIE).and_then(Self::parse)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Where the session is stored. Who reads the store cannot go back to the token.
    pub(crate) fn key(&self) -> String {
        reply::hex(&Sha256::digest(&self.0))
    }
}

/// What is stored for a session; times in RFC 3339. It is the answer to who asks
/// for the profile.
#[derive(Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Session {
    pub(crate) username: String,
    /// Of the account.
    pub(crate) created_at: String,
    pub(crate) expires_at: String,
}

impl Session {
    pub(crate) fn new(username: &str, created_at: SystemTime, expires_at: SystemTime) -> Self {
        Self {
            username: username.to_owned(),
            created_at: timestamp(created_at),
            expires_at: timestamp(expires_at),
        }
    }

    /// A stored session that is not over; nothing when the document is none.
    pub(crate) fn valid(document: &[u8], now: SystemTime) -> Option<Self> {
        let session: Self = serde_json::from_slice(document).ok()?;
        let expires_at = humantime::parse_rfc3339(&session.expires_at).ok()?;
        (now < expires_at).then_some(session)
    }
}

/// The value of `Set-Cookie` for a session.
pub(crate) fn cookie(token: &Token, lifetime: Duration, is_https: bool) -> String {
    set_cookie(token.text(), lifetime, is_https)
}

/// The value of `Set-Cookie` that removes it.
pub(crate) fn no_cookie(is_https: bool) -> String {
    set_cookie("", Duration::ZERO, is_https)
}

fn set_cookie(value: &str, lifetime: Duration, is_https: bool) -> String {
    let max_age = lifetime.as_secs();
    let secure = if is_https { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// The token of 32 zero bytes and of 32 bytes 0xff.
    const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const ONES: &str = "__________________________________________8";

    fn text(token: Option<Token>) -> Option<String> {
        token.map(|token| token.0)
    }

    #[test]
    fn a_token_is_43_characters_and_its_key_a_hash() {
        let token = Token::new([0xff; TOKEN_BYTES]);
        assert_eq!(token.text(), ONES);
        // What `printf %s "$ONES" | sha256sum` prints.
        let key = "225f7e75329dd45aa354975d73987319309393af3a4c6733bc13601a4f1b8796";
        assert_eq!(token.key(), key);
    }

    #[test]
    fn the_bearer_token_counts_before_the_cookie() {
        let cookie = ("cookie", &*format!("gm_session={ZEROS}"));
        let bearer = ("authorization", &*format!("Bearer {ONES}"));
        let of = |headers: &[_]| text(Token::of(&Head::new("GET", "/", headers)));
        assert_eq!(of(&[cookie]).as_deref(), Some(ZEROS));
        assert_eq!(of(&[bearer]).as_deref(), Some(ONES));
        assert_eq!(of(&[cookie, bearer]).as_deref(), Some(ONES));
        assert_eq!(of(&[cookie, ("authorization", "Bearer x")]), None);
        assert_eq!(of(&[]), None);
        let head = Head::new("GET", "/", &[cookie, bearer]);
        assert_eq!(text(Token::of_cookie(&head)).as_deref(), Some(ZEROS));
    }

    #[test]
    fn what_was_never_issued_is_no_token() {
        let padded = format!("{ZEROS}=");
        // One character whose last bits do not count: a second text of one token.
        let other_text = format!("{}B", &ZEROS[1..]);
        let longer = format!("{ZEROS}A");
        for bad in ["", "x", &padded, &other_text, &longer, &ZEROS[1..], "ä"] {
            assert_eq!(text(Token::parse(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_session_is_valid_until_it_expires() {
        let expires_at = UNIX_EPOCH + Duration::from_millis(1_767_225_600_123);
        let session = Session::new("bob", UNIX_EPOCH, expires_at);
        let document = serde_json::to_vec(&session).unwrap();
        assert_eq!(
            String::from_utf8(document.clone()).unwrap(),
            r#"{"username":"bob","created_at":"1970-01-01T00:00:00.000Z","expires_at":"2026-01-01T00:00:00.123Z"}"#
        );
        let before = expires_at - Duration::from_millis(1);
        assert!(Session::valid(&document, before) == Some(session));
        assert!(Session::valid(&document, expires_at).is_none());
        for damaged in [
            "",
            "{}",
            "null",
            r#"{"username":"bob","created_at":"","expires_at":""}"#,
        ] {
            assert!(
                Session::valid(damaged.as_bytes(), UNIX_EPOCH).is_none(),
                "{damaged}"
            );
        }
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let token = Token::new([0; TOKEN_BYTES]);
        assert_eq!(
            cookie(&token, Duration::from_mins(1), true),
            format!("gm_session={ZEROS}; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure")
        );
        assert_eq!(
            no_cookie(false),
            "gm_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        );
    }
}
