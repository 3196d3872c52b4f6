//! Calls to other services over HTTP: each step has a time limit, and each
//! answer a size. Errors are for the log: they may name addresses.

#[cfg(target_family = "wasm")]
use std::time::Duration;

/// For connecting, for the first byte, and between bytes. On Spin, the time to the
/// first byte includes sending, so a body gets more by its size.
#[cfg(target_family = "wasm")]
const TIMEOUT: Duration = Duration::from_secs(5);

/// The slowest sending that is waited for.
#[cfg(target_family = "wasm")]
const BYTES_PER_SECOND: usize = 256 * 1024;

/// A request that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// In upper case.
    pub method: &'static str,
    /// With scheme and host.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty where the method has none.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Call {
    /// A request without headers and body.
    pub fn new(method: &'static str, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it and reads the whole answer, of at most `max_bytes`. `service` is
    /// how errors call the other side, as in `the queue`.
    #[cfg(target_family = "wasm")]
    pub async fn send(self, service: &str, max_bytes: usize) -> Result<Answer, String> {
        use futures::SinkExt;
        use request::Body;
        use spin_sdk::http::Request;
        use spin_sdk::http::conversions::TryIntoOutgoingRequest;
        use spin_sdk::wit::wasi::http0_2_0::outgoing_handler;

        let mut request = Request::builder();
        request.method(method(self.method)).uri(self.url);
        for (name, value) in self.headers {
            request.header(name, value);
        }
        // Without a length, an empty body would go out in chunks.
        if !["GET", "HEAD"].contains(&self.method) {
            request.header("content-length", self.body.len().to_string());
        }
        let (request, _) = request
            .build()
            .try_into_outgoing_request()
            .map_err(|error| error.to_string())?;
        let mut body = request.take_body();
        let answer = outgoing_handler::handle(request, Some(time_limits(self.body.len())))
            .map_err(|error| format!("the request to {service} cannot be sent: {error}"))?;
        // A body that cannot be written shows in the answer, with its reason.
        let _ = body.send(self.body).await;
        drop(body);
        answer.subscribe().block();
        let response = answer
            .get()
            .and_then(Result::ok)
            .ok_or_else(|| format!("{service} gave no answer"))?
            .map_err(|error| format!("{service} cannot be reached: {error}"))?;
        let status = response.status();
        match request::read(response.take_body_stream(), max_bytes).await {
            Body::Whole(body) => Ok(Answer { status, body }),
            Body::TooLarge => Err(format!(
                "the answer of {service} has over {max_bytes} bytes"
            )),
            Body::Broken => Err(format!("the answer of {service} ended early")),
        }
    }
}

#[cfg(target_family = "wasm")]
fn method(name: &str) -> spin_sdk::http::Method {
    use spin_sdk::http::Method;
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    }
}

#[cfg(target_family = "wasm")]
fn time_limits(body_bytes: usize) -> spin_sdk::wit::wasi::http0_2_0::types::RequestOptions {
    let options = spin_sdk::wit::wasi::http0_2_0::types::RequestOptions::new();
    let nanoseconds = TIMEOUT.as_nanos() as u64;
    let sending = Duration::from_secs((body_bytes / BYTES_PER_SECOND) as u64);
    let first_byte = (TIMEOUT + sending).as_nanos() as u64;
    // A host without these limits has limits of its own.
    let _ = options.set_connect_timeout(Some(nanoseconds));
    let _ = options.set_first_byte_timeout(Some(first_byte));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds));
    options
}
