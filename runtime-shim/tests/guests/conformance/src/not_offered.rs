//! `fermyon:spin/mysql` and `fermyon:spin/llm` 2.0.0: components that import them
//! run, and a call is an error of the interface's own.

use spin_sdk::llm::{self, EmbeddingModel, InferencingModel};
use spin_sdk::mysql;

use crate::must::{Outcome, must};

/// The manifest allows this one.
const GRANTED: &str = "mysql://user:password@127.0.0.1:3306/database";

pub(crate) fn granted() -> Outcome {
    must!(
        mysql::Connection::open(GRANTED),
        Err(mysql::MysqlError::ConnectionFailed(text)) if text.contains("not available")
    );
    not_permitted("mysql://127.0.0.1:3307/database")?;
    language_models()
}

pub(crate) fn refused() -> Outcome {
    not_permitted(GRANTED)?;
    language_models()
}

fn not_permitted(address: &str) -> Outcome {
    let expected = format!("address {address} is not permitted");
    must!(
        mysql::Connection::open(address),
        Err(mysql::MysqlError::ConnectionFailed(text)) if text == expected
    );
    Ok(())
}

fn language_models() -> Outcome {
    must!(
        llm::infer(InferencingModel::Llama2Chat, "Who are you?"),
        Err(llm::Error::InvalidInput(text)) if text.contains("`llama2-chat`")
    );
    must!(
        llm::generate_embeddings(EmbeddingModel::AllMiniLmL6V2, &["turnip".to_owned()]),
        Err(llm::Error::InvalidInput(text)) if text.contains("`all-minilm-l6-v2`")
    );
    Ok(())
}
