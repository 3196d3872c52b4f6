//! Applications that come from a registry, and components that come from a URL:
//! what is fetched, verified and kept, so that nothing is fetched twice.
//!
//! This is not made of a crate for registries. The one that Spin uses brings a
//! second HTTP client, which trusts other authorities than [`crate::tls`], follows
//! the environment's proxies by itself and reads manifests and tokens without a
//! bound; and we never write to a registry.

mod archive;
mod cache;
mod client;
mod content;
mod credentials;
mod digest;
mod error;
mod files;
mod image;
mod reference;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use futures::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use url::Url;

use crate::manifest::{Component, DependencySource, Manifest, Source, UrlSource};
use crate::names::ComponentId;
use crate::printer;
use crate::settings::Environment;

use cache::Cache;
use client::{Asking, Repository};
use content::{Needs, Wishes, missing};
use credentials::Credentials;
pub use digest::{Digest, InvalidDigest};
pub use error::DownloadError;
pub use image::Image;
use image::{Descriptor, Layout};
use reference::Version;
pub use reference::{InvalidReference, Reference, SCHEME};
use transport::{Limit, Named, Transport, host_of, save, shown};

/// The environment's name for `--cache-dir`.
pub const CACHE_SETTING: &str = "GRISTMILL_CACHE_DIR";
/// Bytes of one application, archives unpacked, or of one download by URL.
const MAX_BYTES: u64 = 2 << 30;
/// Downloads at once.
const AT_ONCE: usize = 4;

/// Brings things here, and keeps them.
pub struct Downloads {
    cache: Option<Cache>,
    credentials: Credentials,
    /// Made when something is fetched: it reads the system's certificates.
    transport: OnceLock<Transport>,
}

impl Downloads {
    /// With the cache in `folder`, or where the environment says.
    pub fn new(folder: Option<PathBuf>, environment: &Environment) -> Self {
        let set = |name: &str| {
            let value = environment.get(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let folder = folder
            .or_else(|| set(CACHE_SETTING))
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("gristmill")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/gristmill")));
        Self {
            cache: folder.map(Cache::new),
            credentials: Credentials::new(environment),
            transport: OnceLock::new(),
        }
    }

    fn cache(&self) -> Result<&Cache, DownloadError> {
        self.cache.as_ref().ok_or(DownloadError::NoCache)
    }

    fn asking(&self) -> Asking<'_> {
        Asking {
            transport: self.transport.get_or_init(Transport::new),
            credentials: &self.credentials,
        }
    }

    /// The application of `reference`, without the content of its components. A
    /// digest is taken from the cache; what a tag leads to is always asked.
    pub async fn pull(
        &self,
        reference: &Reference,
        insecure: bool,
    ) -> Result<Image, DownloadError> {
        let cache = self.cache()?;
        let cached = match reference.version() {
            Version::Digest(digest) => cache.read(digest).await,
            Version::Tag(_) => None,
        };
        let repository = Repository::new(reference.clone(), insecure);
        let manifest = match cached {
            Some(bytes) => bytes,
            None => self.ask_manifest(&repository).await?,
        };
        let layout = Layout::parse(&manifest, reference)?;
        let application = &layout.application;
        let digest = application.digest.clone();
        if cache.find(&digest).await.is_none() {
            self.fetch_layers(&repository, vec![application.clone()])
                .await?;
        }
        let bytes = cache.read(&digest).await;
        let bytes = bytes.ok_or_else(|| DownloadError::NotAnApp {
            reference: reference.to_string(),
            reason: format!("its description `{digest}` cannot be kept in the cache"),
        })?;
        layout.check(&bytes, reference)?;
        Ok(Image {
            repository,
            layers: layout.layers,
            archives: layout.archives,
            application: bytes,
        })
    }

    /// Asks the registry, and remembers what it says.
    async fn ask_manifest(&self, repository: &Repository) -> Result<Vec<u8>, DownloadError> {
        let cache = self.cache()?;
        let reference = repository.reference();
        let asked = repository.manifest(self.asking()).await;
        let is_tag = matches!(reference.version(), Version::Tag(_));
        let (bytes, digest) = match asked {
            Err(source @ DownloadError::Unreachable { .. }) if is_tag => {
                let before = cache.tag(&reference.to_string());
                return Err(DownloadError::Tag {
                    reference: reference.to_string(),
                    source: Box::new(source),
                    hint: before.map_or_else(String::new, |digest| {
                        let pinned = reference.at(&digest);
                        format!("; last time it led to `{pinned}`, which needs no look-up")
                    }),
                });
            }
            asked => asked?,
        };
        cache.put(&bytes)?;
        if is_tag {
            cache.set_tag(&reference.to_string(), &digest)?;
            tracing::info!("`{reference}` is `{}`", reference.at(&digest));
        }
        Ok(bytes.into())
    }

    /// Brings here what the components `reached` need, and points `manifest` at it.
    pub async fn provide(
        &self,
        manifest: &mut Manifest,
        reached: &BTreeSet<ComponentId>,
        image: Option<&Image>,
    ) -> Result<(), DownloadError> {
        let mut needs = Vec::new();
        for (id, component) in &mut manifest.components {
            if !reached.contains(id) {
                continue;
            }
            if let Source::Url(source) = &component.source {
                component.source = Source::File(self.source(id, source).await?);
            }
            for dependency in component.dependencies.values_mut() {
                if let DependencySource::Wasm(Source::Url(source)) = &dependency.source {
                    let file = self.source(id, source).await?;
                    dependency.source = DependencySource::Wasm(Source::File(file));
                }
            }
            if image.is_some() {
                needs.push((id.clone(), Needs::of(id, component)?));
            }
        }
        let Some(image) = image else { return Ok(()) };
        let mut wishes = Wishes::default();
        for (_, needs) in &needs {
            needs.add_to(&mut wishes);
        }
        let found = self.fetch(image, &wishes).await?;
        let cache = self.cache()?;
        for (id, needs) in needs {
            let Some(component) = manifest.components.get_mut(&id) else {
                continue;
            };
            needs.fill(component, &found, cache)?;
        }
        Ok(())
    }

    /// The wasm of `source = { url = "…", digest = "…" }`.
    async fn source(&self, id: &ComponentId, source: &UrlSource) -> Result<PathBuf, DownloadError> {
        let fail = |reason: String| DownloadError::Content {
            component: id.clone(),
            reason,
        };
        let digest: Digest = source
            .digest
            .parse()
            .map_err(|error: InvalidDigest| fail(format!("its source: {error}")))?;
        let url = Url::parse(&source.url).ok();
        let url = url.filter(|url| ["http", "https"].contains(&url.scheme()));
        let url = url.ok_or_else(|| {
            let url = &source.url;
            fail(format!("its source `{url}` is not an HTTP or HTTPS URL"))
        })?;
        self.fetch_url(&url, &digest).await
    }

    /// What is at `url`, if it has this digest: a file of the cache.
    pub async fn fetch_url(&self, url: &Url, digest: &Digest) -> Result<PathBuf, DownloadError> {
        let cache = self.cache()?;
        if let Some(path) = cache.find(digest).await {
            return Ok(path);
        }
        let (host, what) = (host_of(url), format!("`{}`", shown(url)));
        let named = Named {
            host: &host,
            what: &what,
        };
        let (response, _) = self.asking().transport.get(url, None, None).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let hint = "check the URL";
                return Err(DownloadError::NotFound { host, what, hint });
            }
            status => return Err(DownloadError::Status { host, what, status }),
        }
        tracing::info!("downloading {what}");
        let bar = printer::Bar::new(response_size(&response));
        let mut partial = cache.begin()?;
        let limit = Limit::AtMost(MAX_BYTES);
        save(response, &mut partial, limit, named, |bytes| bar.add(bytes)).await?;
        keep(cache, &partial, digest, named)
    }

    /// Files of the cache with all that is wished.
    async fn fetch(
        &self,
        image: &Image,
        wishes: &Wishes,
    ) -> Result<BTreeMap<Digest, PathBuf>, DownloadError> {
        let cache = self.cache()?;
        let mut found = BTreeMap::new();
        for digest in wishes.all() {
            if let Some(path) = cache.find(digest).await {
                found.insert(digest.clone(), path);
            }
        }
        let mut layers = Vec::new();
        let mut packed = BTreeMap::new();
        for (digest, component) in wishes.wasm.iter().chain(&wishes.files) {
            if found.contains_key(digest) {
                continue;
            }
            match image.layers.get(digest) {
                Some(layer) => layers.push(layer.clone()),
                None if wishes.wasm.contains_key(digest) || image.archives.is_empty() => {
                    return Err(missing(component, digest));
                }
                None => {
                    packed.insert(digest.clone(), component);
                }
            }
        }
        found.extend(self.fetch_layers(&image.repository, layers).await?);
        if packed.is_empty() {
            return Ok(found);
        }
        let mut wanted: BTreeSet<Digest> = packed.keys().cloned().collect();
        self.unpack(image, &mut wanted).await?;
        for (digest, component) in packed {
            let path = cache.find(&digest).await;
            let path = path.ok_or_else(|| missing(component, &digest))?;
            found.insert(digest, path);
        }
        Ok(found)
    }

    /// Takes what is wanted out of the archives of the image.
    async fn unpack(
        &self,
        image: &Image,
        wanted: &mut BTreeSet<Digest>,
    ) -> Result<(), DownloadError> {
        let cache = self.cache()?;
        let mut left = MAX_BYTES;
        for layer in &image.archives {
            if wanted.is_empty() {
                break;
            }
            let path = match cache.find(&layer.digest).await {
                Some(path) => path,
                None => {
                    let layers = vec![layer.clone()];
                    let fetched = self.fetch_layers(&image.repository, layers).await?;
                    fetched[&layer.digest].clone()
                }
            };
            let (digest, cache, mut still) =
                (layer.digest.clone(), cache.clone(), std::mem::take(wanted));
            let unpacking = move || {
                archive::unpack(&path, &digest, &mut still, left, &cache).map(|left| (still, left))
            };
            let unpacked = tokio::task::spawn_blocking(unpacking).await;
            (*wanted, left) = unpacked.map_err(|error| DownloadError::Archive {
                what: layer.digest.clone(),
                reason: error.to_string(),
            })??;
        }
        Ok(())
    }

    /// Fetches layers that the cache lacks, a few at once.
    async fn fetch_layers(
        &self,
        repository: &Repository,
        mut layers: Vec<Descriptor>,
    ) -> Result<BTreeMap<Digest, PathBuf>, DownloadError> {
        layers.sort_by(|one, other| one.digest.cmp(&other.digest));
        layers.dedup_by(|one, other| one.digest == other.digest);
        let size = layers
            .iter()
            .fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let reference = repository.reference();
        if size > MAX_BYTES {
            return Err(DownloadError::TooLarge {
                what: format!("what is needed of `{reference}`"),
                size,
                limit: MAX_BYTES,
            });
        }
        if layers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let bytes = printer::bytes(size);
        tracing::info!("downloading {bytes} of `{reference}`");
        let bar = printer::Bar::new(Some(size));
        let fetched = stream::iter(layers).map(|layer| {
            let bar = &bar;
            async move {
                let path = self.fetch_layer(repository, &layer, bar).await?;
                Ok((layer.digest, path))
            }
        });
        fetched.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn fetch_layer(
        &self,
        repository: &Repository,
        layer: &Descriptor,
        bar: &printer::Bar,
    ) -> Result<PathBuf, DownloadError> {
        let cache = self.cache()?;
        let response = repository.blob(self.asking(), &layer.digest).await?;
        let what = format!("layer {}", layer.digest);
        let named = Named {
            host: repository.reference().host(),
            what: &what,
        };
        let mut partial = cache.begin()?;
        let limit = Limit::Announced(layer.size);
        save(response, &mut partial, limit, named, |bytes| bar.add(bytes)).await?;
        keep(cache, &partial, &layer.digest, named)
    }
}

/// Whether a component has to be downloaded by its URL.
pub fn is_elsewhere(component: &Component) -> bool {
    let mut dependencies = component.dependencies.values();
    matches!(component.source, Source::Url(_))
        || dependencies.any(|each| matches!(each.source, DependencySource::Wasm(Source::Url(_))))
}

fn keep(
    cache: &Cache,
    partial: &cache::Partial,
    expected: &Digest,
    named: Named<'_>,
) -> Result<PathBuf, DownloadError> {
    cache
        .keep(partial, expected)?
        .map_err(|found| DownloadError::Mismatch {
            host: named.host.to_owned(),
            what: named.what.to_owned(),
            expected: expected.clone(),
            found,
        })
}

fn response_size<B>(response: &http::Response<B>) -> Option<u64> {
    let length = response.headers().get(http::header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}
