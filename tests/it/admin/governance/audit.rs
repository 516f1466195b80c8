//! What the audit says of limits on keys.

use std::sync::Arc;

use keystile::crypto::envelope::{self, Kind, Place};
use keystile::domain::governance::KeyRules;
use keystile::proto::admin as pb;
use keystile::store::records;
use tokio_util::sync::CancellationToken;

use super::super::server::AdminServer;
use super::super::{ROOT, server};
use super::{id, make, set, small};
use crate::harness::{PATIENCE, wait_until};
use crate::support::fault_store::{FaultStore, Mood};

/// The texts of a tenant's audit, the newest first. There is no service that shows them yet.
async fn audit(server: &AdminServer, tenant: &str) -> Vec<String> {
    let (store, tenant) = (server.registry.store(), id(tenant));
    let row = store.tenant(&tenant).await.unwrap().unwrap();
    let (_, key) = records::open_tenant(&server.data, &row).unwrap();
    let place = Place {
        kind: Kind::Audit,
        tenant: tenant.as_str(),
        key: "",
        generation: 0,
        lookup_id: None,
    };
    let entries = store.audit(&tenant, 100).await.unwrap();
    let open = |sealed: &[u8]| envelope::open(&key, &place, sealed).unwrap().to_vec();
    entries
        .iter()
        .map(|(_, sealed)| String::from_utf8_lossy(&open(sealed)).into_owned())
        .collect()
}

#[tokio::test]
async fn changes_refusals_and_readings_are_in_the_audit_and_a_flood_of_them_is_not() {
    let server = server().await;
    server.registry.set_key_rules(small());
    set(&server, ROOT, "platform", Some(1)).await.unwrap();
    set(&server, ROOT, "platform", Some(2)).await.unwrap();
    // Who wrote it, and the old and the new value, in the same commit as the change.
    let newest = audit(&server, "platform").await;
    assert!(newest[0].contains("limits.updated"), "{newest:?}");
    assert!(newest[0].contains("max_keys_per_user 1 -> 2"), "{newest:?}");
    assert!(
        newest[1].contains("max_keys_per_user none of its own -> 1"),
        "{newest:?}"
    );

    for _ in 0..2 {
        make(&server, "alice", pb::Role::User).await.unwrap();
    }
    let before = audit(&server, "platform").await.len();
    for _ in 0..300 {
        make(&server, "alice", pb::Role::User).await.unwrap_err();
    }
    let request = pb::GetSystemConfigRequest {};
    server
        .limits(ROOT)
        .get_system_config(request)
        .await
        .unwrap();
    server.registry.set_key_rules(KeyRules {
        allow_admin_override: false,
        ..small()
    });
    set(&server, ROOT, "platform", Some(3)).await.unwrap_err();

    let stop = CancellationToken::new();
    stop.cancel();
    let written = server.registry.write_notes(stop);
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    let entries = audit(&server, "platform").await;
    let mut new = entries[..entries.len() - before].to_vec();
    new.reverse();
    for (at, words) in [
        (
            0,
            &[
                "key.refused",
                "owner alice, role user: API key limit exceeded: the owner has 2 of 2 keys",
            ][..],
        ),
        (1, &["config.read"]),
        (
            2,
            &[
                "limits.refused",
                "Admin overrides are disabled",
                "the limits stay 2/3/4",
            ],
        ),
        (3, &["key.refused", "299 more times: owner alice"]),
    ] {
        for word in words {
            assert!(new[at].contains(word), "{word} in {at} of {new:#?}");
        }
    }
    assert_eq!(new.len(), 4, "{new:#?}");
    assert_eq!(server.registry.notes_dropped(), 0);
}

#[tokio::test]
async fn a_store_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
    let store = FaultStore::new();
    let server = AdminServer::over(Arc::clone(&store) as _, true).await;
    let server = server.with_tenant("platform").await;
    server.registry.set_key_rules(KeyRules {
        enabled: false,
        ..small()
    });
    make(&server, "alice", pb::Role::User).await.unwrap_err();
    store.be(Mood::Hanging);
    let stop = CancellationToken::new();
    let (registry, stopped) = (server.registry.clone(), stop.clone());
    let writing = tokio::spawn(async move { registry.write_notes(stopped).await });
    let dropped = async || server.registry.notes_dropped() == 1;
    wait_until("the note is given up", dropped).await;
    store.be(Mood::Well);
    make(&server, "bob", pb::Role::User).await.unwrap_err();
    stop.cancel();
    tokio::time::timeout(PATIENCE, writing)
        .await
        .unwrap()
        .unwrap();
    let newest = audit(&server, "platform").await;
    assert!(newest[0].contains("owner bob"), "{newest:?}");
    assert!(
        !newest.iter().any(|text| text.contains("owner alice")),
        "{newest:?}"
    );
}
