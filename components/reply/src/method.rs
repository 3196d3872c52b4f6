//! Which methods a resource allows, and the answers to all others.

use crate::Reply;

/// Nothing when the resource allows this method; else the answer: 204 to
/// OPTIONS, 405 to any other, both with `Allow`.
pub fn allow(methods: &[&str], method: &str) -> Option<Reply> {
    if methods.contains(&method) {
        return None;
    }
    let allowed = format!("{}, OPTIONS", methods.join(", "));
    let reply = if method == "OPTIONS" {
        Reply::empty(204)
    } else {
        Reply::problem(
            405,
            &format!("`{method}` is not allowed here; allowed: {allowed}"),
        )
    };
    Some(reply.with("allow", allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_method_passes() {
        assert_eq!(allow(&["GET", "HEAD"], "HEAD"), None);
    }

    #[test]
    fn any_other_is_told_what_is_allowed() {
        for (method, status) in [("PUT", 405), ("OPTIONS", 204), ("get", 405)] {
            let reply = allow(&["GET", "HEAD"], method).unwrap();
            assert_eq!(reply.status, status, "{method}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
}
