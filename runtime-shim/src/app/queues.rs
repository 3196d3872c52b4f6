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
use crate::names::ComponentId;
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
    /// Messages handled at once.
    pub max_concurrency: u32,
    /// How long the component may take; derived from the visibility timeout
    /// where it is not set.
    pub timeout: Option<Duration>,
    /// The delay before retries.
    pub backoff: Backoff,
    /// Which messages the component wants, and what becomes of others; all, where
    /// there is none.
    pub filter: Option<(Filters, Mismatch)>,
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
    timeout_secs: Option<u64>,
    backoff_base_secs: Option<u64>,
    backoff_cap_secs: Option<u64>,
    filter: Option<serde_json::Value>,
    filter_mismatch: Option<Mismatch>,
}

impl QueueOptions {
    const DEFAULT: Self = Self {
        queue_url: None,
        max_concurrency: None,
        timeout_secs: None,
        backoff_base_secs: None,
        backoff_cap_secs: None,
        filter: None,
        filter_mismatch: None,
    };
}

const DEFAULT_MAX_CONCURRENCY: u32 = 64;
const DEFAULT_BACKOFF_BASE_SECS: u64 = 2;
const DEFAULT_BACKOFF_CAP_SECS: u64 = 900;
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
            resolve_queue(trigger, options, url)
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
    if queue_url.name().ends_with(".fifo") {
        let queue = queue_url.name().to_owned();
        return Err(AppError::Fifo {
            component: component.clone(),
            queue,
        });
    }
    if queue_url.origin() == values.embedded {
        // The embedded queue will make it: its name must be one that it takes.
        QueueName::parse(queue_url.name()).map_err(|error| malformed(error.to_string()))?;
    }
    Ok(queue_url)
}

fn resolve_queue(
    trigger: manifest::SqsTrigger,
    options: &QueueOptions,
    queue_url: QueueUrl,
) -> Result<QueueTrigger, AppError> {
    let component = trigger.component;
    let in_range =
        |option, value: u64, min, max| in_range("sqs", &component, option, value, min..=max);
    let max_concurrency = options.max_concurrency.unwrap_or(DEFAULT_MAX_CONCURRENCY);
    in_range(
        "max_concurrency",
        max_concurrency.into(),
        1,
        QUEUE_SANDBOXES.into(),
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

    Ok(QueueTrigger {
        component,
        queue_url,
        max_messages: trigger.max_messages,
        system_attributes: trigger.system_attributes,
        message_attributes: trigger.message_attributes,
        max_concurrency,
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
