//! Connections to the MQTT brokers that components name: a session for each
//! user, in which one message at a time is published and acknowledged. Knows no
//! topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS,
    TlsConfiguration, Transport,
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::backends::{Backend, Backends, CallError, TooManyBackends};
use crate::secret::Secret;
use crate::tls;

/// Sessions at once.
const MAX_SESSIONS: usize = 256;
/// Brokers and logins, which guests may make up as far as they are allowed to.
const MAX_BROKERS: usize = 64;
/// Seconds that connecting may take.
const CONNECT_SECS: u64 = 3;
/// How long a message may take until it is acknowledged, connecting included.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a session may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(1);
/// Seconds between signs of life. What the protocol has room for is 65,535.
const KEEP_ALIVE: std::ops::RangeInclusive<u64> = 1..=600;
/// Bytes of one message.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Topic and header beside it.
const MAX_HEADER: usize = 70_000;
/// Nothing is subscribed to: what comes is small.
const MAX_INCOMING: usize = 10 << 10;
/// Bytes of a text in the protocol.
const MAX_TEXT: usize = 65_535;
/// Of a guest's client id.
const MAX_CLIENT_ID: usize = 64;

/// A broker, and as whom to go there.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Broker {
    tls: bool,
    host: String,
    port: u16,
    username: String,
    password: Secret,
}

impl Broker {
    fn name(&self) -> String {
        format!("mqtt {}:{}", self.host, self.port)
    }

    /// Ids are never the same: the broker would close the elder connection.
    fn options(&self, client_id: &str, keep_alive: Duration) -> MqttOptions {
        let id = format!("{client_id}-{}", Uuid::new_v4().simple());
        let mut options = MqttOptions::new(id, &self.host, self.port);
        options.set_keep_alive(keep_alive);
        options.set_max_packet_size(MAX_INCOMING, MAX_PAYLOAD + MAX_HEADER);
        if !self.username.is_empty() {
            options.set_credentials(&self.username, self.password.expose());
        }
        if self.tls {
            let config = TlsConfiguration::Rustls(Arc::new(tls::client_config()));
            options.set_transport(Transport::tls_with_config(config));
        }
        options
    }

    fn connect(&self, client_id: &str, keep_alive: Duration) -> (AsyncClient, EventLoop) {
        // Room for a message and the good-bye.
        let (client, mut events) = AsyncClient::new(self.options(client_id, keep_alive), 2);
        events
            .network_options
            .set_connection_timeout(CONNECT_SECS)
            .set_tcp_nodelay(true);
        (client, events)
    }

    /// Connects anew and takes leave.
    async fn probe(&self) -> Result<(), ConnectionError> {
        let (client, mut events) = self.connect("gristmill-probe", ANSWER);
        events.poll().await?;
        if client.try_disconnect().is_ok() {
            while events.poll().await? != Event::Outgoing(Outgoing::Disconnect) {}
        }
        Ok(())
    }
}

/// Why there can be no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The address is not one.
    #[error("the address is not `mqtt://host[:port]` or `mqtts://host[:port]`")]
    Address,
    /// The protocol has no room for it.
    #[error("the user name or the password has more than {MAX_TEXT} bytes")]
    Login,
    /// There are as many sessions as may be.
    #[error("more than {MAX_SESSIONS} connections to MQTT brokers are in use")]
    TooManySessions,
    /// There are as many brokers as may be.
    #[error("more than {MAX_BROKERS} different MQTT brokers are in use")]
    TooManyBrokers,
    /// There are as many servers as may be.
    #[error(transparent)]
    TooManyBackends(#[from] TooManyBackends),
}

/// Why a message was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It cannot be published under this topic.
    #[error("the topic is empty, has a wildcard in it, or more than {MAX_TEXT} bytes")]
    Topic,
    /// The connection was not made, or broke.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    /// The session had ended before.
    #[error("the connection was closed")]
    Closed,
}

/// A broker that was named. Publishers share it, so that it shows who is left.
struct Known {
    backend: Arc<Backend>,
}

/// Every session of the process. Owns their tasks.
pub struct MqttSessions {
    brokers: Mutex<HashMap<Broker, Arc<Known>>>,
    backends: Backends,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl MqttSessions {
    /// None yet; the brokers are watched as part of `backends`.
    pub fn new(backends: Backends) -> Self {
        Self {
            brokers: Mutex::default(),
            backends,
            permits: Arc::new(Semaphore::new(MAX_SESSIONS)),
            tasks: TaskTracker::new(),
        }
    }

    /// A session with the broker at `url`, which connects when it is used.
    pub fn open(
        &self,
        url: &Url,
        username: String,
        password: &str,
        keep_alive_secs: u64,
    ) -> Result<Publisher, SessionError> {
        let tls = match url.scheme() {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(SessionError::Address),
        };
        if username.len() > MAX_TEXT || password.len() > MAX_TEXT {
            return Err(SessionError::Login);
        }
        let default_port = if tls { 8883 } else { 1883 };
        let broker = Broker {
            tls,
            host: url.host_str().ok_or(SessionError::Address)?.to_owned(),
            port: url.port().unwrap_or(default_port),
            username,
            password: Secret::from(password),
        };
        let mut parameters = url.query_pairs();
        let client_id = parameters.find(|(key, _)| key == "client_id");
        let client_id = client_id.map_or_else(
            || "gristmill".to_owned(),
            |(_, id)| id.chars().take(MAX_CLIENT_ID).collect(),
        );
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| SessionError::TooManySessions)?;
        Ok(Publisher {
            known: self.known(&broker)?,
            broker,
            client_id,
            keep_alive: Duration::from_secs(
                keep_alive_secs.clamp(*KEEP_ALIVE.start(), *KEEP_ALIVE.end()),
            ),
            permit: Arc::new(permit),
            tasks: self.tasks.clone(),
            session: None,
        })
    }

    fn known(&self, broker: &Broker) -> Result<Arc<Known>, SessionError> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = brokers.get(broker) {
            return Ok(Arc::clone(known));
        }
        if brokers.len() >= MAX_BROKERS
            && !self
                .backends
                .make_room(&mut brokers, |known: &Known| &known.backend)
        {
            return Err(SessionError::TooManyBrokers);
        }
        let probed = broker.clone();
        let backend = self.backends.watch(broker.name(), move || {
            let broker = probed.clone();
            async move { broker.probe().await.map_err(|error| error.to_string()) }
        })?;
        let known = Arc::new(Known { backend });
        brokers.insert(broker.clone(), Arc::clone(&known));
        Ok(known)
    }
}

/// One user's way to publish.
pub struct Publisher {
    broker: Broker,
    known: Arc<Known>,
    client_id: String,
    keep_alive: Duration,
    permit: Arc<OwnedSemaphorePermit>,
    tasks: TaskTracker,
    session: Option<Session>,
}

impl Publisher {
    /// The broker.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.known.backend
    }

    /// Sends a message once, and returns when it is acknowledged as `qos`
    /// demands; one without an acknowledgement, when it is written.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        qos: QoS,
    ) -> Result<(), CallError<PublishError>> {
        let mut session = match self.session.take() {
            Some(session) if session.is_open() => session,
            _ => self.start(),
        };
        let is_down = |error: &PublishError| matches!(error, PublishError::Lost(_));
        let call = session.publish(topic, payload, qos);
        let published = self.known.backend.call(ANSWER, is_down, call).await;
        // After anything else, acknowledgements may come that nobody waits for.
        if matches!(
            &published,
            Ok(()) | Err(CallError::Failed(PublishError::Topic))
        ) {
            self.session = Some(session);
        }
        published
    }

    fn start(&self) -> Session {
        let (client, events) = self.broker.connect(&self.client_id, self.keep_alive);
        let (sender, signals) = mpsc::channel(4);
        let over = CancellationToken::new();
        let stop = over.clone();
        let permit = Arc::clone(&self.permit);
        self.tasks.spawn(async move {
            tokio::select! {
                () = drive(events, sender) => {}
                () = async {
                    stop.cancelled().await;
                    tokio::time::sleep(FAREWELL).await;
                } => {}
            }
            // The connection counts until it is closed.
            drop(permit);
        });
        Session {
            client,
            signals,
            _over: over.drop_guard(),
        }
    }
}

/// What happens to the message under way.
enum Signal {
    Written,
    Received,
    Completed,
    Lost(ConnectionError),
}

/// A connection; it ends when this is dropped.
struct Session {
    client: AsyncClient,
    signals: mpsc::Receiver<Signal>,
    _over: DropGuard,
}

impl Session {
    fn is_open(&self) -> bool {
        !self.signals.is_closed()
    }

    async fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        qos: QoS,
    ) -> Result<(), PublishError> {
        if topic.is_empty() || topic.len() > MAX_TEXT || !rumqttc::valid_topic(topic) {
            return Err(PublishError::Topic);
        }
        // One message at a time: there is room unless the connection is gone.
        self.client
            .try_publish(topic, qos, false, payload)
            .map_err(|_| PublishError::Closed)?;
        loop {
            match (qos, self.signals.recv().await.ok_or(PublishError::Closed)?) {
                (_, Signal::Lost(error)) => return Err(error.into()),
                (QoS::AtMostOnce, Signal::Written)
                | (QoS::AtLeastOnce, Signal::Received)
                | (QoS::ExactlyOnce, Signal::Completed) => return Ok(()),
                _ => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where there is no room for it, the connection is closed without.
        let _ = self.client.try_disconnect();
    }
}

/// Keeps the connection going until it ends or is taken leave of.
async fn drive(mut events: EventLoop, signals: mpsc::Sender<Signal>) {
    loop {
        let signal = match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(_))) => Signal::Written,
            Ok(Event::Incoming(Packet::PubAck(_))) => Signal::Received,
            Ok(Event::Incoming(Packet::PubComp(_))) => Signal::Completed,
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => {
                // Polled again, it would connect again.
                let _ = signals.try_send(Signal::Lost(error));
                return;
            }
        };
        // A user who is gone has asked to take leave.
        if let Err(TrySendError::Full(_)) = signals.try_send(signal) {
            return;
        }
    }
}
