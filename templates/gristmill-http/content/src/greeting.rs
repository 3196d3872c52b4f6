//! What a request gets. Pure: `cargo test` runs it without a host.

/// What is sent back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Greets whom the path names.
pub(crate) fn answer(method: &str, path: &str) -> Answer {
    let (status, body) = match (method, path.rsplit('/').next()) {
        ("GET" | "HEAD", None | Some("")) => (200, "Hello, world!\n".to_owned()),
        ("GET" | "HEAD", Some(name)) => (200, format!("Hello, {name}!\n")),
        _ => (405, format!("{method} is not for greetings\n")),
    };
    Answer { status, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_who_is_greeted() {
        assert_eq!(answer("GET", "/").body, "Hello, world!\n");
        assert_eq!(answer("GET", "/Ada").body, "Hello, Ada!\n");
    }

    #[test]
    fn only_reading_is_allowed() {
        assert_eq!(answer("DELETE", "/Ada").status, 405);
    }
}
