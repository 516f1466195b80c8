//! Starts the real programs (Keystile, Envoy, Redis) and speaks to them byte by byte.
//!
//! Nothing here knows what an answer should be; the tables do.

pub(crate) mod ca;
pub(crate) mod envoy;
pub(crate) mod grpc;
pub(crate) mod http1;
pub(crate) mod keystile;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod upstream;
pub(crate) mod wait;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

pub(crate) use wait::{PATIENCE, Stopwatch, let_pass, pass, wait_for, wait_until, wait_within};

/// For tests that use the whole machine: one of them at a time.
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The Python of `make setup`, with the packages that tests and examples need.
#[track_caller]
pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(python.exists(), "no {}: run `make setup`", python.display());
    python
}

/// A port that nobody listens on.
///
/// From below the range that the kernel gives to outgoing connections, so that no client socket takes it
/// between this look and the bind of the program that it is for.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + u16::try_from(std::process::id() % 18_000).expect("fits");
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Writes a file that holds a secret: its owner alone can read it.
pub(crate) fn write_secret(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
