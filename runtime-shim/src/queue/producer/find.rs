//! The queue that a command line names: by its URL, or by its name at an endpoint.

use super::ProducerError;
use crate::app::QueueUrl;
use crate::aws::AwsSettings;
use crate::embedded_origin::EMBEDDED_ORIGIN;
use crate::queue::sqs::{CallError, SqsSource};

/// A URL, or a name at `endpoint`, which is the embedded queue's where there is none.
pub(super) async fn find(
    text: &str,
    endpoint: Option<&str>,
    aws: &AwsSettings,
) -> Result<SqsSource, ProducerError> {
    let malformed = |reason| ProducerError::QueueUrl {
        text: text.to_owned(),
        reason,
    };
    if text.contains("://") {
        let url = QueueUrl::parse(text, false).map_err(malformed)?;
        return Ok(SqsSource::unasked(&url, aws).await);
    }
    let endpoint = endpoint.unwrap_or(EMBEDDED_ORIGIN).trim_end_matches('/');
    let url = QueueUrl::parse(&format!("{endpoint}/{text}"), false).map_err(malformed)?;
    let anywhere = SqsSource::unasked(&url, aws).await;
    let found = anywhere.named(text).await;
    found.map_err(|error| ProducerError::Queue {
        queue: text.to_owned(),
        endpoint: endpoint.to_owned(),
        reason: match error {
            CallError::Failed(reason) if url.origin() == EMBEDDED_ORIGIN => format!(
                "{reason}: is `gristmill up` or `gristmill queue` running there? Else name its \
                 address with `--endpoint`"
            ),
            error => error.to_string(),
        },
    })
}
