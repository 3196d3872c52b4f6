//! The files of components: what `files` and `exclude_files` grant, and the
//! folders that components see for it. Knows nothing of sandboxes.

mod mount;
mod select;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;

use crate::manifest::{FileContent, FileMount};
use crate::names::ComponentId;

pub use mount::{Mount, MountedFiles, Mounts};

/// What a component is granted, as far as it can be checked without looking.
#[derive(Clone, Debug, Default)]
pub struct FileGrants {
    /// Relative to it.
    base_dir: PathBuf,
    entries: Vec<Entry>,
    exclude: Vec<Pattern>,
}

/// Paths are relative, and have nothing but names in them.
#[derive(Clone, Debug)]
enum Entry {
    /// Files under their own paths.
    Pattern(String),
    /// A file or folder under another path.
    Placement {
        source: String,
        destination: PathBuf,
        /// The destination cannot be a file's.
        is_folder: bool,
    },
    /// A file or folder of a locked application.
    At {
        source: PathBuf,
        path: String,
        /// Whether others read it, too, so that it must stay as it is.
        shared: bool,
    },
    /// A file of a locked application.
    Inline { bytes: Arc<[u8]>, path: PathBuf },
}

/// Why files cannot be granted, whatever is on the disk.
#[derive(Debug, thiserror::Error)]
pub enum FileGrantError {
    /// An absolute path, or one with `..` in it.
    #[error("`files` has `{0}`, which leads out of the application's folder")]
    Outside(String),
    /// A path that is none.
    #[error("`files` has `{0}`: name a folder by `{{ source = \"{0}\", destination = \"/\" }}`")]
    WholeFolder(String),
    /// A destination with `..` in it, or without a file's name.
    #[error("`files` has the destination `{0}`, which is no path of a file or folder")]
    Destination(String),
    /// Not a pattern.
    #[error("`{pattern}` is not a pattern of files: {reason}")]
    Pattern {
        /// What stands there.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// Something that Spin has not fetched.
    #[error("its file `{path}` is not on this machine, only known as `{content}`")]
    Elsewhere {
        /// Where it would be seen.
        path: String,
        /// A digest or a URL.
        content: String,
    },
}

impl FileGrants {
    /// Checks `files` and `exclude_files` of a component; they are relative to
    /// `base_dir`.
    pub fn resolve(
        files: &[FileMount],
        exclude_files: &[String],
        base_dir: &Path,
    ) -> Result<Self, FileGrantError> {
        let exclude = exclude_files.iter().map(|text| {
            let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
            pattern(&names.collect::<Vec<_>>().join("/"))
        });
        Ok(Self {
            base_dir: base_dir.to_owned(),
            entries: files.iter().map(entry).collect::<Result<_, _>>()?,
            exclude: exclude.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the component sees no files at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn entry(mount: &FileMount) -> Result<Entry, FileGrantError> {
    match mount {
        FileMount::Pattern(text) => {
            let inside = inside(text)?;
            if inside.is_empty() {
                return Err(FileGrantError::WholeFolder(text.clone()));
            }
            pattern(&inside)?;
            Ok(Entry::Pattern(inside))
        }
        FileMount::Placement(placement) => {
            let text = &placement.destination;
            Ok(Entry::Placement {
                source: inside(&placement.source)?,
                destination: destination(text)?,
                is_folder: text.ends_with('/') || text.ends_with('.'),
            })
        }
        FileMount::Given { content, path } => match content {
            FileContent::At(source) | FileContent::Cached(source) => Ok(Entry::At {
                source: source.clone(),
                path: path.clone(),
                shared: matches!(content, FileContent::Cached(_)),
            }),
            FileContent::Inline(bytes) => Ok(Entry::Inline {
                bytes: Arc::clone(bytes),
                path: destination(path)?,
            }),
            FileContent::Elsewhere(content) => Err(FileGrantError::Elsewhere {
                path: path.clone(),
                content: content.clone(),
            }),
        },
    }
}

fn pattern(text: &str) -> Result<Pattern, FileGrantError> {
    Pattern::new(text).map_err(|error| FileGrantError::Pattern {
        pattern: text.to_owned(),
        reason: error.to_string(),
    })
}

/// The names of a relative path, which must stay below where it starts.
fn inside(text: &str) -> Result<String, FileGrantError> {
    let outside = text.starts_with('/') || text.split('/').any(|name| name == "..");
    if outside || Path::new(text).is_absolute() {
        return Err(FileGrantError::Outside(text.to_owned()));
    }
    let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
    Ok(names.collect::<Vec<_>>().join("/"))
}

/// A path as components see it, without its root.
fn destination(text: &str) -> Result<PathBuf, FileGrantError> {
    let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
    let path: PathBuf = names.collect();
    if text.is_empty() || text.split('/').any(|name| name == "..") || path.is_absolute() {
        return Err(FileGrantError::Destination(text.to_owned()));
    }
    Ok(path)
}

/// Why the files of a component are not there for it.
#[derive(Debug, thiserror::Error)]
#[error("component `{component}`: {problem}")]
pub struct FilesError {
    component: ComponentId,
    problem: Problem,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("`files` has `{0}`, and there is no such file or folder")]
    Missing(String),
    #[error("`files` has the pattern `{0}`, which matches no file")]
    NoMatch(String),
    #[error("`files` has the pattern `{0}`, which matches folders alone: write `{0}/*`")]
    FoldersAlone(String),
    #[error("`files` has `{entry}`, a file: its destination must end with a file's name")]
    NoFileName { entry: String },
    #[error(
        "`{}` is, or is reached by, a symbolic link to `{}`, which `files` does not grant: grant \
         that too, or copy it", link.display(), target.display()
    )]
    Link { link: PathBuf, target: PathBuf },
    #[error("`files` has two files for `/{}`: `{}` and `{}`", path.display(), one.display(), other.display())]
    Twice {
        path: PathBuf,
        one: Origin,
        other: Origin,
    },
    #[error("`files` grants more than {0} files and folders")]
    TooMany(usize),
    #[error("`files` grants more than {} GiB", .0 >> 30)]
    TooLarge(u64),
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Problem {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    fn of(self, component: &ComponentId) -> FilesError {
        FilesError {
            component: component.clone(),
            problem: self,
        }
    }
}

/// Where the content of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Inline(Arc<[u8]>),
}

impl Origin {
    fn display(&self) -> impl fmt::Display {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inline(bytes) => format!("(inline, {} bytes)", bytes.len()),
        }
    }
}

/// Whether everything that is granted is there. Files of `state_dir` are nobody's.
pub fn check<'a>(
    granted: impl Iterator<Item = (&'a ComponentId, &'a FileGrants)>,
    state_dir: &Path,
) -> Result<(), FilesError> {
    for (component, grants) in granted {
        let selected = select::select(grants, state_dir);
        selected.map_err(|problem| problem.of(component))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FilePlacement;

    fn refused(mount: FileMount) -> String {
        let resolved = FileGrants::resolve(&[mount], &[], Path::new("/app"));
        resolved.expect_err("must be refused").to_string()
    }

    fn place(source: &str, destination: &str) -> FileMount {
        FileMount::Placement(FilePlacement {
            source: source.to_owned(),
            destination: destination.to_owned(),
        })
    }

    #[test]
    fn refuses_what_leads_out() {
        for text in ["/etc/passwd", "../x", "a/../../x", "a/.."] {
            let of_pattern = refused(FileMount::Pattern(text.to_owned()));
            let of_source = refused(place(text, "/"));
            for error in [of_pattern, of_source] {
                let expected = format!("`files` has `{text}`, which leads out");
                assert!(error.starts_with(&expected), "{error}");
            }
        }
        for destination in ["../x", "/a/../b", ""] {
            let error = refused(place("a", destination));
            assert!(error.contains("no path of a file or folder"), "{error}");
        }
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        let error = refused(FileMount::Pattern("a/**b".to_owned()));
        assert!(error.contains("`a/**b` is not a pattern"), "{error}");
        let error = refused(FileMount::Pattern(".".to_owned()));
        assert!(error.contains("source = \".\""), "{error}");
        let excluded = FileGrants::resolve(&[], &["[".to_owned()], Path::new("/app"));
        assert!(excluded.is_err());
    }
}
