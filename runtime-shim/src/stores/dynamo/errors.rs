//! What the service's errors mean for a store.

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;

use super::super::StoreError;

/// Whether the service, rather than the call, is the problem.
pub(super) fn means_down<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ServiceError(answer) => {
            answer.raw().status().is_server_error()
                || matches!(
                    answer.err().code(),
                    Some(
                        "ResourceNotFoundException"
                            | "UnrecognizedClientException"
                            | "ExpiredTokenException"
                            | "AccessDeniedException"
                    )
                )
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    }
}

pub(super) fn lost_the_race(error: &SdkError<UpdateItemError>) -> bool {
    error
        .as_service_error()
        .is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}

pub(super) fn is_throttling<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code);
    matches!(
        code,
        Some(
            "ProvisionedThroughputExceededException"
                | "ThrottlingException"
                | "RequestLimitExceeded"
        )
    )
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn malformed(error: BuildError) -> StoreError {
    StoreError::Database(error.to_string())
}
