//! How often a call reads the store: the caller's tenant and key once, and those that it changes once.

use std::sync::Arc;

use keystile::proto::admin as pb;
use keystile::store::Store;
use prost_types::{Duration, FieldMask};

use super::server::AdminServer;
use super::{ROOT, create_key};
use crate::support::fault_store::FaultStore;

const USER: &str = "platform-user";
const HOUR: Duration = Duration {
    seconds: 3600,
    nanos: 0,
};

/// A server whose reads are counted.
struct Counted {
    store: Arc<FaultStore>,
    server: AdminServer,
}

impl Counted {
    async fn new() -> Self {
        let store = FaultStore::new();
        let server = AdminServer::over(Arc::clone(&store) as Arc<dyn Store>, true).await;
        let server = server.with_tenant("platform").await;
        Self { store, server }
    }

    /// A key of somebody else, which ends.
    async fn other(&self) -> pb::Key {
        let mut request = create_key("platform", "other");
        request.key.as_mut().unwrap().ttl = Some(HOUR);
        let made = self.server.keys(ROOT).create_key(request).await;
        made.unwrap().into_inner().key.unwrap()
    }

    /// How many tenants and keys are read until it is done.
    async fn reads<T>(&self, call: impl Future<Output = Result<T, tonic::Status>>) -> (u64, u64) {
        let counts = || (self.store.reads().1, self.store.key_rows());
        let (tenants, keys) = counts();
        let done = call.await;
        done.map(drop).expect("the call is allowed");
        let (tenants_then, keys_then) = counts();
        (tenants_then - tenants, keys_then - keys)
    }
}

fn describe(name: &str) -> pb::UpdateKeyRequest {
    pb::UpdateKeyRequest {
        key: Some(pb::Key {
            name: name.to_owned(),
            description: "described".to_owned(),
            ..pb::Key::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["description".to_owned()],
        }),
    }
}

fn rotate(name: &str) -> pb::RotateKeyRequest {
    pb::RotateKeyRequest {
        name: name.to_owned(),
        grace: Some(HOUR),
        ..pb::RotateKeyRequest::default()
    }
}

fn revoke(name: &str) -> pb::RevokeKeyRequest {
    pb::RevokeKeyRequest {
        name: name.to_owned(),
        ..pb::RevokeKeyRequest::default()
    }
}

fn get(name: &str) -> pb::GetKeyRequest {
    pb::GetKeyRequest {
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn a_call_about_another_key_reads_each_tenant_and_key_once() {
    let counted = Counted::new().await;
    let other = counted.other().await;
    let mut keys = counted.server.keys(ROOT);
    assert_eq!(counted.reads(keys.get_key(get(&other.name))).await, (2, 2));
    let update = keys.update_key(describe(&other.name));
    assert_eq!(counted.reads(update).await, (2, 2), "update");
    let rotated = keys.rotate_key(rotate(&other.name));
    assert_eq!(counted.reads(rotated).await, (2, 2), "rotate");
    let renew = pb::RenewKeyRequest {
        name: other.name.clone(),
        ttl: Some(Duration {
            seconds: 7200,
            nanos: 0,
        }),
        ..pb::RenewKeyRequest::default()
    };
    assert_eq!(counted.reads(keys.renew_key(renew)).await, (2, 2), "renew");
    let revoked = keys.revoke_key(revoke(&other.name));
    assert_eq!(counted.reads(revoked).await, (2, 2), "revoke");
}

#[tokio::test]
async fn a_call_about_the_callers_own_key_reads_it_once() {
    let counted = Counted::new().await;
    let own = counted.server.own_key(USER).await;
    let mut keys = counted.server.keys(USER);
    assert_eq!(counted.reads(keys.get_key(get(&own.name))).await, (1, 1));
    let update = keys.update_key(describe(&own.name));
    assert_eq!(counted.reads(update).await, (1, 1), "update");
    let rotated = keys.rotate_key(rotate(&own.name));
    assert_eq!(counted.reads(rotated).await, (1, 1), "rotate");
    let revoked = keys.revoke_key(revoke(&own.name));
    assert_eq!(counted.reads(revoked).await, (1, 1), "revoke");
}

/// Its own key is read again at the end: what is made with a key that was revoked meanwhile is taken back.
#[tokio::test]
async fn a_new_key_reads_its_tenant_once() {
    let counted = Counted::new().await;
    let mut keys = counted.server.keys(ROOT);
    let made = keys.create_key(create_key("platform", "new"));
    assert_eq!(counted.reads(made).await, (3, 2));
}
