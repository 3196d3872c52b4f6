//! The bodies to send: one text so many times, or the lines of a file or of stdin.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::ProducerError;
use crate::queue::source::MAX_MESSAGE_BYTES;

/// Lines read ahead: bodies have up to 1 MiB.
const AHEAD: usize = 64;

/// Where bodies come from.
pub(super) enum Input {
    /// The same text so many times.
    Repeated { body: Arc<str>, left: u64 },
    /// Lines, read by a thread that waits while nobody takes them.
    Lines(mpsc::Receiver<Result<Arc<str>, ProducerError>>),
}

/// What there is right now.
pub(super) enum Next {
    Body(Arc<str>),
    /// Perhaps later.
    NotYet,
    End,
}

impl Input {
    /// The lines of `path`, where `-` is stdin, and how many there are, if that can
    /// be known.
    pub(super) async fn lines(path: &Path) -> Result<(Self, Option<u64>), ProducerError> {
        let path = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || open(&path));
        let joined = opening.await;
        let (name, reader, count) = joined.map_err(|error| ProducerError::Input {
            input: "the file".to_owned(),
            reason: error.to_string(),
        })??;
        let (sender, lines) = mpsc::channel(AHEAD);
        // Ends with the input, or when nobody takes lines any more. A read of a
        // terminal cannot be broken off: the process does not wait for it.
        tokio::task::spawn_blocking(move || read_lines(&name, reader, &sender));
        Ok((Self::Lines(lines), count))
    }

    /// Without waiting.
    pub(super) fn try_next(&mut self) -> Result<Next, ProducerError> {
        match self {
            Self::Repeated { left: 0, .. } => Ok(Next::End),
            Self::Repeated { body, left } => {
                *left -= 1;
                Ok(Next::Body(Arc::clone(body)))
            }
            Self::Lines(lines) => match lines.try_recv() {
                Ok(line) => Ok(Next::Body(line?)),
                Err(mpsc::error::TryRecvError::Empty) => Ok(Next::NotYet),
                Err(mpsc::error::TryRecvError::Disconnected) => Ok(Next::End),
            },
        }
    }

    /// Waits for the next body; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Arc<str>>, ProducerError> {
        match self {
            Self::Repeated { .. } => match self.try_next()? {
                Next::Body(body) => Ok(Some(body)),
                Next::NotYet | Next::End => Ok(None),
            },
            Self::Lines(lines) => lines.recv().await.transpose(),
        }
    }
}

type Opened = (String, Box<dyn BufRead + Send>, Option<u64>);

fn open(path: &Path) -> Result<Opened, ProducerError> {
    if path.as_os_str() == "-" {
        let stdin = BufReader::new(io::stdin());
        return Ok(("stdin".to_owned(), Box::new(stdin), None));
    }
    let name = path.display().to_string();
    let failed = |error: io::Error| ProducerError::Input {
        input: name.clone(),
        reason: error.to_string(),
    };
    let file = File::open(path).map_err(failed)?;
    // A pipe can be read once only.
    let count = if file.metadata().map_err(failed)?.is_file() {
        let counted = count_lines(File::open(path).map_err(failed)?);
        Some(counted.map_err(failed)?)
    } else {
        None
    };
    Ok((name, Box::new(BufReader::new(file)), count))
}

/// Lines that are not empty.
fn count_lines(mut file: impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 65_536];
    let mut count = 0;
    let mut before = b'\n';
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(count);
        }
        for &byte in &buffer[..read] {
            count += u64::from(before == b'\n' && byte != b'\n');
            before = byte;
        }
    }
}

/// Hands over each line that is not empty, without its end.
fn read_lines(
    name: &str,
    mut reader: impl BufRead,
    lines: &mpsc::Sender<Result<Arc<str>, ProducerError>>,
) {
    let mut number = 0_u64;
    loop {
        number += 1;
        let line = match read_line(&mut reader) {
            Ok(Some(line)) if line.is_empty() => continue,
            Ok(Some(line)) => Ok(line.into()),
            Ok(None) => return,
            Err(reason) => Err(ProducerError::Input {
                input: name.to_owned(),
                reason: format!("line {number}: {reason}"),
            }),
        };
        let last = line.is_err();
        // Nobody listens: the run is over.
        if lines.blocking_send(line).is_err() || last {
            return;
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    let longest = MAX_MESSAGE_BYTES as u64 + 2;
    let mut bounded = reader.by_ref().take(longest);
    let read = bounded.read_until(b'\n', &mut line);
    if read.map_err(|error| error.to_string())? == 0 {
        return Ok(None);
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    if line.len() > MAX_MESSAGE_BYTES {
        return Err(format!(
            "longer than the {MAX_MESSAGE_BYTES} bytes of a message"
        ));
    }
    let text = String::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Vec<Result<String, String>> {
        let (sender, mut lines) = mpsc::channel(AHEAD);
        read_lines("f", input, &sender);
        drop(sender);
        let mut read = Vec::new();
        while let Ok(line) = lines.try_recv() {
            read.push(line.map(|l| l.to_string()).map_err(|e| e.to_string()));
        }
        read
    }

    #[test]
    fn each_line_that_is_not_empty_is_a_body() {
        let lines = read(b"a\n\nb c\r\n\n d");
        let texts: Vec<String> = lines.into_iter().map(|l| l.expect("a line")).collect();
        assert_eq!(texts, ["a", "b c", " d"]);
        assert_eq!(count_lines(&b"a\n\nb c\r\n\n d"[..]).expect("read"), 3);
        assert_eq!(count_lines(&b""[..]).expect("read"), 0);
    }

    #[test]
    fn a_line_that_no_message_can_hold_ends_the_reading() {
        let longest = "x".repeat(MAX_MESSAGE_BYTES);
        let lines = read(format!("a\n{longest}\r\n{longest}x\nb\n").as_bytes());
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1].as_ref().expect("as long as allowed").len(),
            MAX_MESSAGE_BYTES
        );
        let error = lines[2].as_ref().expect_err("too long");
        assert!(
            error.contains("`f`: line 3: longer than the 1048576 bytes"),
            "{error}"
        );
        let error = read(b"\xff\n").remove(0).expect_err("not text");
        assert!(error.contains("line 1: it is not UTF-8"), "{error}");
    }
}
