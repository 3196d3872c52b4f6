//! The ids of images: 128 random bits, so that nobody finds an image who was not
//! given its id.

/// Characters of an id.
const CHARS: usize = 32;

/// The id that these bits make.
pub(crate) fn from_bits(bits: [u8; 16]) -> String {
    reply::hex(&bits)
}

/// Whether a text has the form of an id. It becomes part of keys and URLs.
pub(crate) fn is_id(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == CHARS && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_form() {
        let id = from_bits(*b"jihgfedcba987654");
        assert_eq!(id, "6a696867666564636261393837363534");
        assert!(is_id(&id));
        for text in ["", "30", &id.replace('a', "A"), &id[1..], &format!("{id}0")] {
            assert!(!is_id(text), "{text}");
        }
        assert!(!is_id("6a69686766656463626139383736353/"));
    }
}
