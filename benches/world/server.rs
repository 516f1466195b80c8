//! A real Redis of a bench's own, and stores on it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystile::store::redis::{Access, Address, RedisStore, Settings};

/// A server that ends with the bench.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/redis-server");
        let process = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("`make setup` installs redis-server");
        Self { process, port }
    }
}

/// A store on the server at a port, at work.
pub(crate) async fn store(port: u16, access: Access) -> Arc<RedisStore> {
    let settings = Settings::standalone(Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    });
    let store = RedisStore::new(settings, access);
    let begun = Instant::now();
    while store.connect().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "Redis starts");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::spawn(Arc::clone(&store).run());
    while store.tracks().is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store
}
