//! Messages into SQS queues, and what the queues hold, by signed requests over
//! HTTP. Receiving is the host's: it hands messages to components.
#![cfg_attr(
    not(target_family = "wasm"),
    allow(
        dead_code,
        reason = "only components send; natively the wire format is only tested"
    )
)]

mod wire;

pub use wire::{Depth, Queue, SendFailure};

#[cfg(target_family = "wasm")]
mod live {
    use std::time::SystemTime;

    use aws_credential_types::Credentials;
    use outbound::{Answer, Call};

    use crate::wire::{self, Depth, Queue, SendFailure, Unsignable};

    /// SQS answers in well under a kilobyte.
    const MAX_ANSWER_BYTES: usize = 64 * 1024;

    impl Queue {
        /// The queue whose URL is in `url_variable`, at the endpoint and with the
        /// credentials of the variables `sqs_origin` and `aws_…`.
        pub fn from_variables(url_variable: &str) -> Result<Self, String> {
            let text = |name| settings::text(name).map_err(|error| error.to_string());
            Ok(Self {
                origin: text("sqs_origin")?,
                url: text(url_variable)?,
                region: text("aws_region")?,
                credentials: Credentials::new(
                    text("aws_access_key_id")?,
                    text("aws_secret_access_key")?,
                    Some(text("aws_session_token")?).filter(|token| !token.is_empty()),
                    None,
                    "variables",
                ),
            })
        }

        /// Puts a message into the queue and returns the id that it got there.
        pub async fn send(&self, body: &str) -> Result<String, SendFailure> {
            let answer = exchange(self.message(body, SystemTime::now())).await;
            wire::sent(&answer.map_err(SendFailure::Unavailable)?)
        }

        /// Whether the queue is there.
        pub async fn ping(&self) -> Result<(), String> {
            wire::is_present(&exchange(self.ask_presence(SystemTime::now())).await?)
        }

        /// How many messages it holds.
        pub async fn depth(&self) -> Result<Depth, String> {
            wire::depth(&exchange(self.ask_depth(SystemTime::now())).await?)
        }
    }

    async fn exchange(call: Result<Call, Unsignable>) -> Result<Answer, String> {
        let call = call.map_err(|error| error.to_string())?;
        call.send("the queue", MAX_ANSWER_BYTES).await
    }
}
