//! A tenant's audit is read in order, and continued only where it ends.

use std::sync::Arc;

use keystile::store::CommitError;

use super::world::*;

fn entries(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

async fn page(store: &Shared, of: &str, after: u64, limit: usize) -> Vec<(u64, String)> {
    let page = store.audit_after(&tenant(of), after, limit).await.unwrap();
    page.into_iter()
        .map(|(number, entry)| (number, String::from_utf8(entry).unwrap()))
        .collect()
}

fn numbered(from: u64, texts: &[&str]) -> Vec<(u64, String)> {
    let texts = texts.iter().map(|text| (*text).to_owned());
    (from..).zip(texts).collect()
}

pub(super) async fn entries_are_read_in_pages_oldest_first(store: Shared) {
    with_tenants(&store, &["a", "acme", "b"]).await;
    for number in [1, 2] {
        store.commit_key(new_key("acme", number)).await.unwrap();
    }
    let all = numbered(1, &["make acme", "create 1", "create 2"]);
    assert_eq!(page(&store, "acme", 0, 100).await, all);
    assert_eq!(page(&store, "acme", 0, 2).await, all[..2]);
    assert_eq!(page(&store, "acme", 2, 2).await, all[2..]);
    assert!(page(&store, "acme", 3, 2).await.is_empty());
    assert!(page(&store, "nobody", 0, 2).await.is_empty());
}

pub(super) async fn what_is_appended_continues_the_numbers(store: Shared) {
    with_tenants(&store, &["acme", "b"]).await;
    let acme = tenant("acme");
    let append = store.append_audit(&acme, DEK, 1, entries(&["x", "y"]));
    append.await.unwrap();
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let append = store.append_audit(&acme, DEK, 4, entries(&["z"]));
    append.await.unwrap();
    store.append_audit(&acme, DEK, 5, Vec::new()).await.unwrap();
    let all = numbered(1, &["make acme", "x", "y", "create 1", "z"]);
    assert_eq!(page(&store, "acme", 0, 100).await, all);
    assert_eq!(page(&store, "b", 0, 100).await.len(), 1);
    assert_eq!(store.live_keys(&acme, ALICE).await.unwrap(), (1, 1));
}

pub(super) async fn entries_are_appended_where_the_last_is_the_expected_one(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let before = contents(&store, &["acme"]).await;
    for (of, dek_id, after, refusal) in [
        ("acme", DEK, 0, "Conflict"),
        ("acme", DEK, 1, "Conflict"),
        ("acme", DEK, 3, "Conflict"),
        ("acme", DEK + 1, 2, "NotFound"),
        ("nobody", DEK, 0, "NotFound"),
    ] {
        let of = tenant(of);
        let refused = store.append_audit(&of, dek_id, after, entries(&["no"]));
        assert_eq!(word(refused.await), refusal, "{of} after {after}");
        assert_eq!(contents(&store, &["acme"]).await, before, "{of} {after}");
    }
}

pub(super) async fn of_concurrent_appends_after_one_entry_one_succeeds(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let appends: Vec<_> = (0..16)
        .map(|number| {
            let store = Arc::clone(&store);
            let text = number.to_string();
            tokio::spawn(async move {
                let acme = tenant("acme");
                let append = store.append_audit(&acme, DEK, 1, entries(&[&text, "and"]));
                append.await
            })
        })
        .collect();
    let mut winners = 0;
    for append in appends {
        match append.await.unwrap() {
            Ok(()) => winners += 1,
            Err(CommitError::Conflict) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(page(&store, "acme", 0, 100).await.len(), 3);
}
