//! How a refusal looks on the wire: the one place where SQS error codes and HTTP statuses come
//! from. Owns the names; refuses to know why something was refused.
//! Source: botocore's SQS service model (`awsQueryCompatible`) and the SQS API Reference, "Common
//! Errors".

use http::StatusCode;

use crate::errors::QueueError;

/// What the server answers instead of a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The queue refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The request's JSON is not what the action takes.
    #[error("{0}")]
    Serialization(String),
    /// No such action.
    #[error("The action {0} is not valid for this endpoint.")]
    UnknownAction(String),
    /// The request does not speak the AWS JSON protocol.
    #[error("{0}")]
    WrongProtocol(String),
    /// The request's body is larger than this server reads.
    #[error("The request must be at most {limit} bytes long.")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body did not arrive.
    #[error("The request's body could not be read.")]
    Unreadable,
}

/// An error's names: the JSON shape with its namespace, and the code of the old query protocol.
pub(crate) struct WireError {
    pub(crate) shape: &'static str,
    pub(crate) query_code: &'static str,
    pub(crate) status: StatusCode,
}

impl WireError {
    const fn sender(shape: &'static str, query_code: &'static str) -> Self {
        Self {
            shape,
            query_code,
            status: StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the caller is to blame, as the last part of `x-amzn-query-error` says.
    pub(crate) fn is_sender_fault(&self) -> bool {
        self.status.is_client_error()
    }

    pub(crate) fn fault(&self) -> &'static str {
        if self.is_sender_fault() {
            "Sender"
        } else {
            "Receiver"
        }
    }
}

impl RequestError {
    pub(crate) fn wire(&self) -> WireError {
        match self {
            Self::Queue(error) => queue_error(error),
            Self::Serialization(_) | Self::Unreadable => WireError::sender(
                "com.amazon.coral.service#SerializationException",
                "MalformedInput",
            ),
            Self::UnknownAction(_) => WireError::sender(
                "com.amazon.coral.service#UnknownOperationException",
                "InvalidAction",
            ),
            Self::WrongProtocol(_) => WireError::sender(
                "com.amazon.coral.service#InvalidProtocolException",
                "InvalidProtocol",
            ),
            Self::TooLarge { .. } => WireError {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..WireError::sender(
                    "com.amazon.coral.service#RequestTooLargeException",
                    "RequestTooLarge",
                )
            },
        }
    }
}

/// The names of a queue's refusal; also for the failed entries of a batch.
pub(crate) fn queue_error(error: &QueueError) -> WireError {
    macro_rules! sqs {
        ($shape:literal, $query:literal) => {
            WireError::sender(concat!("com.amazonaws.sqs#", $shape), $query)
        };
    }
    match error {
        QueueError::QueueDoesNotExist => {
            sqs!(
                "QueueDoesNotExist",
                "AWS.SimpleQueueService.NonExistentQueue"
            )
        }
        QueueError::QueueNameExists { .. } => sqs!("QueueNameExists", "QueueAlreadyExists"),
        QueueError::MissingParameter(_) | QueueError::MissingBatchEntryId { .. } => {
            WireError::sender(
                "com.amazon.coral.service#MissingRequiredParameterException",
                "MissingParameter",
            )
        }
        QueueError::InvalidParameterValue { .. }
        | QueueError::InvalidParameter(_)
        | QueueError::TotalVisibilityTooLong(_)
        | QueueError::NoDeduplicationId
        | QueueError::NotOfThisQueueType { .. }
        | QueueError::ReceiptHandleHasExpired(_)
        | QueueError::MoveTaskRefused(_) => WireError::sender(
            "com.amazon.coral.service#InvalidParameterValueException",
            "InvalidParameterValue",
        ),
        QueueError::ResourceNotFound(_) | QueueError::TaskDoesNotExist => WireError {
            status: StatusCode::NOT_FOUND,
            ..sqs!("ResourceNotFoundException", "ResourceNotFoundException")
        },
        QueueError::InvalidAttributeName(_) | QueueError::FifoAttribute(_) => {
            sqs!("InvalidAttributeName", "InvalidAttributeName")
        }
        QueueError::InvalidAttributeValue { .. } => {
            sqs!("InvalidAttributeValue", "InvalidAttributeValue")
        }
        QueueError::InvalidMessageContents => {
            sqs!("InvalidMessageContents", "InvalidMessageContents")
        }
        QueueError::ReceiptHandleIsInvalid(_) => {
            sqs!("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid")
        }
        QueueError::MessageNotInflight => {
            sqs!(
                "MessageNotInflight",
                "AWS.SimpleQueueService.MessageNotInflight"
            )
        }
        QueueError::OverLimit { .. } | QueueError::PolicyTooLarge { .. } => {
            sqs!("OverLimit", "OverLimit")
        }
        QueueError::EmptyBatchRequest(_) => {
            sqs!(
                "EmptyBatchRequest",
                "AWS.SimpleQueueService.EmptyBatchRequest"
            )
        }
        QueueError::TooManyEntriesInBatchRequest(_) => sqs!(
            "TooManyEntriesInBatchRequest",
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
        ),
        QueueError::BatchEntryIdsNotDistinct(_) => sqs!(
            "BatchEntryIdsNotDistinct",
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"
        ),
        QueueError::InvalidBatchEntryId => {
            sqs!(
                "InvalidBatchEntryId",
                "AWS.SimpleQueueService.InvalidBatchEntryId"
            )
        }
        QueueError::BatchRequestTooLong { .. } => {
            sqs!(
                "BatchRequestTooLong",
                "AWS.SimpleQueueService.BatchRequestTooLong"
            )
        }
        // Clients take both for passing and try again.
        QueueError::Closed => WireError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..WireError::sender(
                "com.amazon.coral.service#ServiceUnavailableException",
                "ServiceUnavailable",
            )
        },
        QueueError::Storage(_) => WireError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..WireError::sender(
                "com.amazon.coral.service#InternalFailure",
                "InternalFailure",
            )
        },
    }
}
