//! Connects, and remembers why the server ended it: in TLS 1.3 a client's certificate is refused only after the
//! client holds the handshake for done, and a channel that merely connects again would do so until its deadline.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};

use super::of_io;

/// What the server said when it ended a connection.
type Refusal = Arc<Mutex<Option<rustls::Error>>>;

/// Makes the connections of one channel.
#[derive(Clone)]
pub(in crate::cli) struct Connector {
    tls: TlsConnector,
    refusal: Refusal,
}

impl Connector {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            tls: TlsConnector::from(Arc::new(config)),
            refusal: Refusal::default(),
        }
    }

    /// A channel to an `https:` address.
    pub(in crate::cli) async fn connect(
        self,
        address: Uri,
        time_limit: Duration,
    ) -> Result<Channel, Error> {
        // The channel must not add TLS of its own; `origin` keeps what requests call the address.
        let plain = address.to_string().replacen("https:", "http:", 1);
        let endpoint = Endpoint::from_shared(plain)?
            .origin(address.clone())
            .connect_timeout(time_limit);
        let connect = tower::service_fn(move |_: Uri| {
            let (this, address) = (self.clone(), address.clone());
            async move { this.stream(&address).await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(connect).await
    }

    async fn stream(&self, uri: &Uri) -> io::Result<Watched> {
        if let Some(refusal) = self.refusal.lock().clone() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, refusal));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        Ok(Watched {
            stream: self.tls.connect(name, stream).await?,
            refusal: Arc::clone(&self.refusal),
        })
    }
}

/// A connection that keeps the reason of its end.
struct Watched {
    stream: TlsStream<TcpStream>,
    refusal: Refusal,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, into));
        if let Some(alert) = read.as_ref().err().and_then(of_io) {
            *self.refusal.lock() = Some(alert.clone());
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
