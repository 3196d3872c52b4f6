//! `fermyon:spin/llm`: linked, because toolchains import the whole Spin world. No
//! model runs in this host, so each one is refused as Spin refuses a model that the
//! manifest does not grant.

use super::bindings::fermyon::spin::llm::{
    EmbeddingsResult, Error, Host, InferencingParams, InferencingResult,
};
use crate::app::Component;

impl Host for &Component {
    async fn infer(
        &mut self,
        model: String,
        _prompt: String,
        _params: Option<InferencingParams>,
    ) -> wasmtime::Result<Result<InferencingResult, Error>> {
        Ok(Err(refuse(&model)))
    }

    async fn generate_embeddings(
        &mut self,
        model: String,
        _text: Vec<String>,
    ) -> wasmtime::Result<Result<EmbeddingsResult, Error>> {
        Ok(Err(refuse(&model)))
    }
}

fn refuse(model: &str) -> Error {
    Error::InvalidInput(format!(
        "model `{model}` is not available: Gristmill runs no language models"
    ))
}
