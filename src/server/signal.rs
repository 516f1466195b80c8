//! SIGTERM and SIGINT ask for a drain, SIGHUP to read files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on, signals are kept for us instead of ending the process.
    pub(super) fn listen() -> io::Result<Self> {
        // Nobody may be waiting for it, and yet a reload that was asked for must not end the process.
        drop(hangups()?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn stop_requested(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Each SIGHUP from now on. There can be several of these.
pub(super) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
