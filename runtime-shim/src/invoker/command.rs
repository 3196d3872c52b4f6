//! Programs: a component that exports `wasi:cli/run` is run once for each message
//! or tick. Its exit code becomes what a handler would have answered.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::{MessageAction, REJECT};
use crate::capabilities::{Command, Printed, Sandbox};

/// Try again later. `EX_TEMPFAIL` of sysexits.h.
const EX_TEMPFAIL: i32 = 75;

/// One run of a program.
pub(super) struct Run<'a> {
    program: &'a CommandPre<Sandbox>,
    printed: Arc<Printed>,
}

/// How a program failed.
pub(super) struct Failure {
    code: i32,
    last_words: String,
}

impl<'a> Run<'a> {
    /// A run, and what its sandbox must have.
    pub(super) fn new(
        program: &'a CommandPre<Sandbox>,
        stdin: Bytes,
        environment: Vec<(String, String)>,
    ) -> (Self, Command) {
        let printed = Arc::new(Printed::default());
        let run = Self {
            program,
            printed: Arc::clone(&printed),
        };
        let command = Command {
            stdin,
            environment,
            printed,
        };
        (run, command)
    }

    /// Runs it in its sandbox, to its end.
    pub(super) async fn finish(
        self,
        store: &mut Store<Sandbox>,
    ) -> wasmtime::Result<Result<(), Failure>> {
        match self.exit_code(store).await? {
            0 => Ok(Ok(())),
            code => Ok(Err(Failure {
                code,
                last_words: self.printed.last_words(),
            })),
        }
    }

    async fn exit_code(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<i32> {
        let program = self.program.instantiate_async(&mut *store).await?;
        match program.wasi_cli_run().call_run(&mut *store).await {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            // To end early is a trap to the engine, and none to us.
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Ok(*code),
                None => Err(error),
            },
        }
    }
}

impl Failure {
    /// As an error of a handler of messages: all but the one code for "again" say
    /// that another attempt would end the same way.
    pub(super) fn of_message(self) -> Result<MessageAction, String> {
        match self.code {
            EX_TEMPFAIL => Err(self.to_string()),
            _ => Err(format!("{REJECT} {self}")),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.code)?;
        if self.last_words.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.last_words)
    }
}
