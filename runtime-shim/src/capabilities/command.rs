//! What a program gets in place of arguments, the message on stdin and the rest in
//! its environment, and what it leaves behind: the end of what it wrote to stderr.
//! Does not know what an exit code means.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;

use super::guest_log::GuestLog;
use crate::app::Component;

/// Bytes of stdout and stderr together that are logged for one run.
const MAX_LOGGED: usize = 1024 * 1024;
/// Bytes of the end of stderr that are kept.
const MAX_LAST_WORDS: usize = 2048;

/// One run of a program.
pub struct Command {
    /// What it reads from stdin.
    pub stdin: Bytes,
    /// Variables beside those of the manifest, in whose place they stand where
    /// both have a name.
    pub environment: Vec<(String, String)>,
    /// What it prints.
    pub printed: Arc<Printed>,
}

impl Command {
    /// Gives it all of that.
    pub(super) fn equip(self, wasi: &mut WasiCtxBuilder, component: &Component) {
        let id = &component.id;
        wasi.arg(id.as_str())
            .stdin(MemoryInputPipe::new(self.stdin))
            .stdout(GuestLog::stdout(id).of_command(Arc::clone(&self.printed)))
            .stderr(GuestLog::stderr(id).of_command(self.printed));
        let own = component.environment.iter();
        for (name, value) in own.filter(|(name, _)| !has(&self.environment, name)) {
            wasi.env(name, value);
        }
        wasi.envs(&self.environment);
    }
}

fn has(environment: &[(String, String)], name: &str) -> bool {
    environment.iter().any(|(known, _)| known == name)
}

/// What one run of a program printed.
#[derive(Default)]
pub struct Printed {
    logged: AtomicUsize,
    last_words: Mutex<LastWords>,
}

/// How much of what is printed is still logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// So many bytes of it.
    Bytes(usize),
    /// So many bytes, and then no more.
    LastBytes(usize),
}

impl Printed {
    /// The end of what was written to stderr, in text that a queue's attribute can
    /// hold.
    pub fn last_words(&self) -> String {
        self.lock().text()
    }

    /// Takes the share of `bytes` more bytes.
    pub(super) fn share(&self, bytes: usize) -> Share {
        let before = self.logged.fetch_add(bytes, Ordering::Relaxed);
        let left = MAX_LOGGED.saturating_sub(before);
        if before <= MAX_LOGGED && left < bytes {
            Share::LastBytes(left)
        } else {
            Share::Bytes(left.min(bytes))
        }
    }

    /// Remembers what was written to stderr.
    pub(super) fn note(&self, bytes: &[u8]) {
        self.lock().push(bytes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LastWords> {
        self.last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct LastWords {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl LastWords {
    fn push(&mut self, bytes: &[u8]) {
        let end = &bytes[bytes.len().saturating_sub(MAX_LAST_WORDS)..];
        let excess = (self.bytes.len() + end.len()).saturating_sub(MAX_LAST_WORDS);
        self.bytes.drain(..excess);
        self.bytes.extend(end);
        self.cut |= excess > 0 || end.len() < bytes.len();
    }

    fn text(&mut self) -> String {
        let bytes = self.bytes.make_contiguous();
        // A character that was cut in two is left out rather than shown as broken.
        let rest_of_one = bytes.iter().take_while(|byte| **byte & 0xc0 == 0x80);
        let begin = if self.cut { rest_of_one.count() } else { 0 };
        let text = String::from_utf8_lossy(&bytes[begin..]);
        let text: String = text.trim().chars().map(permitted).collect();
        // What was no UTF-8 is longer as text.
        let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_LAST_WORDS));
        let dots = if self.cut || from > 0 { "…" } else { "" };
        format!("{dots}{}", &text[from..])
    }
}

/// SQS refuses some characters. API Reference, `SendMessage`.
fn permitted(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ if character.is_control() => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_words(writes: &[&[u8]]) -> String {
        let printed = Printed::default();
        for bytes in writes {
            printed.note(bytes);
        }
        printed.last_words()
    }

    #[test]
    fn the_end_is_kept_however_it_was_written() {
        assert_eq!(last_words(&[]), "");
        assert_eq!(last_words(&[b"no ", b"such order\n"]), "no such order");
        let long = "a".repeat(MAX_LAST_WORDS) + "end";
        let kept = format!("…{}end", "a".repeat(MAX_LAST_WORDS - 3));
        assert_eq!(last_words(&[long.as_bytes()]), kept);
        let pieces: Vec<_> = long.as_bytes().chunks(7).collect();
        assert_eq!(last_words(&pieces), kept);
    }

    #[test]
    fn it_is_text_that_a_queue_takes() {
        let cut = "é".repeat(MAX_LAST_WORDS) + "!";
        let kept = last_words(&[cut.as_bytes()]);
        assert!(kept.starts_with("…é") && kept.ends_with("é!"), "{kept}");
        assert_eq!(last_words(&[b"a\xff\x1b[0m\tb"]), "a\u{fffd}\u{fffd}[0m\tb");
        assert_eq!(last_words(&["\u{ffff}".as_bytes()]), "\u{fffd}");
        let broken = last_words(&[&[0xff; MAX_LAST_WORDS]]);
        assert!(broken.len() <= MAX_LAST_WORDS + '…'.len_utf8());
    }

    #[test]
    fn the_last_share_is_given_once() {
        let printed = Printed::default();
        assert_eq!(printed.share(MAX_LOGGED - 1), Share::Bytes(MAX_LOGGED - 1));
        assert_eq!(printed.share(1), Share::Bytes(1));
        assert_eq!(printed.share(1), Share::LastBytes(0));
        assert_eq!(printed.share(1), Share::Bytes(0));
        let printed = Printed::default();
        assert_eq!(printed.share(MAX_LOGGED + 1), Share::LastBytes(MAX_LOGGED));
        assert_eq!(printed.share(1), Share::Bytes(0));
    }
}
