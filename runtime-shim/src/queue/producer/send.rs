//! `gristmill send`: bodies into batches, batches to the queue, several at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::deliver::{Delivery, deliver};
use super::find::find;
use super::input::{Input, Next};
use super::pace::Pace;
use super::{BATCH, GivenAttribute, Outgoing, ProducerError, until_stopped};
use crate::aws::AwsSettings;
use crate::cli::SendArgs;
use crate::drain::StopSignals;
use crate::printer::{self, Tally};
use crate::queue::message::CustomAttribute;
use crate::queue::source;
use crate::queue::source::MAX_MESSAGE_BYTES;
use crate::queue::sqs::SqsSource;
use crate::settings::Environment;

/// What stands for the number of a message in `--group` and `--dedup-id`.
const NUMBER: &str = "{n}";
/// How long a batch that is not full waits for company while another is under way. A
/// lone message does not wait at all.
const LINGER: Duration = Duration::from_millis(5);

/// Sends what `args` say, and prints the account.
pub async fn send(
    args: SendArgs,
    mut signals: StopSignals,
    environment: &Environment,
) -> Result<(), ProducerError> {
    let aws = AwsSettings::from_environment(environment);
    let queue = find(&args.queue, args.endpoint.as_deref(), &aws).await?;
    let fifo = source::is_fifo(queue.url());
    if fifo && args.group.is_none() {
        return Err(ProducerError::NoGroup(args.queue));
    }
    if fifo && args.delay.is_some() {
        return Err(ProducerError::FifoDelay(args.queue));
    }
    let (input, total) = match (&args.body, &args.file) {
        (Some(body), _) => {
            let body = body.as_str().into();
            let left = args.count;
            (Input::Repeated { body, left }, Some(left))
        }
        (None, Some(file)) => Input::lines(file).await?,
        (None, None) => Input::lines("-".as_ref()).await?,
    };
    let stop = CancellationToken::new();
    let run = Run {
        // Batches that overtake each other would break the order of a group.
        lanes: if fifo { 1 } else { args.concurrency.into() },
        template: Template::new(&args),
        pace: Pace::new(args.rate),
        queue: Arc::new(queue),
        flights: JoinSet::new(),
        account: Account::new(),
        bar: Tally::new(total),
        stop: stop.clone(),
    };
    let (account, signal) = until_stopped(&mut signals, &stop, run.finish(input)).await?;
    conclude(&args.queue, account, signal)
}

fn conclude(
    queue: &str,
    (account, input): (Account, Result<(), ProducerError>),
    signal: Option<&'static str>,
) -> Result<(), ProducerError> {
    printer::line(format_args!(
        "Sent {} messages {}, {} failed, {} retries",
        account.sent,
        account.speed(),
        account.failed,
        account.retries
    ));
    if let Some(reason) = account.gave_up {
        let queue = queue.to_owned();
        return Err(ProducerError::GaveUp { queue, reason });
    }
    input?;
    if let Some(reason) = account.first_failure {
        let failed = account.failed;
        return Err(ProducerError::Failed { failed, reason });
    }
    match signal {
        Some(signal) => Err(ProducerError::Stopped { signal }),
        None => Ok(()),
    }
}

/// What all messages of a run have in common.
struct Template {
    attributes: Arc<[CustomAttribute]>,
    delay_secs: Option<u16>,
    group: Option<String>,
    dedup_id: Option<String>,
    count: u64,
}

impl Template {
    fn new(args: &SendArgs) -> Self {
        let attributes = args.attributes.iter().cloned();
        Self {
            attributes: attributes.map(GivenAttribute::into_custom).collect(),
            delay_secs: args.delay,
            group: args.group.clone(),
            dedup_id: args.dedup_id.clone(),
            count: 0,
        }
    }

    /// The next message.
    fn fill(&mut self, body: Arc<str>) -> Outgoing {
        self.count += 1;
        let number = self.count.to_string();
        let numbered = |text: &String| text.replace(NUMBER, &number);
        Outgoing {
            body,
            attributes: Arc::clone(&self.attributes),
            trace_header: None,
            delay_secs: self.delay_secs,
            group: self.group.as_ref().map(numbered),
            dedup_id: self.dedup_id.as_ref().map(numbered),
        }
    }
}

struct Run {
    queue: Arc<SqsSource>,
    lanes: usize,
    template: Template,
    pace: Pace,
    flights: JoinSet<Delivery>,
    account: Account,
    bar: Tally,
    stop: CancellationToken,
}

/// Up to ten messages of 1 MiB in all.
#[derive(Default)]
struct Batch {
    messages: Vec<Outgoing>,
    bytes: usize,
}

impl Batch {
    fn has_room_for(&self, message: &Outgoing) -> bool {
        self.messages.len() < BATCH && self.bytes + message.size() <= MAX_MESSAGE_BYTES
    }

    fn push(&mut self, message: Outgoing) {
        self.bytes += message.size();
        self.messages.push(message);
    }
}

impl Run {
    /// Sends until the input ends, fails, or the run stops; then waits for what is
    /// under way.
    async fn finish(mut self, mut input: Input) -> (Account, Result<(), ProducerError>) {
        let mut batch = Batch::default();
        let read = loop {
            match self.next(&mut input, &mut batch).await {
                Ok(Some(body)) => self.add(&mut batch, body).await,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.flush(&mut batch).await;
        while let Some(flight) = self.flights.join_next().await {
            self.absorb(flight);
        }
        (self.account, read)
    }

    /// The next body when it is due; none when there are no more. What waits in
    /// `batch` is sent before anything is waited for.
    async fn next(
        &mut self,
        input: &mut Input,
        batch: &mut Batch,
    ) -> Result<Option<Arc<str>>, ProducerError> {
        if self.stop.is_cancelled() || self.account.gave_up.is_some() {
            return Ok(None);
        }
        let due = self.pace.due();
        if due > Instant::now() {
            self.flush(batch).await;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.cancelled() => return Ok(None),
            }
        }
        match input.try_next()? {
            Next::Body(body) => Ok(Some(body)),
            Next::End => Ok(None),
            Next::NotYet => {
                if !self.flights.is_empty()
                    && let Ok(body) = tokio::time::timeout(LINGER, input.next()).await
                {
                    return body;
                }
                self.flush(batch).await;
                self.wait_for(input).await
            }
        }
    }

    /// While the input is waited for, what is under way is still accounted.
    async fn wait_for(&mut self, input: &mut Input) -> Result<Option<Arc<str>>, ProducerError> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                Some(flight) = self.flights.join_next() => {
                    self.absorb(flight);
                    if self.account.gave_up.is_some() {
                        return Ok(None);
                    }
                }
                body = input.next() => return body,
            }
        }
    }

    async fn add(&mut self, batch: &mut Batch, body: Arc<str>) {
        self.pace.take(1);
        let message = self.template.fill(body);
        if let Some(flaw) = message.flaw() {
            let number = self.template.count;
            self.account.fail(format!("message {number}: {flaw}"));
            self.bar.add(1);
            return;
        }
        if !batch.has_room_for(&message) {
            self.flush(batch).await;
        }
        batch.push(message);
        if batch.messages.len() == BATCH {
            self.flush(batch).await;
        }
    }

    /// Sends the batch as soon as a lane is free, unless that was found to be pointless.
    async fn flush(&mut self, batch: &mut Batch) {
        let messages = std::mem::take(batch).messages;
        if messages.is_empty() {
            return;
        }
        while self.flights.len() >= self.lanes {
            if let Some(flight) = self.flights.join_next().await {
                self.absorb(flight);
            }
        }
        if self.account.gave_up.is_some() {
            self.account.failed += messages.len() as u64;
            return;
        }
        let queue = Arc::clone(&self.queue);
        self.flights
            .spawn(async move { deliver(&queue, &messages).await });
        while let Some(flight) = self.flights.try_join_next() {
            self.absorb(flight);
        }
    }

    fn absorb(&mut self, flight: Result<Delivery, tokio::task::JoinError>) {
        let delivery = match flight {
            Ok(delivery) => delivery,
            Err(error) => {
                self.account.gave_up = Some(format!("a batch ended unexpectedly: {error}"));
                return;
            }
        };
        self.account.retries += delivery.retries;
        self.bar.add(delivery.outcomes.len() as u64);
        for outcome in delivery.outcomes {
            match outcome {
                None => self.account.sent += 1,
                Some(reason) => self.account.fail(reason),
            }
        }
        if let Some(reason) = delivery.gave_up {
            self.account.gave_up.get_or_insert(reason);
        }
    }
}
