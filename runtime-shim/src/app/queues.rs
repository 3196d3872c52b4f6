//! The queue triggers of an application: which queue, whose, with what options,
//! each with its one default and its range.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use local_queue::QueueName;
use serde::Deserialize;
use url::Url;

use super::filter::{Filters, Mismatch};
use super::{AppError, Selection, TriggerKind, Values};
use crate::embedded_origin;
use crate::engine::QUEUE_SANDBOXES;
use crate::manifest::{self, Manifest};
use crate::names::{ComponentId, StoreLabel};
use crate::variables::Variables;

/// One consumer of one queue.
#[derive(Clone, Debug)]
pub struct QueueTrigger {
    /// Who consumes.
    pub component: ComponentId,
    /// The queue.
    pub queue_url: QueueUrl,
    /// Messages asked for with one receive call, 1 to 10.
    pub max_messages: u16,
    /// System attributes the component gets.
    pub system_attributes: Vec<String>,
    /// Custom attributes the component gets.
    pub message_attributes: Vec<String>,
    /// Messages, or batches, handled at once, at most.
    pub max_concurrency: u32,
    /// How few at least, where that adapts; else the same.
    pub min_concurrency: u32,
    /// How long the component may take; derived from the visibility timeout
    /// where it is not set.
    pub timeout: Option<Duration>,
    /// The delay before retries.
    pub backoff: Backoff,
    /// Who gets a sandbox; where it is not set, what the component exports decides.
    pub sandbox: Option<SandboxPer>,
    /// Messages of a batch, at most.
    pub batch_size: usize,
    /// How long a batch that is not full waits for more messages.
    pub batch_window: Duration,
    /// The path of requests; where it is set, the component is called by its HTTP
    /// export whatever else it exports.
    pub http_path: Option<String>,
    /// Where what was handled already is noted.
    pub dedup: Option<DedupOptions>,
    /// The server that handles the messages in place of the component.
    pub forward_to: Option<ForwardUrl>,
    /// Which messages the component wants, and what becomes of others; all, where
    /// there is none.
    pub filter: Option<(Filters, Mismatch)>,
}

/// How messages that come again are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupOptions {
    /// The store, which the component is granted.
    pub store: StoreLabel,
    /// How long what was handled is known.
    pub window: Duration,
    /// The attribute that says which messages are the same; else the id does.
    pub attribute: Option<String>,
}

/// Who gets a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxPer {
    /// Each message.
    Message,
    /// Each batch.
    Batch,
}

/// The address of a server that handles messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardUrl {
    url: Url,
    secret: bool,
}

impl ForwardUrl {
    fn parse(text: &str, secret: bool) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "the scheme is `{}`, expected `http` or `https`",
                url.scheme()
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not have a user name or a password".to_owned());
        }
        Ok(Self { url, secret })
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

impl std::fmt::Display for ForwardUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.secret {
            "(a secret address)"
        } else {
            self.as_str()
        })
    }
}

/// Bounds of the delay before a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the delay after the first failure; doubles with each further one.
    pub base: Duration,
    /// Upper bound of any delay. SQS allows up to 12 hours.
    pub cap: Duration,
}

/// `[application.trigger.sqs.<component>]`: the consumer's own options. The
/// stock trigger ignores them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueOptions {
    queue_url: Option<String>,
    max_concurrency: Option<u32>,
    min_concurrency: Option<u32>,
    timeout_secs: Option<u64>,
    backoff_base_secs: Option<u64>,
    backoff_cap_secs: Option<u64>,
    sandbox: Option<SandboxPer>,
    batch_size: Option<u64>,
    batch_window_ms: Option<u64>,
    http_path: Option<String>,
    forward_to: Option<String>,
    dedup_store: Option<StoreLabel>,
    dedup_window_secs: Option<u64>,
    dedup_attribute: Option<String>,
    filter: Option<serde_json::Value>,
    filter_mismatch: Option<Mismatch>,
}

impl QueueOptions {
    const DEFAULT: Self = Self {
        queue_url: None,
        max_concurrency: None,
        min_concurrency: None,
        timeout_secs: None,
        backoff_base_secs: None,
        backoff_cap_secs: None,
        sandbox: None,
        batch_size: None,
        batch_window_ms: None,
        http_path: None,
        forward_to: None,
        dedup_store: None,
        dedup_window_secs: None,
        dedup_attribute: None,
        filter: None,
        filter_mismatch: None,
    };
}

const DEFAULT_MAX_CONCURRENCY: u32 = 64;
const DEFAULT_BACKOFF_BASE_SECS: u64 = 2;
const DEFAULT_BACKOFF_CAP_SECS: u64 = 900;
const DEFAULT_BATCH_SIZE: u64 = 10;
const MAX_BATCH_SIZE: u64 = 1000;
/// Messages that one consumer holds at once, over all its batches.
const MAX_HELD: u64 = 20_000;
/// AWS Lambda's longest, `MaximumBatchingWindowInSeconds`.
const MAX_BATCH_WINDOW_MS: u64 = 300_000;
/// Longer than the longest visibility timeout: a message comes again within it.
const DEFAULT_DEDUP_WINDOW_SECS: u64 = 86_400;
/// The longest retention of SQS: 14 days.
const MAX_DEDUP_WINDOW_SECS: u64 = 1_209_600;
/// The longest visibility timeout of SQS.
const MAX_VISIBILITY_SECS: u64 = 43_200;
/// SQS lets a message stay hidden for 12 hours counted from its receive: an
/// hour of them is left for the handler.
const MAX_BACKOFF_SECS: u64 = 39_600;

/// A queue's URL: `scheme://host/…/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueUrl {
    url: Url,
    secret: bool,
}

impl QueueUrl {
    /// Checks that `text` is one; a `secret` one is not shown.
    pub(crate) fn parse(text: &str, secret: bool) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "the scheme is `{}`, expected `http` or `https`",
                url.scheme()
            ));
        }
        let queue = Self { url, secret };
        if queue.name().is_empty() {
            return Err("it does not end with a queue's name".to_owned());
        }
        Ok(queue)
    }

    /// The last part of the path: the queue's name.
    pub fn name(&self) -> &str {
        self.url
            .path_segments()
            .and_then(|mut parts| parts.next_back())
            .unwrap_or_default()
    }

    /// Whether it keeps the order within groups. SQS API Reference, `CreateQueue`.
    pub fn is_fifo(&self) -> bool {
        self.name().ends_with(".fifo")
    }

    /// The server's origin, `scheme://host:port`.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The region in the host of an AWS endpoint, `sqs.<region>.amazonaws.com`.
    pub fn aws_region(&self) -> Option<&str> {
        let host = self.url.host_str()?;
        if !host.ends_with(".amazonaws.com") && !host.ends_with(".amazonaws.com.cn") {
            return None;
        }
        let mut labels = host
            .split('.')
            .skip_while(|label| label.starts_with("vpce-"));
        match (labels.next()?, labels.next()?) {
            ("sqs" | "sqs-fips", region) | (region, "queue") => Some(region),
            _ => None,
        }
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

impl std::fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.secret {
            write!(f, "(a secret address)/{}", self.name())
        } else {
            f.write_str(self.as_str())
        }
    }
}

pub(super) fn resolve_queues(
    manifest: &Manifest,
    triggers: Vec<manifest::SqsTrigger>,
    values: Values<'_>,
    selection: &Selection,
) -> Result<Vec<QueueTrigger>, AppError> {
    let mut options: BTreeMap<ComponentId, QueueOptions> = manifest.trigger_defaults("sqs")?;
    let named: Vec<ComponentId> = triggers.iter().map(|t| t.component.clone()).collect();
    let queues: Vec<QueueTrigger> = triggers
        .into_iter()
        .map(|trigger| {
            let options = options
                .get(&trigger.component)
                .unwrap_or(&QueueOptions::DEFAULT);
            let url = trigger_url(&trigger, options, values)?;
            if let Some(store) = &options.dedup_store
                && !grants(manifest, &trigger.component, store)
            {
                return Err(AppError::DedupWithoutGrant {
                    component: trigger.component,
                    label: store.clone(),
                });
            }
            let forward_to = forward_url(&trigger.component, options, values)?;
            resolve_queue(trigger, options, url, forward_to)
        })
        .collect::<Result<_, _>>()?;
    for (index, queue) in queues.iter().enumerate() {
        let same = |other: &&QueueTrigger| {
            other.component == queue.component && other.queue_url == queue.queue_url
        };
        if let Some(twice) = queues[..index].iter().find(same) {
            return Err(AppError::SameQueueTwice {
                component: twice.component.clone(),
                queue: queue.queue_url.name().to_owned(),
            });
        }
    }
    options.retain(|id, _| !named.contains(id));
    for id in options.into_keys() {
        if selection.has(TriggerKind::Sqs, &id) {
            return Err(AppError::OrphanOptions {
                kind: "sqs",
                component: id,
            });
        }
    }
    Ok(queues)
}

/// The URLs of every queue that a trigger names, as configured: the embedded
/// origin is not replaced in them.
pub fn queue_urls(manifest: &Manifest, variables: &Variables) -> Result<Vec<QueueUrl>, AppError> {
    let options: BTreeMap<ComponentId, QueueOptions> = manifest.trigger_defaults("sqs")?;
    let values = Values {
        variables,
        embedded: embedded_origin::EMBEDDED_ORIGIN,
    };
    let url_of = |trigger: &manifest::SqsTrigger| {
        let options = options
            .get(&trigger.component)
            .unwrap_or(&QueueOptions::DEFAULT);
        trigger_url(trigger, options, values)
    };
    manifest.sqs_triggers()?.iter().map(url_of).collect()
}

fn trigger_url(
    trigger: &manifest::SqsTrigger,
    options: &QueueOptions,
    values: Values<'_>,
) -> Result<QueueUrl, AppError> {
    let component = &trigger.component;
    let place = || format!("`queue_url` of component `{component}`");
    let template = options.queue_url.as_ref().unwrap_or(&trigger.queue_url);
    let url = values.render(template, place)?;
    let malformed = |reason| {
        values
            .malformed(component, template)
            .unwrap_or(AppError::QueueUrl {
                component: component.clone(),
                url: url.clone(),
                reason,
            })
    };
    let queue_url =
        QueueUrl::parse(&url, values.variables.reveals_secret(template)).map_err(malformed)?;
    if queue_url.origin() == values.embedded {
        // The embedded queue will make it: its name must be one that it takes.
        QueueName::parse(queue_url.name()).map_err(|error| malformed(error.to_string()))?;
    }
    Ok(queue_url)
}

/// Whether the component may open the store.
fn grants(manifest: &Manifest, component: &ComponentId, store: &StoreLabel) -> bool {
    let component = manifest.components.get(component);
    component.is_some_and(|component| component.key_value_stores.contains(store))
}

fn forward_url(
    component: &ComponentId,
    options: &QueueOptions,
    values: Values<'_>,
) -> Result<Option<ForwardUrl>, AppError> {
    let Some(template) = &options.forward_to else {
        return Ok(None);
    };
    let place = || format!("`forward_to` of component `{component}`");
    let url = values.render(template, place)?;
    let secret = values.variables.reveals_secret(template);
    ForwardUrl::parse(&url, secret).map(Some).map_err(|reason| {
        values
            .malformed(component, template)
            .unwrap_or(AppError::ForwardUrl {
                component: component.clone(),
                // A password is not shown, even where it does not belong.
                url: match url.rsplit_once('@') {
                    Some((_, host)) => format!("…@{host}"),
                    None => url,
                },
                reason,
            })
    })
}

/// Options that have no meaning together.
fn check_together(options: &QueueOptions, forwards: bool) -> Result<(), &'static str> {
    if forwards && options.sandbox == Some(SandboxPer::Batch) {
        return Err(
            "`sandbox = \"batch\"` has no meaning beside `forward_to`: a request carries one message",
        );
    }
    if forwards && options.http_path.is_some() {
        return Err("`http_path` has no meaning beside `forward_to`: write the path into that URL");
    }
    let is_path =
        |path: &String| path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    if !options.http_path.as_ref().is_none_or(is_path) {
        return Err("`http_path` is not a path: begin it with `/`");
    }
    if options.batch_window_ms.is_some_and(|window| window > 0)
        && options.sandbox == Some(SandboxPer::Message)
    {
        return Err(
            "`batch_window_ms` has no meaning with `sandbox = \"message\"`: nothing waits for company",
        );
    }
    Ok(())
}

fn resolve_queue(
    trigger: manifest::SqsTrigger,
    options: &QueueOptions,
    queue_url: QueueUrl,
    forward_to: Option<ForwardUrl>,
) -> Result<QueueTrigger, AppError> {
    let component = trigger.component;
    let conflict = |reason| AppError::QueueOptions {
        component: component.clone(),
        reason,
    };
    check_together(options, forward_to.is_some()).map_err(conflict)?;
    let in_range =
        |option, value: u64, min, max| in_range("sqs", &component, option, value, min..=max);
    let max_concurrency = options.max_concurrency.unwrap_or(DEFAULT_MAX_CONCURRENCY);
    in_range(
        "max_concurrency",
        max_concurrency.into(),
        1,
        QUEUE_SANDBOXES.into(),
    )?;
    let min_concurrency = options.min_concurrency.unwrap_or(max_concurrency);
    in_range(
        "min_concurrency",
        min_concurrency.into(),
        1,
        max_concurrency.into(),
    )?;
    let timeout = options
        .timeout_secs
        .map(|secs| in_range("timeout_secs", secs, 1, MAX_VISIBILITY_SECS))
        .transpose()?
        .map(Duration::from_secs);
    let base = options
        .backoff_base_secs
        .unwrap_or(DEFAULT_BACKOFF_BASE_SECS);
    in_range("backoff_base_secs", base, 1, MAX_BACKOFF_SECS)?;
    let cap = options
        .backoff_cap_secs
        .unwrap_or(DEFAULT_BACKOFF_CAP_SECS.max(base));
    in_range("backoff_cap_secs", cap, base, MAX_BACKOFF_SECS)?;
    let filter = resolve_filter(&component, options)?;
    if queue_url.is_fifo() && matches!(filter, Some((_, Mismatch::Keep))) {
        return Err(AppError::KeepOnFifo {
            component: component.clone(),
            queue: queue_url.name().to_owned(),
        });
    }

    let dedup_window = options
        .dedup_window_secs
        .unwrap_or(DEFAULT_DEDUP_WINDOW_SECS);
    in_range("dedup_window_secs", dedup_window, 1, MAX_DEDUP_WINDOW_SECS)?;
    if options.dedup_store.is_none()
        && (options.dedup_window_secs.is_some() || options.dedup_attribute.is_some())
    {
        return Err(conflict(
            "`dedup_window_secs` and `dedup_attribute` have no meaning without `dedup_store`",
        ));
    }
    let batch_size = options.batch_size.unwrap_or(DEFAULT_BATCH_SIZE);
    let most = (MAX_HELD / u64::from(max_concurrency)).min(MAX_BATCH_SIZE);
    in_range("batch_size", batch_size, 1, most)?;
    let window = options.batch_window_ms.unwrap_or(0);
    in_range("batch_window_ms", window, 0, MAX_BATCH_WINDOW_MS)?;

    Ok(QueueTrigger {
        sandbox: options.sandbox,
        batch_size: batch_size as usize,
        batch_window: Duration::from_millis(window),
        http_path: options.http_path.clone(),
        forward_to,
        dedup: options.dedup_store.clone().map(|store| DedupOptions {
            store,
            window: Duration::from_secs(dedup_window),
            attribute: options.dedup_attribute.clone(),
        }),
        component,
        queue_url,
        max_messages: trigger.max_messages,
        system_attributes: trigger.system_attributes,
        message_attributes: trigger.message_attributes,
        max_concurrency,
        min_concurrency,
        timeout,
        backoff: Backoff {
            base: Duration::from_secs(base),
            cap: Duration::from_secs(cap),
        },
        filter,
    })
}

fn resolve_filter(
    component: &ComponentId,
    options: &QueueOptions,
) -> Result<Option<(Filters, Mismatch)>, AppError> {
    let component = component.clone();
    match (&options.filter, options.filter_mismatch) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(AppError::MismatchWithoutFilter { component }),
        (Some(filter), mismatch) => match Filters::parse(filter) {
            Ok(filters) => Ok(Some((filters, mismatch.unwrap_or_default()))),
            Err(reason) => Err(AppError::Filter { component, reason }),
        },
    }
}

/// `value`, if the option of this kind of trigger may have it.
pub(super) fn in_range(
    kind: &'static str,
    component: &ComponentId,
    option: &'static str,
    value: u64,
    allowed: RangeInclusive<u64>,
) -> Result<u64, AppError> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(AppError::OptionRange {
        kind,
        component: component.clone(),
        option,
        value,
        min: *allowed.start(),
        max: *allowed.end(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_from_aws_hosts_alone() {
        let region = |url| {
            QueueUrl::parse(url, false)
                .expect("url")
                .aws_region()
                .map(str::to_owned)
        };
        assert_eq!(
            region("https://sqs.eu-west-1.amazonaws.com/1/q"),
            Some("eu-west-1".into())
        );
        assert_eq!(
            region("https://vpce-0a.sqs.eu-west-1.vpce.amazonaws.com/1/q"),
            Some("eu-west-1".into())
        );
        assert_eq!(region("http://sqs.eu-west-1.localhost/1/q"), None);
        assert_eq!(region("https://sqs.x.amazonaws.com.evil.test/1/q"), None);
    }
}
