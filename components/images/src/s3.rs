//! A bucket of any S3-compatible store: signed requests, and what its answers
//! mean. Pure: builds and reads, but sends nothing.

use std::time::Duration;

use outbound::{Answer, Call};
use rusty_s3::actions::HeadBucket;
use rusty_s3::{Credentials, S3Action, UrlStyle};

/// How long a signature of ours is good.
const OWN_USE: Duration = Duration::from_mins(1);

/// How long a client may take to follow a redirect.
const REDIRECT: Duration = Duration::from_mins(5);

/// A bucket, and how to sign for it.
pub(crate) struct Bucket {
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
}

impl Bucket {
    /// `origin` has scheme, host and port.
    pub(crate) fn new(
        origin: &str,
        name: String,
        region: String,
        credentials: Credentials,
    ) -> Result<Self, String> {
        let no_url = || "variable `s3_origin` must be a URL, as in `http://127.0.0.1:9000`";
        let origin = origin.parse().map_err(|_| no_url())?;
        let bucket = rusty_s3::Bucket::new(origin, UrlStyle::Path, name, region)
            .map_err(|_| no_url().to_owned())?;
        Ok(Self {
            bucket,
            credentials,
        })
    }

    pub(crate) fn get(&self, key: &str) -> Call {
        let action = self.bucket.get_object(Some(&self.credentials), key);
        Call::new("GET", action.sign(OWN_USE))
    }

    pub(crate) fn put(&self, key: &str, content_type: &str, content: Vec<u8>) -> Call {
        let action = self.bucket.put_object(Some(&self.credentials), key);
        let mut call = Call::new("PUT", action.sign(OWN_USE)).with("content-type", content_type);
        call.body = content;
        call
    }

    pub(crate) fn delete(&self, key: &str) -> Call {
        let action = self.bucket.delete_object(Some(&self.credentials), key);
        Call::new("DELETE", action.sign(OWN_USE))
    }

    pub(crate) fn ping(&self) -> Call {
        let action = HeadBucket::new(&self.bucket, Some(&self.credentials));
        Call::new("HEAD", action.sign(OWN_USE))
    }

    /// Where a client gets the object by itself.
    pub(crate) fn public_url(&self, key: &str) -> String {
        let action = self.bucket.get_object(Some(&self.credentials), key);
        action.sign(REDIRECT).into()
    }
}

/// The object, or nothing when there is none.
pub(crate) fn found(answer: Answer) -> Result<Option<Vec<u8>>, String> {
    match answer.status {
        404 if !names_no_bucket(&answer.body) => Ok(None),
        _ => done(&answer).map(|()| Some(answer.body)),
    }
}

/// Whether an object is gone: also one that was not there.
pub(crate) fn deleted(answer: Answer) -> Result<(), String> {
    found(answer).map(drop)
}

pub(crate) fn done(answer: &Answer) -> Result<(), String> {
    if answer.is_success() {
        return Ok(());
    }
    Err(format!("the bucket answered {}", answer.status))
}

/// The other meaning of 404.
fn names_no_bucket(body: &[u8]) -> bool {
    let code = b"<Code>NoSuchBucket</Code>";
    body.windows(code.len()).any(|part| part == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(origin: &str) -> Result<Bucket, String> {
        let credentials = Credentials::new("key-id", "hidden");
        Bucket::new(
            origin,
            "pictures".to_owned(),
            "us-east-1".to_owned(),
            credentials,
        )
    }

    #[test]
    fn requests_are_signed_and_path_style() {
        let bucket = bucket("http://127.0.0.1:9000").unwrap();
        let put = bucket.put("a.thumbnail", "image/png", vec![1]);
        for (call, method, path) in [
            (bucket.get("a"), "GET", "/pictures/a?"),
            (bucket.delete("a"), "DELETE", "/pictures/a?"),
            (bucket.ping(), "HEAD", "/pictures/?"),
            (put, "PUT", "/pictures/a.thumbnail?"),
        ] {
            assert_eq!(call.method, method);
            let expected = format!("http://127.0.0.1:9000{path}");
            assert!(call.url.starts_with(&expected), "{}", call.url);
            assert!(call.url.contains("X-Amz-Signature="), "{}", call.url);
            assert!(call.url.contains("X-Amz-Expires=60&"), "{}", call.url);
            assert!(!call.url.contains("hidden"), "{}", call.url);
        }
        let url = bucket.public_url("a");
        assert!(url.contains("X-Amz-Expires=300&"), "{url}");
    }

    #[test]
    fn a_bad_origin_is_named_without_its_value() {
        for origin in ["", "nonsense", "ftp://host", "data:x"] {
            let error = bucket(origin).map(drop).unwrap_err();
            assert!(error.starts_with("variable `s3_origin` must be a URL"));
        }
    }

    #[test]
    fn answers_tell_missing_from_failed() {
        let answer = |status, body: &str| Answer {
            status,
            body: body.into(),
        };
        assert_eq!(found(answer(200, "x")), Ok(Some(b"x".to_vec())));
        let no_key = "<Error><Code>NoSuchKey</Code></Error>";
        assert_eq!(found(answer(404, no_key)), Ok(None));
        let no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";
        assert!(found(answer(404, no_bucket)).is_err());
        assert!(found(answer(403, "")).is_err());
        assert_eq!(deleted(answer(204, "")), Ok(()));
        assert_eq!(deleted(answer(404, no_key)), Ok(()));
        assert!(deleted(answer(503, "")).is_err());
    }
}
