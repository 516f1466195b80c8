//! What a listing of one owner's keys reads: in a tenant of ten thousand keys, those of the owner.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystile::crypto::digest::LookupKey;
use keystile::crypto::envelope::DataKey;
use keystile::domain::key::Key;
use keystile::domain::name::{KeyId, Owner, TenantId};
use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::store::owners::OwnerEntry;
use keystile::store::{CountChange, Expected, KeyCommit, Records as _, Store, records};
use serde_json::Value;

use super::ROOT;
use super::server::{AdminServer, Authorized};
use crate::support::fault_store::FaultStore;

const OTHERS: usize = 10_000;
const USER: &str = "platform-user";
const TENANT_ADMIN: &str = "platform-tenant_admin";

struct Platform {
    store: Arc<FaultStore>,
    server: AdminServer,
    tenant: TenantId,
    data_key: DataKey,
    lookup: LookupKey,
}

fn commit(data_key: &DataKey, lookup: &LookupKey, key: &Key) -> KeyCommit {
    KeyCommit {
        tenant: key.tenant.clone(),
        dek_id: data_key.id(),
        expected: Expected::New,
        row: records::seal_key(data_key, key, &mut rand::rng()),
        index: Vec::new(),
        drop: Vec::new(),
        owner_tag: records::owner_tag(lookup, key),
        count: CountChange::Add {
            per_owner: u64::MAX,
            total: None,
        },
        audit: Vec::new(),
        request: None,
    }
}

/// A tenant with ten thousand keys of a hundred owners, and three of the user.
async fn platform() -> Platform {
    let store = FaultStore::new();
    let server = AdminServer::over(Arc::clone(&store) as Arc<dyn Store>, true).await;
    let server = server.with_tenant("platform").await;
    for name in ["second", "third"] {
        let mut request = super::create_key("platform", name);
        request.key.as_mut().unwrap().owner = "user-owner".to_owned();
        server.keys(ROOT).create_key(request).await.unwrap();
    }
    let tenant = TenantId::parse("platform").unwrap();
    let row = store.tenant(&tenant).await.unwrap().unwrap();
    let (_, data_key) = records::open_tenant(&server.data, &row).unwrap();
    let lookup = server.data.lookup_key().unwrap();
    let own = server.own_key(USER).await;
    let id = KeyId::parse(&own.key_id).unwrap();
    let like = server.registry.key(&tenant, &id).await.unwrap();
    for batch in (0..OTHERS).collect::<Vec<_>>().chunks(250) {
        let commits = batch.iter().map(|number| {
            let key = Key {
                id: KeyId::parse(&format!("others{number:06}")).unwrap(),
                owner: Owner::parse(&format!("other-{}", number % 100)).unwrap(),
                ..like.clone()
            };
            store.commit_key(commit(&data_key, &lookup, &key))
        });
        for done in futures_util::future::join_all(commits).await {
            done.unwrap();
        }
    }
    Platform {
        store,
        server,
        tenant,
        data_key,
        lookup,
    }
}

impl Platform {
    /// The ids that REST lists, in order, and how many keys were read for it.
    async fn list(&self, token: &str, query: &str) -> (Vec<String>, u64) {
        let before = self.store.key_rows();
        let stream = tokio::net::TcpStream::connect(self.server.address);
        let stream = TokioIo::new(stream.await.unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://admin/api/v1/auth/apikeys{query}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = client.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        let keys = body["data"]["api_keys"].as_array().unwrap().iter();
        let ids = keys.map(|key| key["id"].as_str().unwrap().to_owned());
        (ids.collect(), self.store.key_rows() - before)
    }

    /// The same by gRPC.
    async fn list_by_grpc(&self, token: &str, filter: &str) -> (Vec<String>, u64) {
        let before = self.store.key_rows();
        let list = pb::ListKeysRequest {
            parent: "tenants/platform".into(),
            page_size: 1000,
            filter: filter.into(),
            ..pb::ListKeysRequest::default()
        };
        let page = self.server.keys(token).list_keys(list).await;
        let page = page.unwrap().into_inner();
        assert_eq!(page.next_page_token, "");
        let ids = page.keys.into_iter().map(|key| key.key_id);
        (ids.collect(), self.store.key_rows() - before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_three_keys_lists_them_among_ten_thousand_by_reading_three() {
    let platform = platform().await;
    let by_admin = platform.server.keys(ROOT);
    let expected = all_of_user(by_admin).await;
    assert_eq!(expected.len(), 3);
    // One more is the calling key itself, which is looked at with every call.
    let cheap = 3 + 2;
    for (token, query) in [(USER, ""), (TENANT_ADMIN, "?owner=user-owner")] {
        let (ids, read) = platform.list(token, query).await;
        assert_eq!(ids, expected, "{token}{query}");
        assert!(read <= cheap, "{token}{query}: {read} keys were read");
    }
    for (token, filter) in [
        (USER, ""),
        (USER, "state = ACTIVE"),
        (TENANT_ADMIN, "owner = \"user-owner\""),
        (ROOT, "state = ACTIVE AND owner = user-owner"),
    ] {
        let (ids, read) = platform.list_by_grpc(token, filter).await;
        assert_eq!(ids, expected, "{token} {filter}");
        assert!(read <= cheap, "{token} {filter}: {read} keys were read");
    }
    // Who asks for another's with a user's key has nothing, whatever the filter.
    let (ids, _) = platform.list_by_grpc(USER, "owner = other-1").await;
    assert_eq!(ids, Vec::<String>::new());
    // An owner with a hundred keys costs a hundred.
    let (ids, read) = platform.list(TENANT_ADMIN, "?owner=other-1").await;
    assert_eq!(ids.len(), 100);
    assert!(read <= 102, "{read} keys were read");

    an_index_of_an_earlier_version(&platform, &expected, cheap).await;
    an_entry_that_was_moved_to_another_owner(&platform, &expected, cheap).await;
}

/// All keys of the user, found without the index.
async fn all_of_user(mut keys: KeyServiceClient<Authorized>) -> Vec<String> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let list = pb::ListKeysRequest {
            parent: "tenants/platform".into(),
            page_size: 1000,
            page_token,
            ..pb::ListKeysRequest::default()
        };
        let page = keys.list_keys(list).await.unwrap().into_inner();
        let of_user = page.keys.into_iter();
        let of_user = of_user.filter(|key| key.owner == "user-owner");
        found.extend(of_user.map(|key| key.key_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Without the index of a key all keys are read, once, and none is left out.
async fn an_index_of_an_earlier_version(platform: &Platform, expected: &[String], cheap: u64) {
    let entries = platform.owner_entries(expected);
    let index = platform.store.owner_index().unwrap();
    let dek_id = platform.data_key.id();
    index
        .remove(&platform.tenant, dek_id, &entries[..2])
        .await
        .unwrap();
    let (ids, read) = platform.list(USER, "").await;
    assert_eq!(ids, expected);
    assert!(read >= OTHERS as u64, "{read} keys were read");
    let (ids, read) = platform.list(USER, "").await;
    assert_eq!(ids, expected);
    assert!(read <= cheap, "{read} keys were read");
}

/// As many entries as keys, but one of them in another's place: the count of the owner's live keys tells.
async fn an_entry_that_was_moved_to_another_owner(
    platform: &Platform,
    expected: &[String],
    cheap: u64,
) {
    let index = platform.store.owner_index().unwrap();
    let (tenant, dek_id) = (&platform.tenant, platform.data_key.id());
    let moved = platform.owner_entries(expected)[0].clone();
    let to_another = OwnerEntry {
        owner_tag: [7; 16],
        ..moved.clone()
    };
    index.remove(tenant, dek_id, &[moved]).await.unwrap();
    let mode = keystile::store::repair::Mode::Repair;
    let put = index.missing(tenant, dek_id, &[to_another], mode).await;
    assert_eq!(put.unwrap(), 1);
    assert!(index.is_whole(tenant, dek_id, mode).await.unwrap());
    for _ in 0..2 {
        let (ids, _) = platform.list(USER, "").await;
        assert_eq!(ids, expected);
    }
    let (_, read) = platform.list(USER, "").await;
    assert!(read <= cheap, "{read} keys were read");
}

impl Platform {
    fn owner_entries(&self, ids: &[String]) -> Vec<OwnerEntry> {
        let tag = self.lookup.owner_tag("platform", "user-owner");
        let ids = ids.iter().map(|id| KeyId::parse(id).unwrap());
        ids.map(|key| OwnerEntry {
            owner_tag: tag,
            key,
        })
        .collect()
    }
}
