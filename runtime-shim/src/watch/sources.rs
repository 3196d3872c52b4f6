//! What is watched: the files that an application is made of, as they are now.
//! Reads folders and files; does not know when to.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Component as Part, Path, PathBuf};
use std::time::SystemTime;

use globset::{GlobBuilder, GlobMatcher};

use crate::manifest::{DependencySource, FileMount, Manifest, Source};
use crate::names::ComponentId;

/// Folders that hold what is made, not what it is made of.
const SKIPPED: [&str; 4] = ["target", "node_modules", ".git", ".spin"];
/// Folders below a pattern's beginning that are looked into.
const MAX_FOLDERS: usize = 4096;
/// Larger files are known by their size and time alone.
const MAX_HASHED: u64 = 16 << 20;

/// Which application, and what of it.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) manifest: PathBuf,
    /// Further files that are read with it.
    pub(super) others: Vec<PathBuf>,
    /// Whether components with `build.watch` are built from their sources; else it
    /// is their wasm that is watched.
    pub(super) builds: bool,
}

/// What a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Manifest,
    /// Read at a reload.
    Read,
    /// Built from.
    Built(ComponentId),
}

/// The files that exist, and what they are like.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: BTreeMap<(PathBuf, Owner), Likeness>,
    folders: BTreeSet<PathBuf>,
}

/// Enough of a file to see whether it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Likeness {
    length: u64,
    content: u64,
}

/// What differs from one look to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) manifest: bool,
    pub(super) built: BTreeSet<ComponentId>,
    files: BTreeSet<PathBuf>,
}

impl Changed {
    pub(super) fn any(&self) -> bool {
        !self.files.is_empty()
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut files = self.files.iter();
        if let Some(first) = files.next() {
            write!(f, "{}", first.display())?;
        }
        match files.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Sources {
    /// Looks at everything. A manifest that cannot be read is still watched.
    pub(super) fn scan(scope: &Scope) -> Self {
        let mut sources = Self::default();
        sources.add_file(&scope.manifest, &Owner::Manifest);
        for file in &scope.others {
            sources.add_file(file, &Owner::Read);
        }
        let Ok(manifest) = Manifest::load(&scope.manifest) else {
            return sources;
        };
        let base = scope.manifest.parent().unwrap_or(Path::new(""));
        for (id, component) in &manifest.components {
            for mount in &component.files {
                sources.add_mount(base, mount);
            }
            for dependency in component.dependencies.values() {
                if let DependencySource::Wasm(Source::File(path)) = &dependency.source {
                    sources.add_file(&base.join(path), &Owner::Read);
                }
            }
            let build = component.build.as_ref().filter(|_| scope.builds);
            match (build, &component.source) {
                (Some(build), _) if !build.watch.is_empty() => {
                    let workdir = base.join(&build.workdir);
                    for pattern in &build.watch {
                        sources.add_pattern(&workdir, pattern, &Owner::Built(id.clone()));
                    }
                }
                (_, Source::File(path)) => sources.add_file(&base.join(path), &Owner::Read),
                _ => {}
            }
        }
        sources
    }

    /// Takes over what is only read from `newer`: whoever reads it next sees that.
    pub(super) fn adopt_read(&mut self, newer: Self) {
        self.files.retain(|(_, owner), _| *owner != Owner::Read);
        let read = newer.files.into_iter();
        self.files
            .extend(read.filter(|((_, owner), _)| *owner == Owner::Read));
        self.folders = newer.folders;
    }

    /// The folders where a change may be one of these files.
    pub(super) fn folders(&self) -> &BTreeSet<PathBuf> {
        &self.folders
    }

    /// What is new, gone or different.
    pub(super) fn since(&self, before: &Self) -> Changed {
        let mut changed = Changed::default();
        let mut note = |(path, owner): &(PathBuf, Owner)| {
            changed.files.insert(path.clone());
            match owner {
                Owner::Manifest => changed.manifest = true,
                Owner::Built(id) => {
                    changed.built.insert(id.clone());
                }
                Owner::Read => {}
            }
        };
        for (key, now) in &self.files {
            if before.files.get(key) != Some(now) {
                note(key);
            }
        }
        for key in before.files.keys() {
            if !self.files.contains_key(key) {
                note(key);
            }
        }
        changed
    }

    fn add_file(&mut self, path: &Path, owner: &Owner) {
        // Of a folder that is not there yet, the nearest that is.
        let parents = path.ancestors().skip(1);
        if let Some(folder) = parents.map(present).find(|folder| folder.is_dir()) {
            self.folders.insert(folder.to_owned());
        }
        if let Some(likeness) = Likeness::of(path) {
            let key = (path.to_owned(), owner.clone());
            self.files.insert(key, likeness);
        }
    }

    fn add_mount(&mut self, base: &Path, mount: &FileMount) {
        match mount {
            FileMount::Pattern(pattern) if base.join(pattern).is_dir() => {
                self.add_folder(base, pattern);
            }
            FileMount::Pattern(pattern) => self.add_pattern(base, pattern, &Owner::Read),
            FileMount::Placement(placement) => {
                self.add_file(&base.join(&placement.source), &Owner::Read);
                self.add_folder(base, &placement.source);
            }
            // Of a locked application, which nobody follows.
            FileMount::Given { .. } => {}
        }
    }

    fn add_folder(&mut self, base: &Path, folder: &str) {
        let inside = Path::new(folder).join("**/*");
        self.add_pattern(base, &inside.to_string_lossy(), &Owner::Read);
    }

    /// What cannot be a pattern is taken for a file's name.
    fn add_pattern(&mut self, workdir: &Path, pattern: &str, owner: &Owner) {
        let Some((beginning, matcher)) = compile(workdir, pattern) else {
            return self.add_file(&workdir.join(pattern), owner);
        };
        if !beginning.is_dir() {
            return self.add_file(&beginning, owner);
        }
        let mut waiting = vec![beginning];
        let mut seen = 0;
        while let Some(folder) = waiting.pop() {
            seen += 1;
            if seen > MAX_FOLDERS {
                tracing::warn!(
                    pattern,
                    "more than {MAX_FOLDERS} folders: the rest is not watched"
                );
                return;
            }
            let Ok(entries) = std::fs::read_dir(present(&folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        let name = entry.file_name();
                        if !SKIPPED.iter().any(|skipped| name == *skipped) {
                            waiting.push(path);
                        }
                    }
                    Ok(_) if matcher.is_match(&path) => self.add_file(&path, owner),
                    _ => {}
                }
            }
            self.folders.insert(present(&folder).to_owned());
        }
    }
}

/// The folder or file where a pattern's matches begin, and the pattern.
fn compile(workdir: &Path, pattern: &str) -> Option<(PathBuf, GlobMatcher)> {
    let parts = Path::new(pattern).components();
    let pattern: PathBuf = parts.filter(|part| *part != Part::CurDir).collect();
    let literal = pattern.components().take_while(|part| {
        let text = part.as_os_str().to_string_lossy();
        !text.contains(['*', '?', '[', '{', '\\'])
    });
    let literal: PathBuf = literal.collect();
    let rest = pattern.strip_prefix(&literal).ok()?;
    let beginning = workdir.join(&literal);
    // The beginning is a name, whatever stands in it.
    let name = globset::escape(beginning.to_str()?);
    let whole = match (name.as_str(), rest.to_str()?) {
        (_, "") => name,
        ("", rest) => rest.to_owned(),
        (name, rest) => format!("{}/{rest}", name.trim_end_matches('/')),
    };
    let glob = GlobBuilder::new(&whole).literal_separator(true).build();
    Some((beginning, glob.ok()?.compile_matcher()))
}

/// The path that the system knows: an empty one is the working directory.
fn present(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

impl Likeness {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let mut hasher = DefaultHasher::new();
        if metadata.len() <= MAX_HASHED {
            std::fs::read(path).ok()?.hash(&mut hasher);
        } else {
            let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            time.hash(&mut hasher);
        }
        Some(Self {
            length: metadata.len(),
            content: hasher.finish(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        spin_manifest_version = 2
        [application]
        name = "t"
        [component.a]
        source = "target/a.wasm"
        [component.a.build]
        command = "make"
        workdir = "a[1]"
        watch = ["./src/**/*.rs", "Cargo.toml", "../shared/*.wit"]
        [component.b]
        source = "b.wasm"
        files = ["pages/*.html", "whole", { source = "./assets", destination = "/" }]
        [component.b.dependencies]
        "acme:ledger/book" = { path = "book.wasm" }
    "#;

    fn folder() -> (tempfile::TempDir, Scope) {
        let dir = tempfile::tempdir().expect("a folder");
        for file in [
            "a[1]/src/deep/x.rs",
            "a[1]/src/y.rs",
            "a[1]/src/notes.txt",
            "a[1]/src/target/made.rs",
            "a[1]/Cargo.toml",
            "shared/z.wit",
            "target/a.wasm",
            "b.wasm",
            "whole/page.html",
            ".env",
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, file).expect("a file");
        }
        let manifest = dir.path().join("spin.toml");
        std::fs::write(&manifest, MANIFEST).expect("a manifest");
        let scope = Scope {
            manifest,
            others: vec![dir.path().join(".env")],
            builds: true,
        };
        (dir, scope)
    }

    #[test]
    fn what_an_application_is_made_of_is_seen_to_change() {
        let (dir, scope) = folder();
        for (file, manifest, built) in [
            ("spin.toml", true, false),
            (".env", false, false),
            ("b.wasm", false, false),
            ("pages/index.html", false, false),
            ("whole/page.html", false, false),
            ("book.wasm", false, false),
            ("assets/deep/logo.svg", false, false),
            ("a[1]/src/deep/x.rs", false, true),
            ("a[1]/src/deeper/still/new.rs", false, true),
            ("a[1]/Cargo.toml", false, true),
            ("shared/z.wit", false, true),
        ] {
            let before = Sources::scan(&scope);
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            let text = std::fs::read_to_string(&path).unwrap_or_default() + "\n";
            std::fs::write(&path, text).expect("a file");
            let changed = Sources::scan(&scope).since(&before);
            assert_eq!(changed.manifest, manifest, "{file}");
            assert_eq!(!changed.built.is_empty(), built, "{file}");
            assert!(changed.any(), "{file}");
        }
    }

    #[test]
    fn what_is_made_or_only_touched_does_not_count() {
        let (dir, scope) = folder();
        let before = Sources::scan(&scope);
        for (file, text) in [
            ("a[1]/src/notes.txt", "other"),
            ("a[1]/src/target/made.rs", "other"),
            ("target/a.wasm", "other"),
            ("a[1]/src/y.rs", "a[1]/src/y.rs"),
        ] {
            std::fs::write(dir.path().join(file), text).expect("a file");
        }
        let changed = Sources::scan(&scope).since(&before);
        assert_eq!(changed, Changed::default());
    }

    #[test]
    fn without_builds_the_wasm_counts() {
        let (dir, mut scope) = folder();
        scope.builds = false;
        let before = Sources::scan(&scope);
        std::fs::remove_file(dir.path().join("target/a.wasm")).expect("a file");
        std::fs::write(dir.path().join("a[1]/src/y.rs"), "other").expect("a file");
        let changed = Sources::scan(&scope).since(&before);
        let expected = format!("{}", dir.path().join("target/a.wasm").display());
        assert_eq!(changed.to_string(), expected);
    }
}
