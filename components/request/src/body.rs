//! Bodies, read whole within a limit.

use futures::{Stream, StreamExt};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It has more bytes than the limit.
    TooLarge,
    /// It ended before its announced end.
    Broken,
}

/// Reads at most `limit` bytes of a request; what is announced as larger is not
/// read at all.
#[cfg(target_family = "wasm")]
pub async fn read_body(request: spin_sdk::http::IncomingRequest, limit: usize) -> Body {
    let announced = request.headers().get("content-length");
    let announced = announced
        .first()
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit as u64) {
        return Body::TooLarge;
    }
    read(request.into_body_stream(), limit).await
}

/// Reads at most `limit` bytes.
pub async fn read<E>(stream: impl Stream<Item = Result<Vec<u8>, E>>, limit: usize) -> Body {
    let mut stream = std::pin::pin!(stream);
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else {
            return Body::Broken;
        };
        if body.len() + chunk.len() > limit {
            return Body::TooLarge;
        }
        body.extend(chunk);
    }
    Body::Whole(body)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::stream;

    use super::*;

    #[test]
    fn a_body_has_a_limit() {
        let chunks = |sizes: &'static [usize]| {
            let chunks = sizes.iter().map(|size| Ok::<_, ()>(vec![0; *size]));
            stream::iter(chunks)
        };
        assert_eq!(block_on(read(chunks(&[2, 2]), 4)), Body::Whole(vec![0; 4]));
        assert_eq!(block_on(read(chunks(&[2, 3]), 4)), Body::TooLarge);
        let broken = stream::iter([Ok(vec![0]), Err(())]);
        assert_eq!(block_on(read(broken, 4)), Body::Broken);
    }
}
