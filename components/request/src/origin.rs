//! Defence against forged requests: whether a browser sent a request from this
//! site's own pages. By `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin`
//! (RFC 6454), which pages cannot set.

use reply::Reply;

use crate::Head;

/// The cookie that holds the session.
pub const SESSION_COOKIE: &str = "gm_session";

/// Where a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// On a page of this site.
    Own,
    /// Elsewhere.
    Other,
    /// Nobody says: no browser, or the address bar.
    Unknown,
}

/// The refusal of an unsafe request that may come from another site's page: one
/// that says so itself, or one that has the session's cookie and does not say
/// that it is from here. A bearer token exempts: no browser adds it by itself.
///
/// `public_origin` is where this site is, as in `https://example.com`; empty
/// means wherever the request was sent to.
pub fn refuse_forged(head: &Head, public_origin: &str) -> Option<Reply> {
    if !head.is_unsafe() || head.bearer().is_some() {
        return None;
    }
    let is_refused = match site(head, public_origin) {
        Site::Own => false,
        Site::Other => true,
        Site::Unknown => head.cookie(SESSION_COOKIE).is_some(),
    };
    is_refused.then(|| {
        let detail = "a page of another site must not ask for this, and a request with the \
                      session's cookie must say that it is from here: by `Sec-Fetch-Site: \
                      same-origin` or an `Origin` of this site";
        Reply::problem(403, detail)
    })
}

fn site(head: &Head, public_origin: &str) -> Site {
    let fetch = head.values("sec-fetch-site").map(|value| match value {
        "same-origin" => Site::Own,
        "none" => Site::Unknown,
        _ => Site::Other,
    });
    let origin = head.values("origin").map(|origin| {
        if is_own(origin, head, public_origin) {
            Site::Own
        } else {
            Site::Other
        }
    });
    // All that is said must agree.
    let said: Vec<_> = fetch.chain(origin).collect();
    if said.contains(&Site::Other) {
        Site::Other
    } else if said.is_empty() || said.contains(&Site::Unknown) {
        Site::Unknown
    } else {
        Site::Own
    }
}

fn is_own(origin: &str, head: &Head, public_origin: &str) -> bool {
    if !public_origin.is_empty() {
        return origin.eq_ignore_ascii_case(public_origin.trim_end_matches('/'));
    }
    let host = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    match (host, head.header("host")) {
        (Some(host), Some(own)) => host.eq_ignore_ascii_case(own),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: (&str, &str) = ("cookie", "gm_session=x");
    const OWN: (&str, &str) = ("origin", "http://site.test:3000");
    const EVIL: (&str, &str) = ("origin", "http://evil.test");

    fn is_refused(method: &str, public_origin: &str, headers: &[(&str, &str)]) -> bool {
        let mut all = vec![("host", "site.test:3000")];
        all.extend(headers);
        refuse_forged(&Head::new(method, "/", &all), public_origin).is_some()
    }

    #[test]
    fn a_cookie_needs_proof_of_the_own_site() {
        let fetch = |site| ("sec-fetch-site", site);
        for (headers, refused) in [
            (&[COOKIE][..], true),
            (&[COOKIE, OWN], false),
            (&[COOKIE, EVIL], true),
            (&[COOKIE, ("origin", "null")], true),
            (&[COOKIE, ("origin", "http://site.test")], true),
            (
                &[COOKIE, ("origin", "http://site.test:3000.evil.test")],
                true,
            ),
            (&[COOKIE, ("origin", "ftp://site.test:3000")], true),
            (&[COOKIE, fetch("same-origin")], false),
            (&[COOKIE, fetch("same-site")], true),
            (&[COOKIE, fetch("cross-site")], true),
            (&[COOKIE, fetch("none")], true),
            (&[COOKIE, fetch("same-origin"), EVIL], true),
            (&[COOKIE, fetch("cross-site"), OWN], true),
            (&[COOKIE, fetch("none"), OWN], true),
            (&[COOKIE, OWN, EVIL], true),
            (&[], false),
            (&[OWN], false),
            (&[EVIL], true),
            (&[fetch("cross-site")], true),
            (&[COOKIE, ("authorization", "Bearer t")], false),
            (&[COOKIE, EVIL, ("authorization", "Bearer t")], false),
            (&[COOKIE, ("authorization", "Basic t")], true),
        ] {
            assert_eq!(is_refused("POST", "", headers), refused, "{headers:?}");
            assert_eq!(is_refused("DELETE", "", headers), refused, "{headers:?}");
            assert!(!is_refused("GET", "", headers), "{headers:?}");
        }
    }

    #[test]
    fn a_public_origin_is_the_only_one() {
        let public = "https://shop.test";
        let shop = ("origin", "https://shop.test");
        assert!(!is_refused("POST", public, &[COOKIE, shop]));
        assert!(!is_refused("POST", "https://shop.test/", &[COOKIE, shop]));
        assert!(is_refused("POST", public, &[COOKIE, OWN]));
        let plain = ("origin", "http://shop.test");
        assert!(is_refused("POST", public, &[COOKIE, plain]));
    }
}
