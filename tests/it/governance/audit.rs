//! What a process has noted is in the audit when it has ended.

use keystile::crypto::envelope::{self, Kind, Place as Sealed};
use keystile::crypto::keyring::Ring;
use keystile::domain::name::TenantId;
use keystile::store::redb::EmbeddedStore;
use keystile::store::{Records as _, records};

use crate::support::program::Place;

/// The texts of a tenant's audit, the newest first. There is no service that shows them yet.
async fn audit(place: &Place, tenant: &str) -> Vec<String> {
    let keyring = keystile::keyfile::load_file(&place.path("keys/data.keyring"), Ring::Data);
    let store = EmbeddedStore::open(&place.path("keystile.redb")).unwrap();
    let tenant = TenantId::parse(tenant).unwrap();
    let row = store.tenant(&tenant).await.unwrap().unwrap();
    let (_, key) = records::open_tenant(&keyring.unwrap(), &row).unwrap();
    let at = Sealed {
        kind: Kind::Audit,
        tenant: tenant.as_str(),
        key: "",
        generation: 0,
        lookup_id: None,
    };
    let entries = store.audit(&tenant, 100).await.unwrap();
    let open = |sealed: &[u8]| envelope::open(&key, &at, sealed).unwrap().to_vec();
    let entries = entries.iter();
    entries
        .map(|(_, sealed)| String::from_utf8_lossy(&open(sealed)).into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_in_the_audit_when_the_process_has_ended() {
    let place = Place::bootstrapped();
    place.edit_config(
        "api_keys: {min_expiry_days: 0, max_expiry_days: 0}",
        "api_keys: {default_limits: {max_keys_per_user: 1}}",
    );
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    place.do_it(&["limits", "set", "acme", "--max-keys-per-tenant-admin", "7"]);
    place.do_it(&["key", "create", "acme", "--name", "a", "--owner", "alice"]);
    for _ in 0..4 {
        let again = ["key", "create", "acme", "--name", "b", "--owner", "alice"];
        assert_eq!(place.run(&again).code, 1);
    }
    let (_, metrics) = place.ops("/metrics").unwrap();
    assert!(
        metrics.contains("keystile_audit_dropped_total 0"),
        "{metrics}"
    );
    assert_eq!(running.stop("TERM").0, Some(0));
    let entries = audit(&place, "acme").await;
    let refused = "owner alice, role user: API key limit exceeded: the owner has 1 of 1 keys";
    for (at, words) in [
        (0, ["key.refused", "3 more times: owner alice", "platform"]),
        (1, ["key.refused", refused, "platform"]),
        (2, ["key.created", "platform", ""]),
        (
            3,
            [
                "limits.updated",
                "max_keys_per_tenant_admin none of its own -> 7",
                "platform",
            ],
        ),
        (4, ["tenant.created", "platform", ""]),
    ] {
        for word in words {
            assert!(entries[at].contains(word), "{word} in {at} of {entries:#?}");
        }
    }
}
