//! One handshake: bounded in time, counted by how it ended.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::{CertificateError, OtherError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock as _, SteadyClock};
use crate::domain::san::San;
use crate::server::tls::client::NotAllowed;
use crate::server::tls::{Tls, certificate};
use crate::telemetry::throttles::Throttles;

/// A client that is slower than this is not a client.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a refused client has to read why.
const LINGER: Duration = Duration::from_secs(1);

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The client's certificate is good and its names are not on the list.
    NotAllowed,
    /// The client has no certificate, or none of our CA.
    BadCertificate,
    /// It does not speak TLS, or not ours.
    Failed,
    TimedOut,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] = [
        Self::Done,
        Self::NotAllowed,
        Self::BadCertificate,
        Self::Failed,
        Self::TimedOut,
    ];

    /// Its word in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotAllowed => "not_allowed",
            Self::BadCertificate => "bad_certificate",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// How many ended how.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    counts: [AtomicU64; Outcome::ALL.len()],
    log_throttles: Throttles,
}

impl Handshakes {
    fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether to say that a client was refused for this cause: a client may come back at once, for ever.
    fn admit(&self, cause: &dyn Error) -> Option<u64> {
        self.log_throttles
            .admit(&cause.to_string(), SteadyClock.now())
    }

    pub(super) fn read(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize].load(Ordering::Relaxed)
    }
}

impl Tls {
    /// The connection in TLS and its client's names; `None` when there is nothing to serve.
    pub(in crate::server) async fn accept(
        &self,
        stream: TcpStream,
        stop: &CancellationToken,
    ) -> Option<(TlsStream<TcpStream>, Vec<San>)> {
        let peer = stream.peer_addr().ok();
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().config));
        let accepting = acceptor.accept(stream).into_fallible();
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting);
        let ended = tokio::select! {
            () = stop.cancelled() => return None,
            ended = handshake => ended,
        };
        let (error, stream) = match ended {
            Ok(Ok(stream)) => {
                self.handshakes.count(Outcome::Done);
                let sans = peer_names(&stream);
                return Some((stream, sans));
            }
            Ok(Err(refused)) => refused,
            Err(_) => {
                self.handshakes.count(Outcome::TimedOut);
                tracing::debug!(listener = self.listener, ?peer, "a handshake took too long");
                return None;
            }
        };
        self.refused(&error, peer);
        linger(stream).await;
        None
    }

    fn refused(&self, error: &io::Error, peer: Option<SocketAddr>) {
        let (outcome, cause) = explain(error);
        self.handshakes.count(outcome);
        let listener = self.listener;
        if matches!(outcome, Outcome::Failed) {
            // Probes and scanners: everybody who can reach the port can cause this.
            tracing::debug!(listener, ?peer, error = cause, "a handshake failed");
        } else if let Some(held_back) = self.handshakes.admit(cause) {
            tracing::warn!(
                listener,
                ?peer,
                error = cause,
                held_back,
                "a client was refused"
            );
        }
    }
}

/// Waits for the client to close. Closing first, with something of the client's unread, would reset the
/// connection, and the alert that says why it was refused could be lost with it.
async fn linger(mut stream: TcpStream) {
    let until_closed = async {
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(LINGER, until_closed).await {
        // However it ends: nobody is served here.
        Ok(Ok(()) | Err(_)) | Err(_) => {}
    }
}

fn peer_names(stream: &TlsStream<TcpStream>) -> Vec<San> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    chain.first().map(certificate::sans).unwrap_or_default()
}

fn explain(error: &io::Error) -> (Outcome, &(dyn Error + 'static)) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))))
            if other.is::<NotAllowed>() =>
        {
            (Outcome::NotAllowed, other.as_ref())
        }
        Some(
            tls @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented),
        ) => (Outcome::BadCertificate, tls),
        Some(_) | None => (Outcome::Failed, error),
    }
}
