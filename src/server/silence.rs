//! Connections on which nothing is said. hyper waits for ever to learn which HTTP a peer speaks; a thousand peers that
//! say nothing would take every place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What HTTP/2 begins with; no request of HTTP/1.1 is shorter, since it has a `host`.
const FIRST_WORDS_LEN: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A stream that counts what the peer says.
pub(super) struct Listened<S> {
    stream: S,
    heard: Arc<AtomicUsize>,
}

/// How much the peer has said so far.
pub(super) struct Heard(Arc<AtomicUsize>);

impl<S> Listened<S> {
    pub(super) fn new(stream: S) -> (Self, Heard) {
        let heard = Arc::new(AtomicUsize::new(0));
        let listened = Self {
            stream,
            heard: Arc::clone(&heard),
        };
        (listened, Heard(heard))
    }
}

impl Heard {
    /// Ends if the peer has not said in that time which HTTP it speaks; else never.
    pub(super) async fn nothing_for(self, patience: Duration) {
        tokio::time::sleep(patience).await;
        if self.0.load(Ordering::Relaxed) >= FIRST_WORDS_LEN {
            std::future::pending::<()>().await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.heard
            .fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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

    async fn gives_up_on(said: &[u8]) -> bool {
        let (mut peer, ours) = tokio::io::duplex(256);
        let (mut stream, heard) = Listened::new(ours);
        peer.write_all(said).await.unwrap();
        stream.read_exact(&mut vec![0; said.len()]).await.unwrap();
        timeout(SHORT * 5, heard.nothing_for(SHORT)).await.is_ok()
    }

    #[tokio::test]
    async fn a_peer_that_says_too_little_is_given_up_and_one_that_asks_is_not() {
        assert!(gives_up_on(b"").await);
        assert!(gives_up_on(b"PRI * HTTP/2.0\r\n").await);
        assert!(!gives_up_on(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await);
        assert!(!gives_up_on(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await);
    }
}
