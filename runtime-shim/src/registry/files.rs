//! The files that a component sees: which content is under which path. A path
//! cannot lead out of the component's folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::cache::digest_of;
use super::digest::{Digest, Hasher};

/// The files of one component.
#[derive(Default)]
pub(super) struct Files(BTreeMap<PathBuf, Content>);

/// What one of them contains.
pub(super) struct Content {
    pub(super) digest: Digest,
    /// A file of the cache.
    pub(super) blob: PathBuf,
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}

/// Whether it names something below a folder.
pub(super) fn is_below(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

impl Files {
    /// Adds a file, whose path [`is_below`].
    pub(super) fn insert(&mut self, path: PathBuf, content: Content) {
        self.0.insert(path, content);
    }

    /// Of paths and contents.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for (path, content) in &self.0 {
            hasher.update(path.as_os_str().as_encoded_bytes());
            // In no path.
            hasher.update(b"\0");
            hasher.update(content.digest.hex().as_bytes());
        }
        hasher.digest()
    }

    /// Whether they are all in `folder`, undamaged, and nothing else is.
    pub(super) fn are_in(&self, folder: &Path) -> bool {
        count(folder).is_ok_and(|count| count == self.0.len())
            && self.0.iter().all(|(path, content)| {
                let found = digest_of(&folder.join(path));
                found.is_ok_and(|found| found == content.digest)
            })
    }

    /// Copies them into a new folder.
    pub(super) fn write_to(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (path, content) in &self.0 {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(&content.blob, &path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below() {
        for inside in ["a", "a/b.css", ".well-known/x", "a/./b", "..a/b"] {
            assert!(is_below(Path::new(inside)), "{inside}");
        }
        for outside in ["", "/", "/etc/passwd", "..", "../a", "a/../../b", "./a"] {
            assert!(!is_below(Path::new(outside)), "{outside}");
        }
    }
}
