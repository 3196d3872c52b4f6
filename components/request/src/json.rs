//! JSON bodies: one form that a resource takes, and the refusals of all others.

use reply::Reply;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::Body;

/// The largest JSON body that is read.
pub const MAX_JSON_BYTES: usize = 16 * 1024;

/// Reads the body as a JSON object, or gives the refusal. `form` is how the
/// refusal describes the object, as in `{"name": text}`.
#[cfg(target_family = "wasm")]
pub async fn read_json<T: DeserializeOwned>(
    head: &crate::Head,
    request: spin_sdk::http::IncomingRequest,
    form: &str,
) -> Result<T, Reply> {
    refuse_other_media(head)?;
    parse_json(crate::read_body(request, MAX_JSON_BYTES).await, form)
}

#[cfg(any(target_family = "wasm", test))]
fn refuse_other_media(head: &crate::Head) -> Result<(), Reply> {
    if head.media_type().as_deref() == Some("application/json") {
        return Ok(());
    }
    let detail = "the body must be JSON, announced by `content-type: application/json`";
    Err(Reply::problem(415, detail))
}

/// Reads a JSON object, or gives the refusal. Refusals never repeat what the body
/// says: it may hold a secret.
pub fn parse_json<T: DeserializeOwned>(body: Body, form: &str) -> Result<T, Reply> {
    let body = match body {
        Body::Whole(body) => body,
        Body::TooLarge => {
            let detail = format!("a JSON body has at most {MAX_JSON_BYTES} bytes here");
            return Err(Reply::problem(413, &detail));
        }
        Body::Broken => return Err(Reply::problem(400, "the body ended early")),
    };
    // Serde takes an array for an object, its fields in order.
    let is_array = body.trim_ascii_start().starts_with(b"[");
    let parsed = serde_json::from_slice(&body);
    let detail = match parsed {
        Ok(value) if !is_array => return Ok(value),
        Err(error) if error.classify() != Category::Data => format!(
            "the body is not JSON: line {}, column {}",
            error.line(),
            error.column()
        ),
        _ => format!("the body must be {form}, each field once and no others"),
    };
    Err(Reply::problem(400, &detail))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Head;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
    }

    fn parse(body: &str) -> Result<Named, Reply> {
        parse_json(Body::Whole(body.as_bytes().to_vec()), r#"{"name": text}"#)
    }

    #[test]
    fn the_form_is_read_and_no_other() {
        let named = parse(" {\"name\": \"a\"}\n").unwrap();
        assert_eq!(named.name, "a");
        for body in [
            "",
            "{",
            "null",
            "[]",
            r#" ["secret"]"#,
            r#""secret""#,
            "{}",
            r#"{"name":12345}"#,
            r#"{"name":null}"#,
            r#"{"name":"secret","name":"secret"}"#,
            r#"{"name":"a","secret":1}"#,
            r#"{"name":"secret"} x"#,
            "{\"name\":\"\u{0}\"}",
        ] {
            let refusal = parse(body).unwrap_err();
            assert_eq!(refusal.status, 400, "{body}");
            let text = String::from_utf8(refusal.body).unwrap();
            assert!(
                !text.contains("secret") && !text.contains("12345"),
                "{text}"
            );
        }
        let bytes = Body::Whole(b"{\"name\":\"\xff\"}".to_vec());
        assert_eq!(parse_json::<Named>(bytes, "").unwrap_err().status, 400);
    }

    #[test]
    fn a_large_or_broken_body_is_refused() {
        let status = |body| parse_json::<Named>(body, "").unwrap_err().status;
        assert_eq!(status(Body::TooLarge), 413);
        assert_eq!(status(Body::Broken), 400);
    }

    #[test]
    fn only_json_is_announced_as_json() {
        for (media_type, passes) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("text/plain", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            let head = Head::new("POST", "/", &[("content-type", media_type)]);
            assert_eq!(refuse_other_media(&head).is_ok(), passes, "{media_type}");
        }
        assert!(refuse_other_media(&Head::new("POST", "/", &[])).is_err());
    }
}
