//! The one place that writes to stdout and stderr for people and tools. Logs go
//! to stderr by `tracing`; stdout carries only what was asked for.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the printer"
)]

use std::fmt::Display;
use std::io::Write;

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

/// A line on stdout, flushed at once: tools wait for it through a pipe.
pub fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: that is no reason to stop serving.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// What a command is about to do, on stderr.
pub fn progress(text: impl Display) {
    eprintln!("{text}");
}

/// What a program reads from stderr.
pub fn metadata(text: &str) {
    eprintln!("{text}");
}

/// What deserves a second look, and what to do about it, on stderr.
pub fn warning(text: impl Display, hint: impl Display) {
    eprintln!("warning: {text}\n  hint: {hint}");
}

/// An error with its causes on stderr.
pub fn error(error: &anyhow::Error) {
    let mut texts = explanation(error).into_iter();
    eprintln!("error: {}", texts.next().unwrap_or_default());
    for text in texts {
        eprintln!("  caused by: {text}");
    }
}

/// The text of an error and of its causes. Many errors repeat their source in
/// their own text; that is left out.
pub fn explanation(error: &anyhow::Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !texts.last().is_some_and(|said| said.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

/// A number of bytes as people read it.
pub fn bytes(number: u64) -> impl Display {
    BinaryBytes(number)
}

/// Messages that are done, on stderr: a bar on a terminal, nothing elsewhere. Gone
/// when it is dropped.
pub struct Tally(ProgressBar);

impl Tally {
    /// Of this many, if that is known.
    pub fn new(total: Option<u64>) -> Self {
        if !tracing::enabled!(tracing::Level::INFO) {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{wide_bar} {pos} of {len} messages, {per_sec}, {eta} left",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {pos} messages, {per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many more are done.
    pub fn add(&self, messages: u64) {
        self.0.inc(messages);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bytes that come in, on stderr: a bar on a terminal, nothing elsewhere, nor where
/// nobody wants to read more than warnings. Gone when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// For this many bytes, if that is known.
    pub fn new(bytes: Option<u64>) -> Self {
        if !tracing::enabled!(tracing::Level::INFO) {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {binary_bytes}, {binary_bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many more are here.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
