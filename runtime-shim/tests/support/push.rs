//! What `spin registry push` writes into a registry, written anew from what Spin's
//! `crates/oci/src/client.rs` (`push_locked_core`, `assemble_layers_composed`,
//! `assemble_content_layers`, `content_ref_for_layer`, `all_annotations`) and
//! `crates/oci/src/utils.rs` (`archive`) do, in 3.6 and 4. Sends it as any client would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::agent;
use super::servers::Registry;

const APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
pub const WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
const DATA: &str = "application/vnd.wasm.content.layer.v1+data";
const ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Content up to this size stands in the locked application itself.
const INLINE: usize = 128;

/// How files are pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A layer for each.
    Simple,
    /// A layer for each folder, as with `SPIN_OCI_ARCHIVE_LAYERS` or more than 500 layers.
    Archive,
    /// A layer for each, and the locked application as the image's configuration: old
    /// versions of Spin.
    Older,
}

/// `sha256:` and hex digits.
pub fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes);
    let hex = hex.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", hex.collect::<String>())
}

/// A blob, and what it is.
#[derive(Clone)]
pub struct Layer {
    pub kind: &'static str,
    pub data: Vec<u8>,
}

impl Layer {
    pub fn new(kind: &'static str, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self { kind, data }
    }

    pub fn digest(&self) -> String {
        digest(&self.data)
    }

    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.kind,
            "digest": self.digest(),
            "size": self.data.len(),
        })
    }

    fn content(&self) -> Value {
        let mut content = json!({"digest": self.digest()});
        if self.data.len() <= INLINE {
            content["inline"] = BASE64_STANDARD.encode(&self.data).into();
        }
        content
    }
}

/// Pushes `locked`, whose sources are files, as Spin's loader leaves it. Returns the
/// manifest's digest.
pub fn push(registry: &Registry, name: &str, tag: &str, mut locked: Value, mode: Mode) -> String {
    let layers = assemble(&mut locked, mode);
    let application = Layer::new(APPLICATION, serde_json::to_vec(&locked).unwrap());
    push_layers(registry, name, tag, &locked, layers, application, mode)
}

fn push_layers(
    registry: &Registry,
    name: &str,
    tag: &str,
    locked: &Value,
    mut layers: Vec<Layer>,
    application: Layer,
    mode: Mode,
) -> String {
    let config = if mode == Mode::Older {
        application
    } else {
        let labels = json!({"com.fermyon.spin.lockedAppDigest": application.digest()});
        let config = json!({
            "architecture": "wasm",
            "os": "Wasip1",
            "config": {"Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        layers.push(application);
        Layer::new(CONFIG, config.to_string())
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
        "annotations": {
            "org.opencontainers.image.title": locked["metadata"]["name"],
            "org.opencontainers.image.created": "2026-11-21T12:00:00+00:00",
        },
    });
    for layer in layers.iter().chain([&config]) {
        push_blob(registry, name, layer);
    }
    push_manifest(registry, name, tag, &manifest)
}

/// Puts digests in place of files, and returns what they stand for.
pub fn assemble(locked: &mut Value, mode: Mode) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for component in locked["components"].as_array_mut().unwrap() {
        let path = path_of(&component["source"]["source"]);
        let layer = Layer::new(WASM, std::fs::read(path).unwrap());
        let mut source = layer.content();
        source["content_type"] = "application/wasm".into();
        component["source"] = source;
        layers.push(layer);

        let Some(mounts) = component.get("files").and_then(Value::as_array).cloned() else {
            continue;
        };
        let mut files = Vec::new();
        for mount in mounts {
            let root = path_of(&mount["source"]);
            for (path, file) in files_below(&root, &root) {
                let layer = Layer::new(DATA, std::fs::read(file).unwrap());
                let mut content = layer.content();
                content["path"] = path.into();
                files.push(content);
                if mode != Mode::Archive && layer.data.len() > INLINE {
                    layers.push(layer);
                }
            }
            if mode == Mode::Archive {
                layers.push(Layer::new(ARCHIVE, archive(&root)));
            }
        }
        component["files"] = files.into();
    }
    locked["metadata"].as_object_mut().unwrap().remove("origin");
    let mut seen = std::collections::BTreeSet::new();
    layers.retain(|layer| seen.insert(layer.digest()));
    layers
}

fn path_of(url: &Value) -> PathBuf {
    let url = url::Url::parse(url.as_str().unwrap()).unwrap();
    url.to_file_path().unwrap()
}

fn files_below(root: &Path, folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(root, &path));
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.insert(name.to_owned(), path.clone());
        }
    }
    found
}

fn archive(folder: &Path) -> Vec<u8> {
    let gz = GzEncoder::new(Vec::new(), Compression::fast());
    let mut tar = tar::Builder::new(gz);
    tar.append_dir_all(".", folder).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

/// What a registry is sent, with who sends it.
fn authorization(registry: &Registry) -> String {
    if !registry.is_private() {
        return String::new();
    }
    let pair = format!("{}:{}", Registry::USER, Registry::PASSWORD);
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// Sends a blob.
pub fn push_blob(registry: &Registry, name: &str, layer: &Layer) {
    let url = format!("http://{}/v2/{name}/blobs/uploads/", registry.host());
    let who = authorization(registry);
    let begun = agent().post(&url).header("authorization", &who);
    let begun = begun.send_empty().unwrap();
    assert_eq!(begun.status(), 202);
    let upload = begun.headers()["location"].to_str().unwrap().to_owned();
    let joint = if upload.contains('?') { '&' } else { '?' };
    let url = format!("{upload}{joint}digest={}", layer.digest());
    let sent = agent().put(&url).header("authorization", &who);
    let sent = sent
        .header("content-type", "application/octet-stream")
        .send(&layer.data[..])
        .unwrap();
    assert_eq!(sent.status(), 201);
}

/// Sends a manifest and returns its digest.
pub fn push_manifest(registry: &Registry, name: &str, tag: &str, manifest: &Value) -> String {
    let url = format!("http://{}/v2/{name}/manifests/{tag}", registry.host());
    let text = manifest.to_string();
    let kind = manifest["mediaType"].as_str().unwrap();
    let sent = agent()
        .put(&url)
        .header("authorization", authorization(registry))
        .header("content-type", kind)
        .send(&text)
        .unwrap();
    assert_eq!(sent.status(), 201);
    digest(text.as_bytes())
}
