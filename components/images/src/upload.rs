//! The picture in the body of an upload: all of it, or the one file of a form
//! (`multipart/form-data`, RFC 7578). Names and types that come with it count
//! for nothing.

use futures::stream;
use multer::{Constraints, Multipart, SizeLimit};
use reply::Reply;
use request::{Body, Head};

/// What a form may have around its file: boundaries, headers, other fields.
const FORM_BYTES: usize = 64 * 1024;

/// Parts of a form, the file among them.
const MAX_PARTS: usize = 32;

/// Why there is no picture in a body.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the body ended early")]
    Broken,
    #[error("the body is empty")]
    Empty,
    #[error("a picture has at most {0} bytes")]
    TooLarge(usize),
    #[error("the body is not valid `multipart/form-data`")]
    Form,
    #[error("the form needs exactly one file")]
    Files,
    #[error("a form has at most {MAX_PARTS} parts")]
    Parts,
}

impl Unusable {
    pub(crate) fn reply(&self) -> Reply {
        let status = match self {
            Self::TooLarge(_) => 413,
            _ => 400,
        };
        Reply::problem(status, &self.to_string())
    }
}

/// How the picture comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The body is the picture.
    Raw,
    /// The body is a form with this between its parts.
    Multipart { boundary: String },
}

impl Form {
    /// As the head announces it.
    pub(crate) fn of(head: &Head) -> Result<Self, Unusable> {
        if head.media_type().as_deref() != Some("multipart/form-data") {
            return Ok(Self::Raw);
        }
        let content_type = head.header("content-type").unwrap_or_default();
        multer::parse_boundary(content_type)
            .map(|boundary| Self::Multipart { boundary })
            .map_err(|_| Unusable::Form)
    }

    /// The largest body that can hold a picture of `max_bytes`.
    pub(crate) fn max_body(&self, max_bytes: usize) -> usize {
        match self {
            Self::Raw => max_bytes,
            Self::Multipart { .. } => max_bytes + FORM_BYTES,
        }
    }

    /// The picture.
    pub(crate) async fn picture(self, body: Body, max_bytes: usize) -> Result<Vec<u8>, Unusable> {
        let body = match body {
            Body::Whole(body) => body,
            Body::TooLarge => return Err(Unusable::TooLarge(max_bytes)),
            Body::Broken => return Err(Unusable::Broken),
        };
        let picture = match self {
            Self::Raw => body,
            Self::Multipart { boundary } => only_file(body, boundary, max_bytes).await?,
        };
        if picture.is_empty() {
            return Err(Unusable::Empty);
        }
        Ok(picture)
    }
}

async fn only_file(body: Vec<u8>, boundary: String, max_bytes: usize) -> Result<Vec<u8>, Unusable> {
    let unusable = |error| match error {
        multer::Error::FieldSizeExceeded { .. } => Unusable::TooLarge(max_bytes),
        _ => Unusable::Form,
    };
    let body = stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let limits = SizeLimit::new().per_field(max_bytes as u64);
    let constraints = Constraints::new().size_limit(limits);
    let mut form = Multipart::with_constraints(body, boundary, constraints);
    let mut file = None;
    let mut parts = 0;
    while let Some(mut part) = form.next_field().await.map_err(unusable)? {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(Unusable::Parts);
        }
        if part.file_name().is_none() {
            continue;
        }
        if file.is_some() {
            return Err(Unusable::Files);
        }
        let mut content = Vec::new();
        while let Some(chunk) = part.chunk().await.map_err(unusable)? {
            content.extend_from_slice(&chunk);
        }
        file = Some(content);
    }
    file.ok_or(Unusable::Files)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    const FORM: &str = "multipart/form-data; boundary=XX";
    const FILE: &str = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../a.png\"\r\nContent-Type: text/html\r\n\r\nPIC\r\n";
    const FIELD: &str = "--XX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n";
    const END: &str = "--XX--\r\n";

    fn picture(content_type: &str, body: &str) -> Result<String, Unusable> {
        let head = Head::new("POST", "/images/upload", &[("content-type", content_type)]);
        let form = Form::of(&head)?;
        let read = form.picture(Body::Whole(body.into()), 10);
        block_on(read).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_raw_body_is_the_picture() {
        for content_type in ["image/png", "text/html", "nonsense", "multipart/mixed"] {
            assert_eq!(picture(content_type, "PIC").as_deref(), Ok("PIC"));
        }
        assert_eq!(picture("image/png", ""), Err(Unusable::Empty));
    }

    #[test]
    fn a_form_has_one_file_among_its_parts() {
        for parts in [
            vec![FILE, END],
            vec![FIELD, FILE, END],
            vec![FILE, FIELD, END],
        ] {
            assert_eq!(picture(FORM, &parts.concat()).as_deref(), Ok("PIC"));
        }
        let quoted = "multipart/form-data; boundary=\"XX\"";
        assert_eq!(picture(quoted, &[FILE, END].concat()).as_deref(), Ok("PIC"));
    }

    #[test]
    fn other_forms_are_refused() {
        let many = [&FIELD.repeat(MAX_PARTS), FILE, END].concat();
        let large = FILE.replace("PIC", "12345678901");
        for (content_type, body, expected) in [
            (FORM, END.to_owned(), Unusable::Files),
            (FORM, [FIELD, END].concat(), Unusable::Files),
            (FORM, [FILE, FILE, END].concat(), Unusable::Files),
            (
                FORM,
                [FILE.replace("PIC", "").as_str(), END].concat(),
                Unusable::Empty,
            ),
            (FORM, FILE.to_owned(), Unusable::Form),
            (FORM, "PIC".to_owned(), Unusable::Form),
            (FORM, String::new(), Unusable::Form),
            ("multipart/form-data", [FILE, END].concat(), Unusable::Form),
            (FORM, many, Unusable::Parts),
            (FORM, [&large, END].concat(), Unusable::TooLarge(10)),
        ] {
            assert_eq!(picture(content_type, &body), Err(expected), "{body}");
        }
    }

    #[test]
    fn a_body_over_the_limit_is_too_large() {
        let read = |form: Form, body| block_on(form.picture(body, 10)).unwrap_err();
        assert_eq!(read(Form::Raw, Body::TooLarge).reply().status, 413);
        assert_eq!(read(Form::Raw, Body::Broken).reply().status, 400);
        let form = Form::Multipart {
            boundary: "XX".to_owned(),
        };
        assert_eq!(form.max_body(10), 10 + FORM_BYTES);
        assert_eq!(Form::Raw.max_body(10), 10);
    }
}
