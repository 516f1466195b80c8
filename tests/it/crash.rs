//! A writer is killed again and again; what it was told is committed is there, and all is whole.

mod history;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use keystile::store::Store;
use keystile::store::redb::EmbeddedStore;

use crate::store_contract::world::*;
use history::History;

const ROUNDS: u64 = 24;
const WORKERS: u64 = 6;
/// A writer is killed after at most so many commits.
const COMMITS_MAX: usize = 250;

/// Tells the child where to write; without it the child has nothing to do.
const STORE: &str = "KEYSTILE_TEST_CRASH_STORE";
const ROUND: &str = "KEYSTILE_TEST_CRASH_ROUND";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_writer_was_told_is_committed_is_there_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystile.redb");
    let mut history = History::default();
    for round in 0..ROUNDS {
        let told = tokio::task::block_in_place(|| write_until_killed(&path, round));
        history.extend(&told);
        let store: Shared = Arc::new(EmbeddedStore::open(&path).unwrap());
        history.check(&store).await;
    }
    // Else the rounds above have shown nothing.
    assert!(history.commits() > 100, "{} commits", history.commits());
}

#[tokio::test]
async fn a_store_whose_maker_was_killed_can_be_opened() {
    for round in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystile.redb");
        let mut writer = start_writer(&path, round);
        // It is making the store from when the first file is there; each round ends it a little later.
        let mut looks = 0;
        while looks <= round * 4 {
            let begun = std::fs::read_dir(folder.path()).unwrap().next().is_some();
            looks += u64::from(begun);
            assert!(
                writer.try_wait().unwrap().is_none(),
                "it must not end by itself"
            );
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store: Shared = Arc::new(EmbeddedStore::open(&path).unwrap());
        with_tenants(&store, &["acme"]).await;
    }
}

/// Everything that the writer was told before and while it was killed.
fn write_until_killed(path: &Path, round: u64) -> Vec<String> {
    let mut writer = start_writer(path, round);
    let output = writer.stdout.take().unwrap();
    let mut lines = BufReader::new(output).lines().map(Result::unwrap);
    let commits = rand::random_range(0..COMMITS_MAX);
    let mut told: Vec<String> = lines.by_ref().take(commits).collect();
    writer.kill().unwrap();
    told.extend(lines);
    let ended = writer.wait().unwrap();
    assert_eq!(ended.signal(), Some(9), "it must not end by itself");
    told
}

fn start_writer(path: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer", "--nocapture"])
        .env(STORE, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The child's part: writes until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let (Ok(path), Ok(round)) = (std::env::var(STORE), std::env::var(ROUND)) else {
        return;
    };
    let round: u64 = round.parse().unwrap();
    let store: Shared = Arc::new(EmbeddedStore::open(Path::new(&path)).unwrap());
    // The test runner has begun a line that it would end later.
    tell("");
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| tokio::spawn(write_forever(Arc::clone(&store), round, worker)))
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

#[expect(clippy::print_stdout, reason = "this is how the parent hears of it")]
fn tell(what: &str) {
    println!("{what}");
}

/// Tenants with four keys each, that live as `history::life` says; every other tenant is deleted again.
async fn write_forever(store: Arc<dyn Store>, round: u64, worker: u64) {
    for number in 0.. {
        let id = format!("r{round}w{worker}n{number}");
        store.commit_tenant(new_tenant(&id)).await.unwrap();
        tell(&format!("tenant {id}"));
        let first = ((round * WORKERS + worker) * 1_000_000 + number) * 4;
        for number in first..first + 4 {
            for (commit, version) in history::life(&id, number).into_iter().zip(1..) {
                store.commit_key(commit).await.unwrap();
                tell(&format!("key {id} {number} {version}"));
            }
        }
        if number % 2 == 0 {
            tell(&format!("deleting {id}"));
            store
                .delete_tenant(&tenant(&id), DEK, 1.into())
                .await
                .unwrap();
            tell(&format!("deleted {id}"));
        }
    }
}
