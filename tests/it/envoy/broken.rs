//! The product's own server over a store that has stopped answering, for a real Envoy to ask.

use std::sync::Arc;
use std::thread;

use keystile::clock::{Clock as _, SystemClock};
use keystile::config::Config;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::server;
use keystile::server::parts::Parts;
use keystile::store::Store;

use crate::harness::{free_port, wait_for};
use crate::support::fault_store::{FaultStore, Mood};

/// Starts one and returns its authz port. It ends with the test program.
pub(crate) fn start(policy: &'static str) -> u16 {
    let port = free_port();
    let config = format!(
        "authz: {{listen: [\"127.0.0.1:{port}\"], workers: 1}}\n\
         keyring: {{data: {{file: unused}}}}\n\
         failure_policy: {{store_outage: {policy}}}\n"
    );
    let parsed = Config::parse(&config, "the test", std::iter::empty());
    let config = parsed.expect("the config is right").config;
    thread::spawn(move || serve(&config));
    wait_for("the server over a broken store to listen", || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .ok()
            .map(drop)
    });
    port
}

fn serve(config: &Config) {
    let store = FaultStore::new();
    let keyring = Keyring::generate(Ring::Data, SystemClock.now(), &mut rand::rng());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let dynamic = Arc::clone(&store) as Arc<dyn Store>;
        let parts = Parts::assemble(config, dynamic, Arc::new(keyring), None).await;
        let fail = async |_: &Parts| {
            store.be(Mood::Failing);
            Ok(())
        };
        server::run(config, None, parts.expect("the parts fit"), fail)
            .await
            .expect("it serves");
    });
}
