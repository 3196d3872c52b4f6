//! The queues of a run: the one that is scaled, its dead letters, and one to measure with.

use super::LiveError;
use super::endpoint::Endpoint;
use super::sqs::{Sqs, SqsError};
use crate::scenario::Scenario;

/// URLs of the queues of a run.
pub(super) struct Queues {
    pub(super) main: String,
    pub(super) dead: String,
    pub(super) trial: String,
}

impl Queues {
    /// Queues that nobody else has: their names hold the time.
    pub(super) async fn create(
        endpoint: &Endpoint,
        scenario: &Scenario,
    ) -> Result<Self, LiveError> {
        let sqs = Sqs::new(&endpoint.url);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let name = format!("scale-lab-{}", now.unwrap_or_default().as_millis());
        let visibility = scenario.sqs.visibility_timeout.div_f64(scenario.live.speed);
        let visibility = visibility.as_secs_f64().ceil().max(1.0) as u64;
        // Dead letters are received once, at the end.
        let hour = 3_600;
        let dead = sqs.create(&format!("{name}-dlq"), hour, None).await?;
        let receives = scenario.sqs.max_receive_count;
        Ok(Self {
            main: sqs
                .create(&name, visibility, Some((&dead, receives)))
                .await?,
            trial: sqs
                .create(&format!("{name}-trial"), visibility, None)
                .await?,
            dead,
        })
    }

    pub(super) async fn delete(&self, endpoint: &Endpoint) -> Result<(), SqsError> {
        let sqs = Sqs::new(&endpoint.url);
        for queue in [&self.main, &self.trial, &self.dead] {
            sqs.delete(queue).await?;
        }
        Ok(())
    }
}
