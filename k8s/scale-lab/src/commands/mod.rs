//! The commands: each reads its files, calls the library and prints.

pub(crate) mod live;
pub(crate) mod plot;

use std::fmt::Display;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A line of the result.
#[expect(clippy::print_stdout, reason = "this is the printer")]
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}

/// A line about the way there.
#[expect(clippy::print_stderr, reason = "this is the printer")]
pub(crate) fn tell(line: impl Display) {
    eprintln!("{line}");
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_dir(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}
