//! Folders that appear whole or not at all: what takes long is made beside its
//! place and moved there by one rename. Does not know what is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder in the making; gone when it was not published.
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
}

impl Staging {
    /// An empty folder. It has to be on the file system of its later place.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        remove_dir_if_present(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Puts the complete folder in its place, over what was there.
    pub(crate) fn publish(&self, place: &Path) -> Result<()> {
        remove_dir_if_present(place)?;
        fs::rename(&self.path, place).with_context(|| {
            let (from, to) = (self.path.display(), place.display());
            format!("cannot move {from} to {to}")
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = remove_dir_if_present(&self.path);
    }
}

/// Removes a folder with all that is in it.
pub(crate) fn remove_dir_if_present(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_folder_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging::create(directory.path().join(".partial")).unwrap();
        fs::write(staging.path.join("half"), "").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("stale"), "").unwrap();
        let staging = Staging::create(directory.path().join(".partial")).unwrap();
        fs::write(staging.path.join("whole"), "").unwrap();
        staging.publish(&place).unwrap();
        assert!(place.join("whole").is_file());
        assert!(!place.join("stale").exists());
    }
}
