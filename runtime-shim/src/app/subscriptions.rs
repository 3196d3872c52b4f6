//! The Redis triggers of an application: which channel of which server, whose,
//! with what options, each with its one default and its range.

use std::time::Duration;

use super::{AppError, Values};
use crate::engine::QUEUE_SANDBOXES;
use crate::manifest::{self, Manifest, RedisTriggerDefaults};
use crate::names::ComponentId;
use crate::redis_server::RedisServer;

/// In the order in which they were published, as on Spin, unless configured.
const DEFAULT_MAX_CONCURRENCY: u32 = 1;
/// How long a message may take, unless configured.
const DEFAULT_TIMEOUT_SECS: u64 = 60;
const MAX_TIMEOUT_SECS: u64 = 86_400;

/// One component on one channel of one server.
#[derive(Clone)]
pub struct RedisTrigger {
    /// What is called.
    pub component: ComponentId,
    /// Where messages are published.
    pub server: RedisServer,
    /// Which messages.
    pub channel: String,
    /// Messages handled at once.
    pub max_concurrency: u32,
    /// How long one may take.
    pub timeout: Duration,
}

pub(super) fn resolve_subscriptions(
    manifest: &Manifest,
    triggers: Vec<manifest::RedisTrigger>,
    values: Values<'_>,
) -> Result<Vec<RedisTrigger>, AppError> {
    let defaults: RedisTriggerDefaults = manifest.trigger_defaults("redis")?;
    let resolve = |trigger| resolve_subscription(manifest, trigger, &defaults, values);
    triggers.into_iter().map(resolve).collect()
}

fn resolve_subscription(
    manifest: &Manifest,
    trigger: manifest::RedisTrigger,
    defaults: &RedisTriggerDefaults,
    values: Values<'_>,
) -> Result<RedisTrigger, AppError> {
    let component = trigger.component;
    let place = |key: &str| format!("`{key}` of a `[[trigger.redis]]` of component `{component}`");
    let address = trigger.address.as_ref().or(defaults.address.as_ref());
    let address = address.ok_or_else(|| AppError::NoRedisAddress {
        component: component.clone(),
    })?;
    let address = values.render(address, || place("address"))?;
    let server = RedisServer::parse(&address).map_err(|source| AppError::RedisAddress {
        component: component.clone(),
        source,
    })?;
    let channel = values.render(&trigger.channel, || place("channel"))?;
    if channel.is_empty() {
        return Err(AppError::EmptyChannel { component });
    }
    let options = manifest.components.get(&component);
    let options = options.map(|component| component.tool.gristmill.redis.clone());
    let options = options.unwrap_or_default();
    let max_concurrency = in_range(
        &component,
        "max_concurrency",
        options
            .max_concurrency
            .unwrap_or(DEFAULT_MAX_CONCURRENCY)
            .into(),
        QUEUE_SANDBOXES.into(),
    )?;
    let timeout = in_range(
        &component,
        "timeout_secs",
        options.timeout_secs.unwrap_or(DEFAULT_TIMEOUT_SECS),
        MAX_TIMEOUT_SECS,
    )?;
    Ok(RedisTrigger {
        component,
        server,
        channel,
        max_concurrency: max_concurrency as u32,
        timeout: Duration::from_secs(timeout),
    })
}

/// `value`, if it is 1 to `max`.
fn in_range(
    component: &ComponentId,
    option: &'static str,
    value: u64,
    max: u64,
) -> Result<u64, AppError> {
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(AppError::RedisOptionRange {
        component: component.clone(),
        option,
        value,
        min: 1,
        max,
    })
}
