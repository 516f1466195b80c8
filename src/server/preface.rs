//! The preface timeout: hyper waits without a limit for the first bytes of a connection, from which it learns the
//! version of HTTP. A thousand silent peers would take every place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What HTTP/2 begins with; no request of HTTP/1.1 is shorter, since it has a `host`.
const PREFACE_LEN: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A stream that counts the bytes received.
pub(super) struct CountingStream<S> {
    stream: S,
    received: Arc<AtomicUsize>,
}

/// The bytes received so far.
pub(super) struct PrefaceTimeout(Arc<AtomicUsize>);

impl<S> CountingStream<S> {
    pub(super) fn new(stream: S) -> (Self, PrefaceTimeout) {
        let received = Arc::new(AtomicUsize::new(0));
        let counting = Self {
            stream,
            received: Arc::clone(&received),
        };
        (counting, PrefaceTimeout(received))
    }
}

impl PrefaceTimeout {
    /// Returns if the preface has not arrived within that time; else never.
    pub(super) async fn missed(self, timeout: Duration) {
        tokio::time::sleep(timeout).await;
        if self.0.load(Ordering::Relaxed) >= PREFACE_LEN {
            std::future::pending::<()>().await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received
            .fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    // Never vectored, whatever the stream can do: h2 then copies frames of up to 1,024 bytes into its buffer instead of
    // 256, so that the answers of several Checks leave in one write.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    async fn gives_up_on(sent: &[u8]) -> bool {
        let (mut peer, ours) = tokio::io::duplex(256);
        let (mut stream, preface) = CountingStream::new(ours);
        peer.write_all(sent).await.unwrap();
        stream.read_exact(&mut vec![0; sent.len()]).await.unwrap();
        timeout(SHORT * 5, preface.missed(SHORT)).await.is_ok()
    }

    #[tokio::test]
    async fn answers_are_joined_before_they_are_written() {
        let (_peer, ours) = tokio::net::UnixStream::pair().unwrap();
        assert!(ours.is_write_vectored(), "or there is nothing to hide");
        assert!(!CountingStream::new(ours).0.is_write_vectored());
    }

    #[tokio::test]
    async fn a_connection_without_a_preface_times_out_and_one_with_a_request_does_not() {
        assert!(gives_up_on(b"").await);
        assert!(gives_up_on(b"PRI * HTTP/2.0\r\n").await);
        assert!(!gives_up_on(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await);
        assert!(!gives_up_on(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await);
    }
}
