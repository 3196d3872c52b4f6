//! Writes a folder whole or not at all: aside first, then renamed into place.
//! What the files are it does not know.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the folder was not written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It has something in it.
    #[error("`{}` is not empty: choose another folder with `--into`", .0.display())]
    NotEmpty(PathBuf),
    /// It is something else.
    #[error("`{}` is there and is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The system refuses.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl FolderError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}

/// Makes the folder `target` with `files` in it. It may be there if it is empty.
pub(super) fn create(target: &Path, files: &[(&str, String)]) -> Result<(), FolderError> {
    if is_empty_folder(target)? {
        let staging = Staging::open(target)?;
        write(&staging.0, files)?;
        move_into(&staging.0, target)
    } else {
        let (present, missing) = split(target).map_err(FolderError::at(target))?;
        let staging = Staging::open(&present)?;
        // The first folder that is missing comes into being with all below it.
        let first = missing.iter().next().unwrap_or_default();
        write(&staging.0.join(&missing), files)?;
        let made = present.join(first);
        fs::rename(staging.0.join(first), &made).map_err(FolderError::at(&made))
    }
}

/// Whether it is there; an error, if it is and cannot be used.
fn is_empty_folder(target: &Path) -> Result<bool, FolderError> {
    match fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => Err(FolderError::NotEmpty(target.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(FolderError::NotAFolder(target.to_owned()))
        }
        Err(error) => Err(FolderError::at(target)(error)),
    }
}

/// The part of the path that is there, and the rest.
fn split(target: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let target = std::path::absolute(target)?;
    let present = target
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    let missing = target.strip_prefix(present).unwrap_or(&target);
    Ok((present.to_owned(), missing.to_owned()))
}

fn write(folder: &Path, files: &[(&str, String)]) -> Result<(), FolderError> {
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(FolderError::at(parent))?;
        fs::write(&path, text).map_err(FolderError::at(&path))?;
    }
    Ok(())
}

/// Moves all that is in `from` into `to`, or nothing of it.
fn move_into(from: &Path, to: &Path) -> Result<(), FolderError> {
    let entries = fs::read_dir(from).map_err(FolderError::at(from))?;
    let mut moved = Vec::new();
    for entry in entries {
        let renamed = entry.and_then(|entry| {
            let path = to.join(entry.file_name());
            fs::rename(entry.path(), &path).map(|()| path)
        });
        match renamed {
            Ok(path) => moved.push(path),
            Err(error) => {
                for path in &moved {
                    remove(path);
                }
                return Err(FolderError::at(to)(error));
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = removed {
        tracing::warn!("cannot remove `{}`: {error}", path.display());
    }
}

/// A folder that is gone afterwards, however that comes about.
struct Staging(PathBuf);

impl Staging {
    fn open(beside: &Path) -> Result<Self, FolderError> {
        let path = beside.join(format!(".gristmill-new-{}", std::process::id()));
        fs::create_dir(&path).map_err(FolderError::at(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .collect();
        names.sort();
        names
    }

    fn files() -> Vec<(&'static str, String)> {
        vec![("a.txt", "a".to_owned()), ("src/b.txt", "b".to_owned())]
    }

    #[test]
    fn a_folder_is_made_with_those_above_it() {
        let dir = tempfile::tempdir().expect("folder");
        for target in ["new", "x/y/z"] {
            let target = dir.path().join(target);
            create(&target, &files()).expect("written");
            assert_eq!(names(&target), ["a.txt", "src"]);
            assert_eq!(
                fs::read_to_string(target.join("src/b.txt")).expect("b"),
                "b"
            );
        }
        assert_eq!(names(dir.path()), ["new", "x"]);
    }

    #[test]
    fn an_empty_folder_is_filled() {
        let dir = tempfile::tempdir().expect("folder");
        create(dir.path(), &files()).expect("written");
        assert_eq!(names(dir.path()), ["a.txt", "src"]);
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().expect("folder");
        fs::write(dir.path().join("mine"), "mine").expect("file");
        let refused = create(dir.path(), &files()).expect_err("not empty");
        assert!(matches!(refused, FolderError::NotEmpty(_)), "{refused}");
        let refused = create(&dir.path().join("mine"), &files()).expect_err("a file");
        assert!(matches!(refused, FolderError::NotAFolder(_)), "{refused}");
        let refused = create(&dir.path().join("mine/below"), &files());
        assert!(refused.is_err());
        assert_eq!(names(dir.path()), ["mine"]);
    }

    #[test]
    fn nothing_remains_after_a_failure() {
        let dir = tempfile::tempdir().expect("folder");
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).expect("folder");
        // A file cannot be a folder, too.
        let files = [files(), vec![("a.txt/c.txt", "c".to_owned())]].concat();
        for target in ["empty", "new", "x/y"] {
            create(&dir.path().join(target), &files).expect_err("impossible");
            assert_eq!(names(dir.path()), ["empty"]);
            assert!(names(&empty).is_empty());
        }
    }
}
