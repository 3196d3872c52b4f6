//! What a component writes to stdout and stderr: lines in the host's log, each
//! with the component's name.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::command::{Printed, Share};
use crate::names::ComponentId;

/// Bytes of one line; a longer one is logged in pieces.
const MAX_LINE: usize = 8 * 1024;

const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";

/// One of the two output streams of a sandbox.
#[derive(Clone)]
pub(super) struct GuestLog {
    component: ComponentId,
    stream: &'static str,
    /// Where a program's output is counted, and the end of its stderr kept.
    command: Option<Arc<Printed>>,
}

impl GuestLog {
    pub(super) fn stdout(component: &ComponentId) -> Self {
        Self {
            component: component.clone(),
            stream: STDOUT,
            command: None,
        }
    }

    pub(super) fn stderr(component: &ComponentId) -> Self {
        Self {
            component: component.clone(),
            stream: STDERR,
            command: None,
        }
    }

    /// The stream of a program, whose printing is `printed`.
    pub(super) fn of_command(self, printed: Arc<Printed>) -> Self {
        Self {
            command: Some(printed),
            ..self
        }
    }

    fn open(&self) -> Lines {
        Lines {
            log: self.clone(),
            partial: Vec::new(),
        }
    }
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only preview 3 asks for this one, and no preview 3 is linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.open())
    }
}

struct Lines {
    log: GuestLog,
    partial: Vec<u8>,
}

impl Lines {
    fn write_of_command(&mut self, printed: &Printed, bytes: &[u8]) {
        if self.log.stream == STDERR {
            printed.note(bytes);
        }
        match printed.share(bytes.len()) {
            Share::Bytes(logged) => self.push(&bytes[..logged]),
            Share::LastBytes(logged) => {
                self.push(&bytes[..logged]);
                self.emit();
                let component = &self.log.component;
                tracing::warn!(%component, "it prints too much: the rest of this run is not logged");
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(MAX_LINE) {
                self.partial.extend_from_slice(piece);
                if self.partial.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                    self.emit();
                }
            }
        }
    }

    fn emit(&mut self) {
        let line = String::from_utf8_lossy(&self.partial);
        let line = line.trim_end();
        if !line.is_empty() {
            let GuestLog {
                component, stream, ..
            } = &self.log;
            tracing::info!(target: "guest", %component, stream, "{line}");
        }
        self.partial.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.emit();
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.log.command.clone() {
            Some(printed) => self.write_of_command(&printed, &bytes),
            None => self.push(&bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}
