//! Which files of this machine a component sees, and under which paths.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::{Entry, FileGrants, Origin, Problem};

/// Files and folders that are looked at for one component.
const MAX_FILES: usize = 100_000;
/// Bytes of the files of one component.
const MAX_BYTES: u64 = 4 << 30;

/// Files by the paths that the component sees them under, without the root.
pub(super) type Selected = BTreeMap<PathBuf, Origin>;

/// Looks for everything that `grants` names.
pub(super) fn select(grants: &FileGrants, state_dir: &Path) -> Result<Selected, Problem> {
    if grants.is_empty() {
        return Ok(Selected::new());
    }
    let base_dir = if grants.base_dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &grants.base_dir
    };
    let mut selection = Selection {
        base: fs::canonicalize(base_dir).map_err(Problem::io("find the folder", base_dir))?,
        // Before it is there, nothing is in it.
        state: fs::canonicalize(state_dir).ok(),
        exclude: &grants.exclude,
        looked_at: 0,
        bytes: 0,
        selected: Selected::new(),
        granted: BTreeSet::new(),
        linked: BTreeMap::new(),
    };
    for entry in &grants.entries {
        selection.add(entry)?;
    }
    selection.finish()
}

struct Selection<'a> {
    /// What entries are relative to, without symbolic links.
    base: PathBuf,
    state: Option<PathBuf>,
    exclude: &'a [Pattern],
    looked_at: usize,
    bytes: u64,
    selected: Selected,
    /// The files that were found without a symbolic link.
    granted: BTreeSet<PathBuf>,
    /// Symbolic links, or paths with one in them, and what they lead to.
    linked: BTreeMap<PathBuf, PathBuf>,
}

impl Selection<'_> {
    fn add(&mut self, entry: &Entry) -> Result<(), Problem> {
        match entry {
            Entry::Pattern(pattern) => self.add_pattern(pattern),
            Entry::Placement {
                source,
                destination,
                is_folder,
            } => {
                let from = self.base.join(source);
                if !from.exists() {
                    return Err(Problem::Missing(source.clone()));
                }
                if from.is_file() && (*is_folder || destination.as_os_str().is_empty()) {
                    return Err(Problem::NoFileName {
                        entry: source.clone(),
                    });
                }
                self.add_path(&from, destination)
            }
            Entry::At {
                source,
                path,
                shared,
            } => {
                if *shared {
                    // It may well be below the state folder.
                    self.state = None;
                }
                let destination = super::destination(path).unwrap_or_default();
                if !source.exists() {
                    return Err(Problem::Missing(source.display().to_string()));
                }
                // It was granted as it is, not by a path below the base.
                let source = fs::canonicalize(source).map_err(Problem::io("find", source))?;
                self.add_path(&source, &destination)
            }
            Entry::Inline { bytes, path } => {
                self.count(bytes.len() as u64)?;
                self.insert(path.clone(), Origin::Inline(bytes.clone()))
            }
        }
    }

    fn add_pattern(&mut self, pattern: &str) -> Result<(), Problem> {
        let path = self.base.join(pattern);
        if path.exists() {
            return self.add_path(&path, Path::new(pattern));
        }
        if Pattern::escape(pattern) == pattern {
            return Err(Problem::Missing(pattern.to_owned()));
        }
        let base = self.base.clone();
        if self.add_matches(&base, pattern, Path::new(""))? == 0 {
            return Err(match pattern.rsplit('/').next() {
                Some("**") => Problem::FoldersAlone(pattern.to_owned()),
                _ => Problem::NoMatch(pattern.to_owned()),
            });
        }
        Ok(())
    }

    /// A file as `destination`, or all that a folder has below it.
    fn add_path(&mut self, from: &Path, destination: &Path) -> Result<(), Problem> {
        if from.is_file() {
            return self.add_file(from, destination.to_owned());
        }
        self.add_matches(from, "**/*", destination).map(drop)
    }

    /// Files below `folder` that match, below `destination`. Tells how many matched.
    fn add_matches(
        &mut self,
        folder: &Path,
        pattern: &str,
        destination: &Path,
    ) -> Result<usize, Problem> {
        let Some(folder_text) = folder.to_str() else {
            let reason = std::io::ErrorKind::InvalidFilename.into();
            return Err(Problem::io("match files below", folder)(reason));
        };
        let whole = format!("{}/{pattern}", Pattern::escape(folder_text));
        // It was checked with the grants.
        let Ok(matches) = glob::glob(&whole) else {
            return Err(Problem::NoMatch(pattern.to_owned()));
        };
        let mut matched = 0;
        for found in matches {
            self.looked_at += 1;
            if self.looked_at > MAX_FILES {
                return Err(Problem::TooMany(MAX_FILES));
            }
            let path = found.map_err(|error| {
                let path = error.path().to_owned();
                Problem::io("read", &path)(error.into())
            })?;
            if !path.is_file() {
                continue;
            }
            matched += 1;
            let below = path.strip_prefix(folder).unwrap_or(&path);
            self.add_file(&path, destination.join(below))?;
        }
        Ok(matched)
    }

    fn add_file(&mut self, path: &Path, destination: PathBuf) -> Result<(), Problem> {
        let named = path.strip_prefix(&self.base).unwrap_or(path);
        if self
            .exclude
            .iter()
            .any(|pattern| pattern.matches_path(named))
        {
            return Ok(());
        }
        let real = fs::canonicalize(path).map_err(Problem::io("find", path))?;
        if self
            .state
            .as_ref()
            .is_some_and(|state| real.starts_with(state))
        {
            return Ok(());
        }
        if real == path {
            self.granted.insert(real.clone());
        } else {
            self.linked.insert(path.to_owned(), real.clone());
        }
        let length = fs::metadata(&real)
            .map_err(Problem::io("read", &real))?
            .len();
        self.count(length)?;
        self.insert(destination, Origin::File(real))
    }

    fn count(&mut self, bytes: u64) -> Result<(), Problem> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BYTES {
            return Err(Problem::TooLarge(MAX_BYTES));
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, origin: Origin) -> Result<(), Problem> {
        match self.selected.entry(path) {
            MapEntry::Vacant(free) => {
                free.insert(origin);
            }
            MapEntry::Occupied(taken) if *taken.get() != origin => {
                return Err(Problem::Twice {
                    path: taken.key().clone(),
                    one: taken.get().clone(),
                    other: origin,
                });
            }
            MapEntry::Occupied(_) => {}
        }
        Ok(())
    }

    /// A link is no grant: what it leads to must be granted, too.
    fn finish(self) -> Result<Selected, Problem> {
        for (link, target) in self.linked {
            if !self.granted.contains(&target) {
                return Err(Problem::Link { link, target });
            }
        }
        Ok(self.selected)
    }
}
