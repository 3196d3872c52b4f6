//! What the image service answers once the catalog and the store have.

use std::time::{Duration, UNIX_EPOCH};

use reply::{Reply, timestamp};
use request::Head;
use serde::Serialize;

use crate::picture::Kind;
use crate::record::{Record, State};

/// What clients are told of an image.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    r#type: &'a str,
    size: i64,
    width: i64,
    height: i64,
    created_at: String,
    thumbnail: &'a str,
    url: String,
    thumbnail_url: String,
}

#[derive(Serialize)]
struct Page<'a> {
    images: Vec<Document<'a>>,
    next: Option<&'a str>,
}

/// What an answer shows of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Image,
    Thumbnail,
}

impl Part {
    /// Its key in the store.
    pub(crate) fn key(self, id: &str) -> String {
        match self {
            Self::Image => id.to_owned(),
            Self::Thumbnail => format!("{id}.thumbnail"),
        }
    }
}

fn document(record: &Record) -> Document<'_> {
    let millis = u64::try_from(record.created_at).unwrap_or_default();
    Document {
        id: &record.id,
        r#type: record.kind.media_type(),
        size: record.size,
        width: record.width,
        height: record.height,
        created_at: timestamp(UNIX_EPOCH + Duration::from_millis(millis)),
        thumbnail: record.state.as_str(),
        url: format!("/images/{}", record.id),
        thumbnail_url: format!("/images/{}/thumbnail", record.id),
    }
}

/// The image is taken in.
pub(crate) fn created(record: &Record) -> Reply {
    let location = format!("/images/{}", record.id);
    Reply::json(201, &document(record)).with("location", location)
}

/// One page, from one row more than it has, if there is one.
pub(crate) fn page(records: &[Record], limit: usize) -> Reply {
    let shown = &records[..records.len().min(limit)];
    let last = shown.last().map(|record| record.id.as_str());
    let page = Page {
        images: shown.iter().map(document).collect(),
        next: last.filter(|_| records.len() > limit),
    };
    Reply::json(200, &page)
}

/// The bytes of an image or thumbnail, which are shown as what they are and run
/// nothing.
pub(crate) fn content(id: &str, part: Part, kind: Kind, sha256: &str, bytes: Vec<u8>) -> Reply {
    let name = match part {
        Part::Image => format!("{id}.{}", kind.extension()),
        Part::Thumbnail => format!("{id}-thumbnail.{}", kind.extension()),
    };
    let reply = Reply {
        status: 200,
        headers: vec![("content-type", kind.media_type().to_owned())],
        body: bytes,
    };
    validated(reply, sha256)
        .with(
            "content-disposition",
            format!("inline; filename=\"{name}\""),
        )
        .with("x-content-type-options", "nosniff")
        .with("content-security-policy", "default-src 'none'; sandbox")
        .with("cross-origin-resource-policy", "same-origin")
}

/// The answer to HEAD, which needs no bytes.
pub(crate) fn content_head(record: &Record) -> Reply {
    let (kind, sha256) = (record.kind, &record.sha256);
    content(&record.id, Part::Image, kind, sha256, Vec::new())
        .with("content-length", record.size.to_string())
}

/// 304 when the client has this content already.
pub(crate) fn unchanged(head: &Head, sha256: &str) -> Option<Reply> {
    request::is_known(head, &etag(sha256)).then(|| validated(Reply::empty(304), sha256))
}

fn validated(reply: Reply, sha256: &str) -> Reply {
    reply
        .with("etag", etag(sha256))
        .with("cache-control", "private, no-cache")
}

fn etag(sha256: &str) -> String {
    format!("\"{sha256}\"")
}

/// The client gets the content from the bucket itself.
pub(crate) fn redirect(url: String) -> Reply {
    Reply::empty(302).with("location", url)
}

/// There is no such image, or not for this caller.
pub(crate) fn no_image() -> Reply {
    Reply::problem(404, "there is no such image")
}

/// There is no thumbnail, or not yet.
pub(crate) fn no_thumbnail(state: State) -> Reply {
    match state {
        State::Pending => {
            Reply::problem(404, "the thumbnail is being made").with("retry-after", "1")
        }
        State::Ready | State::Failed => Reply::problem(404, "there is no thumbnail of this image"),
    }
}

/// The last image of the page before is not there.
pub(crate) fn no_cursor() -> Reply {
    Reply::problem(400, "`after` is no image of yours")
}

/// The caller has as many images as anybody may have.
pub(crate) fn too_many(most: u64) -> Reply {
    let detail = format!("you have {most} images, which is the most: delete some first");
    Reply::problem(409, &detail)
}

pub(crate) fn deleted() -> Reply {
    Reply::empty(204)
}

/// A part of the service does not answer.
pub(crate) fn unavailable(part: &str) -> Reply {
    let detail = format!("the {part} cannot be reached now; try again");
    Reply::unavailable(&detail)
}

/// A variable cannot be used; the text names it, without its value.
pub(crate) fn misconfigured(error: &str) -> Reply {
    Reply::problem(500, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.to_owned(),
            state: State::Pending,
            kind: Kind::Jpeg,
            size: 3,
            width: 1,
            height: 2,
            sha256: "abc".to_owned(),
            created_at: 1_767_225_600_123,
            queued_at: 0,
            thumbnail: None,
        }
    }

    fn text(reply: &Reply) -> &str {
        std::str::from_utf8(&reply.body).unwrap()
    }

    #[test]
    fn a_new_image_says_where_it_is() {
        let reply = created(&record("x"));
        assert_eq!(reply.status, 201);
        assert_eq!(reply.header("location"), Some("/images/x"));
        assert_eq!(
            text(&reply),
            r#"{"id":"x","type":"image/jpeg","size":3,"width":1,"height":2,"created_at":"2026-01-01T00:00:00.123Z","thumbnail":"pending","url":"/images/x","thumbnail_url":"/images/x/thumbnail"}"#
        );
    }

    #[test]
    fn a_page_names_the_next_when_there_is_one() {
        let records = [record("x"), record("y")];
        assert!(text(&page(&records, 1)).ends_with(r#"],"next":"x"}"#));
        assert!(text(&page(&records, 2)).ends_with(r#"],"next":null}"#));
        assert_eq!(text(&page(&[], 2)), r#"{"images":[],"next":null}"#);
    }

    #[test]
    fn content_runs_nothing() {
        let reply = content("x", Part::Image, Kind::Gif, "abc", vec![1]);
        for (name, value) in [
            ("content-type", "image/gif"),
            ("etag", "\"abc\""),
            ("cache-control", "private, no-cache"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; sandbox"),
            ("content-disposition", "inline; filename=\"x.gif\""),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value));
        }
    }

    #[test]
    fn a_head_tells_what_the_content_would() {
        let record = record("x");
        let whole = content("x", Part::Image, record.kind, "abc", vec![1, 2, 3]);
        let head = content_head(&record);
        assert_eq!(head.status, 200);
        assert!(head.body.is_empty());
        let whole = whole.with("content-length", "3");
        assert_eq!(head.headers, whole.headers);
    }

    #[test]
    fn a_known_tag_is_not_sent_again() {
        let head = Head::new("GET", "/", &[("if-none-match", "\"abc\"")]);
        let reply = unchanged(&head, "abc").unwrap();
        assert_eq!(reply.status, 304);
        assert_eq!(reply.header("etag"), Some("\"abc\""));
        assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
        assert_eq!(unchanged(&head, "abcd"), None);
    }

    #[test]
    fn a_thumbnail_that_is_being_made_is_asked_for_again() {
        assert_eq!(
            no_thumbnail(State::Pending).header("retry-after"),
            Some("1")
        );
        assert_eq!(no_thumbnail(State::Failed).header("retry-after"), None);
    }
}
