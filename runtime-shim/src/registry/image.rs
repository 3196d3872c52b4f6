//! What `spin registry push` writes: which layer is the locked application, and
//! which digest is which layer. Reads it as Spin does, older forms included.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::client::Repository;
use super::digest::Digest;
use super::error::DownloadError;
use super::reference::Reference;

/// The locked application. Older versions of Spin made it the image's
/// configuration, newer ones a layer.
const APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
/// Many files in one.
const ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
/// A component; the second one is what `wkg` writes.
const WASM: [&str; 2] = [
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/wasm",
];
/// Bytes of a locked application.
const MAX_APPLICATION: u64 = 16 << 20;

/// Content, by its digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A manifest, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// What an index has and a manifest has not.
#[derive(Deserialize)]
struct Index {
    #[serde(rename = "manifests")]
    _manifests: Vec<serde::de::IgnoredAny>,
}

/// An application in a registry.
pub struct Image {
    pub(super) repository: Repository,
    pub(super) layers: BTreeMap<Digest, Descriptor>,
    pub(super) archives: Vec<Descriptor>,
    /// The locked application.
    pub(super) application: Vec<u8>,
}

/// What a manifest says.
pub(super) struct Layout {
    pub(super) layers: BTreeMap<Digest, Descriptor>,
    pub(super) archives: Vec<Descriptor>,
    /// Where the locked application is.
    pub(super) application: Descriptor,
}

impl Image {
    /// The locked application: JSON.
    pub fn application(&self) -> &[u8] {
        &self.application
    }

    /// Where it comes from.
    pub fn reference(&self) -> &Reference {
        self.repository.reference()
    }
}

impl Layout {
    /// Of a manifest's bytes.
    pub(super) fn parse(bytes: &[u8], reference: &Reference) -> Result<Self, DownloadError> {
        let other = |reason: String| not_an_app(reference, reason);
        if serde_json::from_slice::<Index>(bytes).is_ok() {
            return Err(other(
                "it is an index of images for several platforms, which Spin never writes"
                    .to_owned(),
            ));
        }
        let manifest: ImageManifest =
            serde_json::from_slice(bytes).map_err(|error| other(error.to_string()))?;
        let mut layers = manifest.layers.iter();
        let layer = layers.find(|layer| layer.media_type == APPLICATION);
        let application = layer.unwrap_or(&manifest.config).clone();
        if application.size > MAX_APPLICATION {
            return Err(DownloadError::TooLarge {
                what: format!("the description of the application in `{reference}`"),
                size: application.size,
                limit: MAX_APPLICATION,
            });
        }
        let archives = manifest.layers.iter();
        let archives = archives.filter(|layer| layer.media_type == ARCHIVE);
        Ok(Self {
            archives: archives.cloned().collect(),
            application,
            layers: manifest
                .layers
                .into_iter()
                .map(|layer| (layer.digest.clone(), layer))
                .collect(),
        })
    }

    /// Refuses what is no locked application, and says what was found instead.
    pub(super) fn check(&self, json: &[u8], reference: &Reference) -> Result<(), DownloadError> {
        #[derive(Deserialize)]
        struct Locked {
            #[serde(rename = "spin_lock_version")]
            _version: u64,
        }
        if serde_json::from_slice::<Locked>(json).is_ok() {
            return Ok(());
        }
        let kinds = self.layers.values().map(|layer| layer.media_type.as_str());
        let mut kinds: Vec<_> = kinds.collect();
        kinds.sort_unstable();
        kinds.dedup();
        let reason = if let [one] = kinds[..]
            && WASM.contains(&one)
            && self.layers.len() == 1
        {
            "it is one component without an application around it; write a `spin.toml` for it"
                .into()
        } else {
            format!(
                "no layer has the media type `{APPLICATION}`, and its configuration (`{}`) does \
                 not describe one either; its layers are {}",
                self.application.media_type,
                match &kinds[..] {
                    [] => "none".to_owned(),
                    kinds => format!("`{}`", kinds.join("`, `")),
                }
            )
        };
        Err(not_an_app(reference, reason))
    }
}

fn not_an_app(reference: &Reference, reason: String) -> DownloadError {
    DownloadError::NotAnApp {
        reference: reference.to_string(),
        reason,
    }
}
