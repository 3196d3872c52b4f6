//! What components need of what was downloaded: their wasm, that of their
//! dependencies, and their files. Finds what is named by digest in a manifest, and
//! puts files of the cache in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::cache::Cache;
use super::digest::Digest;
use super::error::DownloadError;
use super::files::{Content, Files, is_below};
use crate::manifest::{
    Component, DependencyName, DependencySource, FileContent, FileMount, Source,
};
use crate::names::ComponentId;

/// Where wasm is, in the words of a locked application. A `source` means nothing
/// here: it would be a file of whoever pushed it, or one of this machine that is
/// nobody's business.
#[derive(Deserialize)]
struct Reference {
    digest: Option<Digest>,
}

/// Content that is here, or that must be fetched.
enum Wanted {
    Here(Vec<u8>),
    Layer(Digest),
}

/// What one component needs of an image.
pub(super) struct Needs {
    component: ComponentId,
    wasm: Option<Digest>,
    dependencies: BTreeMap<DependencyName, Digest>,
    files: BTreeMap<PathBuf, Wanted>,
}

/// What is needed, by digest.
#[derive(Default)]
pub(super) struct Wishes {
    /// What only a layer of its own can hold, and who needs it.
    pub(super) wasm: BTreeMap<Digest, ComponentId>,
    /// What an archive may hold.
    pub(super) files: BTreeMap<Digest, ComponentId>,
}

impl Needs {
    /// Of a component of a locked application from a registry.
    pub(super) fn of(id: &ComponentId, component: &Component) -> Result<Self, DownloadError> {
        let fail = |reason: String| content(id, reason);
        let wasm = digest_of(&component.source, || "its source".to_owned()).map_err(fail)?;
        let mut dependencies = BTreeMap::new();
        for (name, dependency) in &component.dependencies {
            let DependencySource::Wasm(source) = &dependency.source else {
                continue;
            };
            let place = || format!("its dependency `{name}`");
            if let Some(digest) = digest_of(source, place).map_err(fail)? {
                dependencies.insert(name.clone(), digest);
            }
        }
        let mut files = BTreeMap::new();
        for file in &component.files {
            let FileMount::Given {
                content: given,
                path,
            } = file
            else {
                return Err(fail("its `files` are those of a manifest".to_owned()));
            };
            let path = PathBuf::from(path);
            if !is_below(&path) {
                let path = path.display();
                return Err(fail(format!(
                    "its `files` name `{path}`, which is not a path below its folder"
                )));
            }
            let wanted = match given {
                FileContent::Inline(bytes) => Wanted::Here(bytes.to_vec()),
                FileContent::Elsewhere(digest) => {
                    let digest: Result<Digest, _> = digest.parse();
                    Wanted::Layer(digest.map_err(|error| fail(error.to_string()))?)
                }
                FileContent::At(_) | FileContent::Cached(_) => {
                    let path = path.display();
                    return Err(fail(format!("its file `{path}` has no digest")));
                }
            };
            files.insert(path.clone(), wanted);
        }
        Ok(Self {
            component: id.clone(),
            wasm,
            dependencies,
            files,
        })
    }

    /// Adds what must be fetched.
    pub(super) fn add_to(&self, wishes: &mut Wishes) {
        let layer = |wanted: &Wanted| match wanted {
            Wanted::Here(_) => None,
            Wanted::Layer(digest) => Some((digest.clone(), self.component.clone())),
        };
        let wasm = self.dependencies.values().chain(&self.wasm);
        let wasm = wasm.map(|digest| (digest.clone(), self.component.clone()));
        wishes.wasm.extend(wasm);
        wishes.files.extend(self.files.values().filter_map(layer));
    }

    /// Puts files of the cache in place of digests; `found` has all that was wished.
    pub(super) fn fill(
        self,
        component: &mut Component,
        found: &BTreeMap<Digest, PathBuf>,
        cache: &Cache,
    ) -> Result<(), DownloadError> {
        let id = &self.component;
        if let Some(digest) = &self.wasm {
            component.source = Source::File(lookup(id, found, digest)?);
        }
        for (name, digest) in &self.dependencies {
            if let Some(dependency) = component.dependencies.get_mut(name) {
                let source = Source::File(lookup(id, found, digest)?);
                dependency.source = DependencySource::Wasm(source);
            }
        }
        if self.files.is_empty() {
            return Ok(());
        }
        let mut files = Files::default();
        for (path, wanted) in self.files {
            let (digest, blob) = locate(id, wanted, found, cache)?;
            files.insert(path, Content { digest, blob });
        }
        // As Spin hands them to a trigger: one folder with everything in it.
        component.files = vec![FileMount::Given {
            content: FileContent::Cached(cache.folder(&files)?),
            path: "/".to_owned(),
        }];
        Ok(())
    }
}

impl Wishes {
    /// All digests.
    pub(super) fn all(&self) -> BTreeSet<&Digest> {
        self.wasm.keys().chain(self.files.keys()).collect()
    }
}

/// The digest of a source that is known by it alone.
fn digest_of(source: &Source, place: impl Fn() -> String) -> Result<Option<Digest>, String> {
    let Source::Remote(table) = source else {
        return Ok(None);
    };
    let reference: Result<Reference, _> = table.clone().try_into();
    let reference = reference.map_err(|error| format!("{}: {}", place(), error.message()))?;
    Ok(reference.digest)
}

fn locate(
    id: &ComponentId,
    wanted: Wanted,
    found: &BTreeMap<Digest, PathBuf>,
    cache: &Cache,
) -> Result<(Digest, PathBuf), DownloadError> {
    match wanted {
        Wanted::Here(bytes) => Ok((Digest::of(&bytes), cache.put(&bytes)?)),
        Wanted::Layer(digest) => {
            let path = lookup(id, found, &digest)?;
            Ok((digest, path))
        }
    }
}

fn lookup(
    id: &ComponentId,
    found: &BTreeMap<Digest, PathBuf>,
    digest: &Digest,
) -> Result<PathBuf, DownloadError> {
    let path = found.get(digest).cloned();
    path.ok_or_else(|| missing(id, digest))
}

/// The error for content that the image does not have.
pub(super) fn missing(id: &ComponentId, digest: &Digest) -> DownloadError {
    content(
        id,
        format!("no layer of the image holds `{digest}`, which it needs: push it again"),
    )
}

fn content(id: &ComponentId, reason: String) -> DownloadError {
    DownloadError::Content {
        component: id.clone(),
        reason,
    }
}
