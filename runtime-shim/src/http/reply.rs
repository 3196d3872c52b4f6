//! The beginning of a response: enough to tell why something failed. The rest is
//! read and dropped, because a response is over when its body is.

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;

/// Bytes of a response's body that are kept.
const MAX_KEPT: usize = 2048;

/// Reads `response` to its end and keeps the beginning of its body.
pub async fn read<B>(response: Response<B>) -> Result<Response<Bytes>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = response.into_parts();
    let mut kept = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = MAX_KEPT - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(Response::from_parts(head, kept.freeze()))
}
