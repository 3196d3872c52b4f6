//! Method, path, query and headers of a request.

use std::borrow::Cow;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// In upper case, as it came.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    /// From its parts; header names in lower case.
    pub fn new(method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.iter().map(owned).collect(),
        }
    }

    /// The head of the host's request. A header that is not text is kept with
    /// replacement characters: it must not count as absent.
    #[cfg(target_family = "wasm")]
    pub fn of(request: &spin_sdk::http::IncomingRequest) -> Self {
        let mut headers: Vec<_> = request
            .headers()
            .entries()
            .into_iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(&value).into_owned();
                (name.to_ascii_lowercase(), value)
            })
            .collect();
        let has_host = headers.iter().any(|(name, _)| name == "host");
        if let Some(authority) = request.authority().filter(|_| !has_host) {
            headers.push(("host".to_owned(), authority));
        }
        Self {
            method: request.method().to_string(),
            target: request.path_with_query().unwrap_or_default(),
            headers,
        }
    }

    /// The path without the query, still escaped.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query's fields in order, unescaped.
    pub fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let (_, query) = self.target.split_once('?').unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Every header of this name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let own = self.headers.iter().filter(move |(own, _)| own == name);
        own.map(|(_, value)| value.as_str())
    }

    /// The first cookie of this name (RFC 6265, section 5.4).
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.values("cookie")
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value)
    }

    /// The token of `Authorization: Bearer …` (RFC 6750).
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim_start())
    }

    /// The media type of the body in lower case, without its parameters.
    pub fn media_type(&self) -> Option<String> {
        let value = self.header("content-type")?;
        let media_type = value.split(';').next().unwrap_or_default();
        Some(media_type.trim().to_ascii_lowercase())
    }

    /// Whether the method may change something (RFC 9110, section 9.2.1).
    pub fn is_unsafe(&self) -> bool {
        !["GET", "HEAD", "OPTIONS"].contains(&self.method.as_str())
    }
}

/// How many to list, from a query: a whole number from 1 to `most`, in digits
/// only, without a sign or a zero in front.
pub fn parse_limit(text: &str, most: u32) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let limit = text.parse().ok().filter(|_| is_plain)?;
    (1..=most).contains(&limit).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let head = Head::new(
            "GET",
            "/",
            &[
                ("cookie", "a=1; gm_session=x=y;b=2"),
                ("cookie", "c=3;gm_session=later"),
            ],
        );
        assert_eq!(head.cookie("gm_session"), Some("x=y"));
        assert_eq!(head.cookie("c"), Some("3"));
        assert_eq!(head.cookie("session"), None);
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            ("Bearer", None),
            ("Basic abc", None),
        ] {
            let head = Head::new("GET", "/", &[("authorization", value)]);
            assert_eq!(head.bearer(), token, "{value}");
        }
    }

    #[test]
    fn the_query_is_unescaped_and_the_path_is_not() {
        let head = Head::new("GET", "/a%20b?limit=1&x=%C3%A4+b&limit=2", &[]);
        assert_eq!(head.path(), "/a%20b");
        let fields: Vec<_> = head.query().collect();
        assert_eq!(fields[1], ("x".into(), "ä b".into()));
        assert_eq!(fields.len(), 3);
        assert_eq!(Head::new("GET", "/a", &[]).query().count(), 0);
    }

    #[test]
    fn a_limit_is_written_in_one_way() {
        for (text, expected) in [("1", Some(1)), ("50", Some(50))] {
            assert_eq!(parse_limit(text, 50), expected, "{text}");
        }
        for text in [
            "",
            "0",
            "51",
            "+5",
            "-5",
            "05",
            " 5",
            "5.0",
            "x",
            "99999999999",
        ] {
            assert_eq!(parse_limit(text, 50), None, "{text}");
        }
    }

    #[test]
    fn a_media_type_stands_without_parameters() {
        let value = "Application/JSON; charset=utf-8";
        let head = Head::new("POST", "/", &[("content-type", value)]);
        assert_eq!(head.media_type().as_deref(), Some("application/json"));
    }
}
