//! `gristmill redrive`: dead letters back to the queue they came from, or to
//! another. Each is sent before it is deleted, so that a run that ends anywhere can
//! be repeated: what was not moved is still there.

mod choose;
mod run;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::choose::Choice;
use self::run::{Run, Tallied};
use super::find::find;
use super::{ProducerError, until_stopped};
use crate::aws::AwsSettings;
use crate::cli::RedriveArgs;
use crate::drain::StopSignals;
use crate::printer;
use crate::queue::message::Received;
use crate::queue::source::FIFO_SUFFIX;
use crate::queue::sqs::{CallError, SqsSource};
use crate::settings::Environment;

/// The suffix of dead-letter queues that the embedded queue makes.
const DEAD_LETTER_SUFFIX: &str = "-dlq";

/// Where dead letters go.
struct Destinations(Vec<Arc<SqsSource>>);

impl Destinations {
    /// The queue that `message` came from; none where that is not known.
    fn of(&self, message: &Received) -> Option<usize> {
        if self.0.len() == 1 {
            return Some(0);
        }
        // SQS API Reference, `ReceiveMessage`: `DeadLetterQueueSourceArn`.
        let arn = message.system("DeadLetterQueueSourceArn")?;
        let name = arn.rsplit(':').next()?;
        self.0.iter().position(|queue| queue.facts().name == name)
    }
}

/// Moves what `args` say, and prints the account.
pub async fn redrive(
    args: RedriveArgs,
    mut signals: StopSignals,
    environment: &Environment,
) -> Result<(), ProducerError> {
    let aws = AwsSettings::from_environment(environment);
    let choice = Choice::new(&args)?;
    let queue = find(&args.queue, args.endpoint.as_deref(), &aws).await?;
    let destinations = destinations(&args, &queue, &aws).await?;
    let stop = CancellationToken::new();
    let waiting = queue.waiting().await.ok();
    let names: Vec<String> = destinations
        .0
        .iter()
        .map(|queue| queue.facts().name.clone())
        .collect();
    let run = Run::new(&args, queue, destinations, choice, waiting, stop.clone());
    let (tallied, signal) = until_stopped(&mut signals, &stop, run.finish()).await?;
    conclude(&args, &names, tallied, signal)
}

async fn destinations(
    args: &RedriveArgs,
    queue: &SqsSource,
    aws: &AwsSettings,
) -> Result<Destinations, ProducerError> {
    let found = match &args.to {
        Some(to) => {
            // A name means a queue beside the dead-letter queue.
            let target = if to.contains("://") || !args.queue.contains("://") {
                find(to, args.endpoint.as_deref(), aws).await?
            } else {
                let found = queue.named(to).await;
                found.map_err(|error| ProducerError::Queue {
                    queue: to.clone(),
                    endpoint: args.queue.clone(),
                    reason: error.to_string(),
                })?
            };
            vec![target]
        }
        None => sources(queue).await?,
    };
    if found.iter().any(|target| target.url() == queue.url()) {
        return Err(ProducerError::SameQueue(queue.facts().name.clone()));
    }
    Ok(Destinations(found.into_iter().map(Arc::new).collect()))
}

/// The queues whose redrive policies name `queue`. Servers that cannot tell are asked
/// about `NAME` for `NAME-dlq`.
/// `NAME` of `NAME-dlq`, and `NAME.fifo` of `NAME-dlq.fifo`.
fn likely_source(dead_letters: &str) -> Option<String> {
    match dead_letters.strip_suffix(FIFO_SUFFIX) {
        Some(name) => Some(format!(
            "{}{FIFO_SUFFIX}",
            name.strip_suffix(DEAD_LETTER_SUFFIX)?
        )),
        None => dead_letters
            .strip_suffix(DEAD_LETTER_SUFFIX)
            .map(str::to_owned),
    }
}

async fn sources(queue: &SqsSource) -> Result<Vec<SqsSource>, ProducerError> {
    let name = &queue.facts().name;
    let unknown = |reason: String| ProducerError::NoSource {
        queue: name.clone(),
        reason,
    };
    let reason = match queue.dead_letter_sources().await {
        Ok(sources) if !sources.is_empty() => return Ok(sources),
        Ok(_) => "no redrive policy names it".to_owned(),
        Err(CallError::Failed(reason)) => return Err(unknown(reason)),
        Err(CallError::Refused(reason)) => reason,
    };
    let Some(likely) = likely_source(name) else {
        return Err(unknown(reason));
    };
    let policy = async {
        let source = queue.named(&likely).await?;
        let target = source.dead_letter_queue().await?;
        Ok::<_, CallError>((source, target))
    };
    match policy.await {
        Ok((source, Some(target))) if target == *name => Ok(vec![source]),
        Ok(_) | Err(CallError::Refused(_)) => Err(unknown(reason)),
        Err(CallError::Failed(reason)) => Err(unknown(reason)),
    }
}

fn conclude(
    args: &RedriveArgs,
    names: &[String],
    tallied: Tallied,
    signal: Option<&'static str>,
) -> Result<(), ProducerError> {
    let Tallied { account, .. } = &tallied;
    let moved = if args.dry_run { "Would move" } else { "Moved" };
    for (name, count) in names.iter().zip(&tallied.moved) {
        if *count > 0 || names.len() == 1 {
            printer::line(format_args!("{moved} {count} messages to {name}"));
        }
    }
    printer::line(format_args!(
        "Done {}: {} left, {} without a known source, {} failed, {} sent but not deleted, {} \
         retries",
        account.speed(),
        tallied.left,
        tallied.homeless,
        account.failed,
        tallied.undeleted,
        account.retries
    ));
    let account = tallied.account;
    if let Some(reason) = account.gave_up {
        let queue = args.queue.clone();
        return Err(ProducerError::GaveUp { queue, reason });
    }
    if let Some(reason) = account.first_failure {
        let failed = account.failed;
        return Err(ProducerError::Failed { failed, reason });
    }
    match signal {
        Some(signal) => Err(ProducerError::Stopped { signal }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_dead_letter_queue_is_guessed_by_its_name() {
        for (name, likely) in [
            ("jobs-dlq", Some("jobs")),
            ("jobs-dlq.fifo", Some("jobs.fifo")),
            ("jobs.fifo-dlq", Some("jobs.fifo")),
            ("jobs", None),
            ("jobs.fifo", None),
        ] {
            assert_eq!(likely_source(name).as_deref(), likely, "{name}");
        }
    }
}
