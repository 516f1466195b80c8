//! One message each way (gRPC over HTTP/2, "Length-Prefixed-Message").

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::ext_authz::response::Answer;
use crate::grpc::{PREFIX_LEN, Prefix};

/// Why a request could not be read. All of these a client could bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    #[error("it is larger than {0} bytes with what the proxy adds")]
    TooLarge(usize),
    #[error("it was cut short")]
    CutShort,
    #[error("it could not be read")]
    Unreadable,
    #[error("there was no room for it")]
    Overloaded,
}

/// An error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a body ends with when there is no room for it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many unfinished requests are held already")]
pub struct Overloaded;

/// Reads the one message of a unary call. Stops as soon as its length is known to be too much.
pub(super) async fn read_message<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin>(
    mut body: B,
    len_max: usize,
) -> Result<Bytes, MessageError> {
    let mut first = next_chunk(&mut body).await?;
    // Usually the whole message is in one frame and nothing is copied.
    if let Some(len) = message_len(&first, len_max)?
        && first.len() >= PREFIX_LEN + len
    {
        first.advance(PREFIX_LEN);
        return Ok(first.slice(..len));
    }
    let mut buffer = BytesMut::from(&first[..]);
    loop {
        if let Some(len) = message_len(&buffer, len_max)?
            && buffer.len() >= PREFIX_LEN + len
        {
            buffer.advance(PREFIX_LEN);
            return Ok(buffer.split_to(len).freeze());
        }
        buffer.extend_from_slice(&next_chunk(&mut body).await?);
    }
}

async fn next_chunk<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin>(
    body: &mut B,
) -> Result<Bytes, MessageError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.into().is::<Overloaded>() {
            true => MessageError::Overloaded,
            false => MessageError::CutShort,
        })?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(data);
        }
    }
    Err(MessageError::CutShort)
}

/// The message's length, once enough has come to know it.
fn message_len(bytes: &[u8], len_max: usize) -> Result<Option<usize>, MessageError> {
    let Some(prefix) = Prefix::read(bytes) else {
        return Ok(None);
    };
    if prefix.compressed {
        // Compressed: we offer no encoding, so nobody may use one.
        return Err(MessageError::Unreadable);
    }
    let len = usize::try_from(prefix.len).unwrap_or(usize::MAX);
    if len > len_max {
        Err(MessageError::TooLarge(len_max))
    } else {
        Ok(Some(len))
    }
}

/// The answer's message and its trailers.
#[derive(Debug)]
pub struct AnswerBody {
    message: Option<Bytes>,
    trailers_sent: bool,
}

impl AnswerBody {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            message: Some(answer.into_framed()),
            trailers_sent: false,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if self.trailers_sent {
            return Poll::Ready(None);
        }
        self.trailers_sent = true;
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.trailers_sent
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
