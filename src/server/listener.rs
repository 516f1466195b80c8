//! Sockets: TCP and Unix. A stale Unix socket is removed, a live one never stolen.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Group, chown};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use crate::config::{self, ListenAddr};
use crate::server::places::Peer;
use crate::server::tls::Tls;

/// How many connections wait in the kernel until they are accepted.
const BACKLOG: u32 = 1024;

/// A bound socket.
pub(super) enum Listener {
    Tcp {
        listener: TcpListener,
        tls: Option<Arc<Tls>>,
    },
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A connection that came in.
pub(super) enum Socket {
    Tcp {
        stream: TcpStream,
        tls: Option<Arc<Tls>>,
    },
    Unix(UnixStream),
}

impl Socket {
    /// Where it comes from, if from an address.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp { stream, .. } => stream.peer_addr().ok().map(|address| address.ip()),
            Self::Unix(_) => None,
        }
    }
}

/// The path of a Unix socket of ours, removed when the listener is gone.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "cannot remove the socket file");
        }
    }
}

impl Listener {
    /// The next connection, and whose it is.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp { listener, tls } => {
                let (stream, address) = listener.accept().await?;
                // Answers are small: waiting to fill a packet would be most of their latency.
                stream.set_nodelay(true)?;
                let tls = tls.clone();
                Ok((Socket::Tcp { stream, tls }, Peer::at(address.ip())))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Peer::Local))
            }
        }
    }
}

/// Binds every address of a listener; TCP gets `tls`, Unix sockets never do.
pub(super) async fn bind_all(
    name: &str,
    addresses: &[ListenAddr],
    unix: &config::UnixSocket,
    tls: Option<&Arc<Tls>>,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = match address {
            ListenAddr::Tcp(address) => TcpListener::bind(address)
                .await
                .map(|listener| Listener::Tcp {
                    listener,
                    tls: tls.cloned(),
                })
                .map_err(anyhow::Error::from),
            ListenAddr::Unix(path) => bind_unix(path, unix).await,
        };
        let hint =
            || format!("cannot listen on {address}: change `{name}.listen` or stop what uses it");
        listeners.push(listener.with_context(hint)?);
    }
    Ok(listeners)
}

async fn bind_unix(path: &Path, unix: &config::UnixSocket) -> anyhow::Result<Listener> {
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream().context("cannot make a socket")?;
    socket
        .bind(path)
        .with_context(|| format!("cannot make a socket in {}", parent(path).display()))?;
    let file = SocketFile(path.to_owned());
    // Nobody can connect before `listen`: it is never open to more than it should be.
    set_access(path, unix)?;
    let listener = socket
        .listen(BACKLOG)
        .context("cannot listen on the socket")?;
    Ok(Listener::Unix {
        listener,
        _file: file,
    })
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

/// Removes what a crashed process left behind; refuses to touch anything else.
async fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.context("cannot look at the socket path")?.file_type(),
    };
    if !kind.is_socket() {
        bail!("there is a file that is not a socket; it was left alone");
    }
    match UnixStream::connect(path).await {
        Ok(_) => bail!("another process is listening there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("cannot remove the stale socket")
        }
        Err(error) => {
            Err(error).context("cannot tell whether the socket there is in use; it was left alone")
        }
    }
}

fn set_access(path: &Path, unix: &config::UnixSocket) -> anyhow::Result<()> {
    if let Some(group) = &unix.group {
        let gid = match group.parse() {
            Ok(number) => Gid::from_raw(number),
            Err(_) => {
                Group::from_name(group)?
                    .with_context(|| format!("there is no group `{group}`"))?
                    .gid
            }
        };
        chown(path, None, Some(gid))
            .with_context(|| format!("cannot give the socket to group `{group}`"))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(unix.mode.0))
        .context("cannot set the socket's mode")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: config::UnixSocket = config::UnixSocket {
        mode: config::SocketMode(0o660),
        group: None,
    };

    #[tokio::test]
    async fn a_live_socket_is_never_stolen_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authz.sock");
        let live = bind_unix(&path, &ACCESS).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        let refused = bind_unix(&path, &ACCESS).await.err().unwrap().to_string();
        assert_eq!(refused, "another process is listening there");
        assert!(
            UnixStream::connect(&path).await.is_ok(),
            "the live socket still answers"
        );

        // A crash: the listener is gone, its file is not.
        let Listener::Unix {
            listener,
            _file: file,
        } = live
        else {
            panic!("a Unix listener")
        };
        std::mem::forget(file);
        drop(listener);
        let next = bind_unix(&path, &ACCESS).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(next);
        assert!(!path.exists(), "the file goes with the listener");
    }

    /// Whoever looks at the socket at any time sees its final mode, or is not let in whatever it is.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_can_connect_before_the_mode_is_set() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authz.sock");
        let over = Arc::new(AtomicBool::new(false));
        let looking = std::thread::spawn({
            let (folder, over) = (folder.path().to_owned(), Arc::clone(&over));
            move || {
                let mut open = 0;
                while !over.load(Ordering::Relaxed) {
                    for found in fs::read_dir(&folder).unwrap().flatten() {
                        let wide = found.metadata().map(|at| at.permissions().mode() & 0o777);
                        let wide = wide.is_ok_and(|mode| mode != 0o600);
                        // Connected though the mode that was there before would have let others in.
                        let connected = std::os::unix::net::UnixStream::connect(found.path());
                        open += usize::from(wide && connected.is_ok() && is_wide(&found.path()));
                    }
                }
                open
            }
        });
        let private = config::UnixSocket {
            mode: config::SocketMode(0o600),
            group: None,
        };
        for _ in 0..300 {
            drop(bind_unix(&path, &private).await.unwrap());
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(looking.join().unwrap(), 0);
    }

    fn is_wide(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|at| at.permissions().mode() & 0o777 != 0o600)
    }

    #[tokio::test]
    async fn the_longest_path_that_the_configuration_accepts_can_be_bound() {
        let folder = tempfile::tempdir().unwrap();
        let room = |len: usize| len - folder.path().as_os_str().len() - 1;
        for len in [90, 100, 103, 104, 105, 106, 107, 108, 120] {
            let path = folder.path().join("s".repeat(room(len)));
            let accepted = format!("unix:{}", path.display()).parse::<ListenAddr>();
            let bound = bind_unix(&path, &ACCESS).await;
            assert_eq!(accepted.is_ok(), bound.is_ok(), "{len}: {accepted:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(bind_unix(&path, &ACCESS).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
