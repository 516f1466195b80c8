use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::keyring::Ring;
use crate::domain::change::Actor;
use crate::domain::key::Key;
use crate::domain::name::{DisplayName, Owner};
use crate::domain::role::Role;
use crate::registry::{NewKey, NewTenant, Registry, Settings};
use crate::store::redb::EmbeddedStore;
use crate::store::{CountChange, Expected, IndexRow, KeyCommit, KeyRow, records};

/// A source with tenants `a` and `b`, a key each, and an empty destination.
struct World {
    migration: Migration,
    keys: Vec<Key>,
}

impl World {
    async fn new() -> Self {
        let store = || Arc::new(EmbeddedStore::in_memory().unwrap()) as Arc<dyn Store>;
        let (source, destination) = (store(), store());
        let keyring = Keyring::generate(Ring::Data, SystemClock.now(), &mut rand::rng());
        let keyring = Arc::new(keyring);
        let registry = Registry::new(
            Arc::clone(&source),
            Arc::clone(&keyring),
            None,
            Arc::new(keyring.lookup_key().unwrap()),
            Arc::new(SystemClock),
            Settings::default(),
        );
        let mut keys = Vec::new();
        for id in ["a", "b"] {
            let (by, name) = (&Actor::Operator, DisplayName::parse(id).unwrap());
            let tenant = NewTenant::named(TenantId::parse(id).unwrap(), name.clone());
            let tenant = registry.create_tenant(by, tenant).await.unwrap();
            let key = NewKey::named(name, Owner::parse("alice").unwrap(), Role::User);
            keys.push(registry.create_key(by, &tenant.id, key).await.unwrap().key);
        }
        let lookup = keyring.lookup_key().unwrap();
        let migration = Migration::new(source, destination, keyring, lookup);
        Self { migration, keys }
    }

    /// A commit of the first tenant's key with another row and another index.
    async fn commit(&self, expected: Expected, row: KeyRow, index: Vec<IndexRow>) -> KeyCommit {
        let key = &self.keys[0];
        let tenant = self.migration.source.tenant(&key.tenant).await.unwrap();
        KeyCommit {
            tenant: key.tenant.clone(),
            dek_id: tenant.unwrap().dek_id,
            expected,
            row,
            index,
            drop: Vec::new(),
            owner_tag: records::owner_tag(&self.migration.lookup, key),
            count: CountChange::None,
            audit: b"sealed".to_vec(),
            request: None,
        }
    }

    async fn copy(&self) -> (Copied, Findings) {
        self.migration.copy(Mode::Write, &|_| ()).await.unwrap()
    }
}

#[tokio::test]
async fn a_change_that_is_not_complete_at_the_source_is_named_and_waited_for() {
    let world = World::new().await;
    let mut key = world.keys[0].clone();
    let before = key.version;
    key.version.order += 1;
    let source = &world.migration.source;
    let tenant = source.tenant(&key.tenant).await.unwrap().unwrap();
    let (_, data_key) = records::open_tenant(&world.migration.keyring, &tenant).unwrap();
    let row = records::seal_key(&data_key, &key, &mut rand::rng());
    let behind = world.commit(Expected::Version(before), row.clone(), Vec::new());
    source.commit_key(behind.await).await.unwrap();

    let (copied, findings) = world.copy().await;
    assert_eq!((copied.tenants, copied.keys), (2, 1));
    let why = &findings[&key.tenant];
    assert!(
        findings.len() == 1 && why.contains("is not complete"),
        "{findings:?}"
    );

    let index = records::seal_index(&data_key, &key, &mut rand::rng());
    let whole = world.commit(Expected::Version(key.version), row, index);
    source.commit_key(whole.await).await.unwrap();
    let (copied, findings) = world.copy().await;
    assert_eq!((copied.tenants, copied.keys), (0, 1));
    assert!(findings.is_empty(), "{findings:?}");
    let source = world.migration.count_source().await.unwrap();
    assert_eq!(world.migration.count_destination().await.unwrap(), source);
}

#[tokio::test]
async fn a_token_that_is_another_keys_at_the_destination_is_left_to_it() {
    let world = World::new().await;
    let (a, b) = (&world.keys[0], &world.keys[1]);
    let destination = &world.migration.destination;
    // All but b is there, and a's key has b's lookup id.
    let row = world.migration.source.tenant(&a.tenant).await.unwrap();
    let made = crate::store::TenantCommit {
        expected: Expected::New,
        row: row.unwrap(),
        audit: b"sealed".to_vec(),
        request: None,
    };
    destination.commit_tenant(made).await.unwrap();
    let lookup_id = b.generations[0].lookup_id;
    let index = world.migration.source.index(lookup_id).await.unwrap();
    let row = world.migration.source.key(&a.tenant, &a.id).await.unwrap();
    let taken = world.commit(Expected::New, row.unwrap(), index.into_iter().collect());
    destination.commit_key(taken.await).await.unwrap();

    let (copied, findings) = world.copy().await;
    assert_eq!((copied.tenants, copied.keys), (1, 0));
    assert!(findings[&a.tenant].contains("its audit at the destination"));
    assert!(findings[&b.tenant].contains("its token is another key's"));
}

#[tokio::test]
async fn trying_finds_what_copying_would_do_and_writes_nothing() {
    let world = World::new().await;
    let tried = world.migration.copy(Mode::Try, &|_| ()).await.unwrap();
    let empty = world.migration.count_destination().await.unwrap();
    assert_eq!(empty, (Census::default(), Findings::new()));
    assert_eq!(world.copy().await, tried);
    assert_eq!(tried.0.audit_entries, 4);
    assert_eq!(world.copy().await.0, Copied::default());
}
