//! Conditional requests: whether the sender has already what it asks for.

use crate::Head;

/// Whether `If-None-Match` names this tag, which is strong and stands in its
/// quotes (RFC 9110, section 13.1.2, with the weak comparison). Our tags hold no
/// comma, so one in a foreign tag does no harm.
pub fn is_known(head: &Head, etag: &str) -> bool {
    head.values("if-none-match")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_by_weak_comparison() {
        for (tags, known) in [
            (&["\"abc\""][..], true),
            (&["W/\"abc\""], true),
            (&["\"x\" , W/\"abc\""], true),
            (&["\"x\"", "\"abc\""], true),
            (&["\"a,b\", \"abc\""], true),
            (&["*"], true),
            (&[], false),
            (&[""], false),
            (&["abc"], false),
            (&["w/\"abc\""], false),
            (&["\"abcd\""], false),
            (&["\"ABC\""], false),
        ] {
            let headers: Vec<_> = tags.iter().map(|tag| ("if-none-match", *tag)).collect();
            let head = Head::new("GET", "/", &headers);
            assert_eq!(is_known(&head, "\"abc\""), known, "{tags:?}");
        }
    }
}
