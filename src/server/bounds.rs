//! How much of this process the peers of one listener can take.

use std::error::Error;
use std::time::Duration;

use crate::admin;
use crate::config::{Admin, Authz, Injector, Ops};

use crate::ext_authz::service::Overloaded;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// All that is held of unfinished requests, on every listener together, beside what `authz.max_message_bytes` asks for.
const PROCESS_BYTES: usize = 96 * MIB;

/// An error of a body, for whoever reads it.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) listener: &'static str,
    pub(super) connections: usize,
    /// A connection on which nothing is under way for so long is closed.
    pub(super) idle_timeout: Duration,
    /// Since when nothing must be under way on a connection before it gives way to another when all places are taken.
    pub(super) gives_way_after: Duration,
    /// Requests at once on one connection.
    pub(super) streams: u32,
    /// What a peer may send on one stream, and on all of a connection, before we have read it.
    pub(super) windows: (u32, u32),
    /// The longest head of HTTP/1.1.
    pub(super) head_bytes: usize,
    /// What is held of unfinished requests, on one connection and on all.
    pub(super) unfinished_bytes: (usize, usize),
    /// How long a body may take; whoever reads has a bound of their own where there is none.
    pub(super) body_timeout: Option<Duration>,
    /// What whoever reads is told when there is no room.
    pub(super) overloaded: fn() -> BodyError,
}

impl Bounds {
    pub(super) fn authz(config: &Authz) -> Self {
        let message = config.max_message_bytes.0;
        Self {
            listener: "authz",
            connections: config.max_connections,
            idle_timeout: config.idle_timeout.0,
            // Envoy's own: each costs a handshake, so they give way only when they seem forgotten.
            gives_way_after: Duration::from_secs(30),
            // As Envoy's own default; more wait in Envoy.
            streams: 1024,
            windows: (1 << 20, 1 << 20),
            head_bytes: 16 * KIB,
            unfinished_bytes: ((16 * MIB).max(2 * message), (64 * MIB).max(4 * message)),
            body_timeout: None,
            overloaded: || Box::new(Overloaded),
        }
    }

    pub(super) fn admin(config: &Admin) -> Self {
        Self {
            listener: "admin",
            connections: config.max_connections,
            idle_timeout: config.idle_timeout.0,
            gives_way_after: Duration::ZERO,
            streams: 64,
            windows: (1 << 18, 1 << 20),
            head_bytes: 128 * KIB,
            unfinished_bytes: (8 * MIB, 32 * MIB),
            body_timeout: Some(Duration::from_secs(30)),
            overloaded: || Box::new(admin::overloaded()),
        }
    }

    pub(super) fn injector(config: &Injector) -> Self {
        Self {
            listener: "injector",
            connections: config.max_connections,
            idle_timeout: config.idle_timeout.0,
            gives_way_after: Duration::ZERO,
            streams: 64,
            windows: (1 << 18, 1 << 20),
            head_bytes: 16 * KIB,
            unfinished_bytes: (16 * MIB, 48 * MIB),
            body_timeout: Some(Duration::from_secs(10)),
            overloaded: || Box::new(Overloaded),
        }
    }

    pub(super) fn ops(config: &Ops) -> Self {
        Self {
            listener: "ops",
            connections: config.max_connections,
            idle_timeout: config.idle_timeout.0,
            gives_way_after: Duration::ZERO,
            streams: 8,
            windows: (1 << 16, 1 << 16),
            head_bytes: 16 * KIB,
            unfinished_bytes: (64 * KIB, MIB),
            body_timeout: Some(Duration::from_secs(5)),
            overloaded: || Box::new(Overloaded),
        }
    }
}

/// The bound for all listeners together.
pub(super) fn process_bytes(authz: Option<&Authz>) -> usize {
    let message = authz.map_or(0, |authz| authz.max_message_bytes.0);
    PROCESS_BYTES.max(6 * message)
}
