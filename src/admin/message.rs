//! The message of a call, read before tonic sees it. Tonic makes room for as much as a message says that it is long before any
//! of it has come, and what is made is wiped when it is freed: six bytes would cost as much as the largest message.

use axum::body::Body;
use http_body_util::BodyExt as _;
use tonic::Status;

use crate::grpc::{PREFIX_LEN, Prefix};

/// The one message of a call with an answer of one. What says that it is longer than `max` is refused further on, by what it
/// says, and so is what ends too early.
pub(super) async fn read(mut body: Body, max: usize) -> Result<Body, Status> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::from_error(error.into_inner()))?;
        if let Ok(data) = frame.into_data() {
            kept.extend_from_slice(&data);
        }
        if kept.len() > max.saturating_add(PREFIX_LEN)
            || length(&kept).is_some_and(|said| said > max)
        {
            break;
        }
    }
    kept.truncate(believed(&kept, max));
    Ok(kept.into())
}

fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(Prefix::read(bytes)?.len).ok()
}

/// How much of what was sent is shown: one message, or a part of its head if there is no whole one.
fn believed(bytes: &[u8], max: usize) -> usize {
    match length(bytes) {
        None => bytes.len(),
        Some(said) if said > max => PREFIX_LEN,
        Some(said) if said + PREFIX_LEN <= bytes.len() => said + PREFIX_LEN,
        Some(_) => PREFIX_LEN - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was sent, and how much of it is shown.
    #[tokio::test]
    async fn a_message_is_shown_whole_or_as_one_that_is_not() {
        for (sent, shown) in [
            (&b""[..], 0),
            (b"\0\0\0\0", 4),
            (b"\0\0\0\0\0", 5),
            (b"\0\0\0\0\x02ab", 7),
            (b"\0\0\0\0\x02a", 4),
            (b"\0\0\0\0\x02abc", 7),
            (b"\0\0\0\0\x02ab\0\0\0\0\x08", 7),
            (b"\0\0\0\0\x09", 5),
            (b"\0\0\0\0\x09abcdefghi", 5),
            (b"\0\xff\xff\xff\xff", 5),
        ] {
            let body = read(Body::from(sent), 8).await.unwrap();
            let read = body.collect().await.unwrap().to_bytes();
            assert_eq!(read, sent[..shown], "{sent:?}");
        }
    }
}
