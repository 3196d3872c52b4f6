//! What all AWS clients of the host have in common: region, credentials,
//! endpoint, TLS, timeouts. Which service is called is for others to know.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::{Builder, tls};

use crate::settings::Environment;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Where nothing names a region. Only signatures depend on it, and endpoints
/// other than AWS take any.
const DEFAULT_REGION: &str = "us-east-1";

/// What the environment says about AWS.
#[derive(Clone, Debug, Default)]
pub struct AwsSettings {
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_DYNAMODB`, else `AWS_ENDPOINT_URL`.
    pub dynamodb_endpoint: Option<String>,
    /// Endpoints take any credentials, so the credential chain is not asked.
    pub anonymous: bool,
}

impl AwsSettings {
    /// Reads what the clients must not look up by themselves.
    pub fn from_environment(environment: &Environment) -> Self {
        let first = |names: [&str; 2]| {
            let mut values = names.into_iter().filter_map(|name| environment.get(name));
            values.find(|value| !value.is_empty()).map(str::to_owned)
        };
        Self {
            region: first(["AWS_REGION", "AWS_DEFAULT_REGION"]),
            dynamodb_endpoint: first(["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"]),
            anonymous: false,
        }
    }
}

/// Who calls.
pub(crate) enum Identity {
    /// Whoever the standard chain finds: environment, profile, web identity,
    /// container, instance.
    Chain,
    /// The embedded queue's clients: any credentials will do.
    Anonymous,
    /// Given in the runtime configuration.
    Keys {
        access_key: String,
        secret_key: String,
        token: Option<String>,
    },
}

/// How to call.
pub(crate) struct Calling<'a> {
    pub(crate) region: Option<&'a str>,
    /// Instead of the service's own.
    pub(crate) endpoint: Option<&'a str>,
    /// One try.
    pub(crate) attempt_timeout: Duration,
    pub(crate) max_attempts: u32,
}

/// The settings for a client.
pub(crate) async fn sdk_config(
    settings: &AwsSettings,
    identity: Identity,
    calling: Calling<'_>,
) -> SdkConfig {
    let region = calling
        .region
        .or(settings.region.as_deref())
        .unwrap_or(DEFAULT_REGION);
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    // A region is always given, so that nobody is asked for one.
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .timeout_config(timeouts(calling.attempt_timeout))
        .retry_config(RetryConfig::standard().with_max_attempts(calling.max_attempts))
        .http_client(http);
    if let Some(endpoint) = calling.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    match identity {
        Identity::Chain => {}
        Identity::Anonymous => {
            let any = Credentials::new("local", "local", None, None, "embedded");
            loader = loader.credentials_provider(any);
        }
        Identity::Keys {
            access_key,
            secret_key,
            token,
        } => {
            let keys = Credentials::new(access_key, secret_key, token, None, "runtime-config");
            loader = loader.credentials_provider(keys);
        }
    }
    loader.load().await
}

/// For one try of a call.
pub(crate) fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .build()
}

/// One line: the service's own words where there are any.
pub(crate) fn explain<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match error.as_service_error() {
        Some(service) => {
            let code = service.code().unwrap_or("unknown error");
            match service.message() {
                Some(message) => format!("{code}: {message}"),
                None => code.to_owned(),
            }
        }
        None => chain(error),
    }
}

/// The error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    // Some causes are lists with a line for each try.
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
