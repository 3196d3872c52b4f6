//! The templates, as they stand in `templates/`. It knows which files there
//! are; what is in them it does not.

use super::Kind;

/// A folder under `templates/`.
pub(super) struct Template {
    /// Its name there, which is its id for Spin.
    pub(super) id: &'static str,
    /// `metadata/spin-template.toml`.
    pub(super) metadata: &'static str,
    /// What is under `content/`: each path with its text.
    pub(super) files: &'static [(&'static str, &'static str)],
}

macro_rules! template {
    ($id:literal, [$($file:literal),+ $(,)?]) => {
        Template {
            id: $id,
            metadata: include_str!(concat!(
                "../../../templates/", $id, "/metadata/spin-template.toml"
            )),
            files: &[$((
                $file,
                include_str!(concat!("../../../templates/", $id, "/content/", $file)),
            )),+],
        }
    };
}

static HTTP: Template = template!(
    "gristmill-http",
    [
        ".gitignore",
        "Cargo.toml.tmpl",
        "README.md",
        "spin.toml",
        "src/greeting.rs",
        "src/lib.rs",
    ]
);

static QUEUE: Template = template!(
    "gristmill-queue",
    [
        ".gitignore",
        "Cargo.toml.tmpl",
        "README.md",
        "spin.toml",
        "src/handler.rs",
        "src/lib.rs",
        "wit/spin-sqs.wit",
    ]
);

static BATCH: Template = template!(
    "gristmill-batch",
    [
        ".gitignore",
        "Cargo.toml.tmpl",
        "README.md",
        "spin.toml",
        "src/handler.rs",
        "src/lib.rs",
        "wit/gristmill-queue.wit",
    ]
);

static CRON: Template = template!(
    "gristmill-cron",
    [
        ".gitignore",
        "Cargo.toml.tmpl",
        "README.md",
        "spin.toml",
        "src/lib.rs",
        "src/report.rs",
        "wit/spin-cron.wit",
    ]
);

/// The template for plugins that are called by `kind`.
pub(super) fn of(kind: Kind) -> &'static Template {
    match kind {
        Kind::Http => &HTTP,
        Kind::Queue => &QUEUE,
        Kind::Batch => &BATCH,
        Kind::Cron => &CRON,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn files_under(folder: &Path) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).expect("folder") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.strip_prefix(folder).expect("inside").to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn what_is_embedded_is_what_spin_installs() {
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        let mut known = BTreeSet::new();
        for template in [&HTTP, &QUEUE, &BATCH, &CRON] {
            let embedded = template.files.iter().map(|(file, _)| PathBuf::from(file));
            let content = templates.join(template.id).join("content");
            assert_eq!(embedded.collect::<BTreeSet<_>>(), files_under(&content));
            let metadata: toml::Table = template.metadata.parse().expect("metadata");
            assert_eq!(metadata["id"].as_str(), Some(template.id));
            assert_eq!(metadata["manifest_version"].as_str(), Some("1"));
            known.insert(templates.join(template.id));
        }
        let there = std::fs::read_dir(&templates).expect("templates");
        let there: BTreeSet<_> = there.map(|entry| entry.expect("entry").path()).collect();
        assert_eq!(there, known);
    }
}
