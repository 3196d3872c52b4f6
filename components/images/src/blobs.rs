//! Where contents are: the host's key-value store, or a bucket when the variable
//! `images_bucket` is set.

use outbound::{Answer, Call};
use rusty_s3::Credentials;
use spin_sdk::key_value::{Error as StoreError, Store};

use crate::answer::Part;
use crate::s3::{self, Bucket};

/// The label that the manifest grants.
const LABEL: &str = "images";

/// The largest value of a variable that may stand for `images_max_bytes`.
pub(crate) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The store of contents, open.
pub(crate) enum Blobs {
    KeyValue(Store),
    Bucket(Box<Bucket>),
}

/// Why it cannot be opened.
pub(crate) enum NotOpen {
    /// A variable is at fault; the text is for callers.
    Variable(String),
    /// The store is; the text is for the log.
    Store(String),
}

impl Blobs {
    pub(crate) fn open() -> Result<Self, NotOpen> {
        match bucket().map_err(NotOpen::Variable)? {
            Some(bucket) => Ok(Self::Bucket(Box::new(bucket))),
            None => Store::open(LABEL)
                .map(Self::KeyValue)
                .map_err(|error| NotOpen::Store(explain(error))),
        }
    }

    /// The content, if there is one.
    pub(crate) async fn get(&self, id: &str, part: Part) -> Result<Option<Vec<u8>>, String> {
        let key = part.key(id);
        match self {
            Self::KeyValue(store) => store.get(&key).map_err(explain),
            Self::Bucket(bucket) => s3::found(exchange(bucket.get(&key)).await?),
        }
    }

    pub(crate) async fn put(
        &self,
        id: &str,
        part: Part,
        content_type: &str,
        content: Vec<u8>,
    ) -> Result<(), String> {
        let key = part.key(id);
        match self {
            Self::KeyValue(store) => store.set(&key, &content).map_err(explain),
            Self::Bucket(bucket) => {
                s3::done(&exchange(bucket.put(&key, content_type, content)).await?)
            }
        }
    }

    /// Also succeeds when there is none.
    pub(crate) async fn delete(&self, id: &str, part: Part) -> Result<(), String> {
        let key = part.key(id);
        match self {
            Self::KeyValue(store) => store.delete(&key).map_err(explain),
            Self::Bucket(bucket) => s3::deleted(exchange(bucket.delete(&key)).await?),
        }
    }

    /// Whether the store answers.
    pub(crate) async fn ping(&self) -> Result<(), String> {
        match self {
            Self::KeyValue(store) => store.exists("readyz").map(drop).map_err(explain),
            Self::Bucket(bucket) => s3::done(&exchange(bucket.ping()).await?),
        }
    }

    /// Where a client gets the image by itself; nothing without a bucket.
    pub(crate) fn public_url(&self, id: &str) -> Option<String> {
        match self {
            Self::KeyValue(_) => None,
            Self::Bucket(bucket) => Some(bucket.public_url(&Part::Image.key(id))),
        }
    }
}

fn bucket() -> Result<Option<Bucket>, String> {
    let text = |name| settings::text(name).map_err(|error| error.to_string());
    let name = text("images_bucket")?;
    if name.is_empty() {
        return Ok(None);
    }
    let credentials = Credentials::new(text("s3_access_key_id")?, text("s3_secret_access_key")?);
    Bucket::new(&text("s3_origin")?, name, text("s3_region")?, credentials).map(Some)
}

async fn exchange(call: Call) -> Result<Answer, String> {
    call.send("the bucket", MAX_BYTES as usize).await
}

fn explain(error: StoreError) -> String {
    match error {
        StoreError::NoSuchStore => format!("no such store: `{LABEL}`"),
        StoreError::AccessDenied => format!("access denied: `{LABEL}` is not granted"),
        StoreError::StoreTableFull => "too many stores are open".to_owned(),
        StoreError::Other(reason) => reason,
    }
}
