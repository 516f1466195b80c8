//! A user makes keys to get more than its own key was given: what they spend is that key's. With the real binary, on
//! each store, however limits are counted.

use tonic::transport::Channel;

use crate::harness::redis::RedisServer;
use crate::support::client;
use crate::support::program::Place;

struct Key {
    id: String,
    token: String,
}

fn make(place: &Place, args: &[&str]) -> Key {
    let named = ["key", "create", "acme", "--name", "svc", "--owner", "alice"];
    let made = place.do_it(&[&named[..], args, &["-o", "json"]].concat());
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    Key {
        id: made["key"]["key_id"].as_str().unwrap().to_owned(),
        token: made["plaintext"].as_str().unwrap().to_owned(),
    }
}

/// How many of eight requests pass.
async fn spend(channel: &Channel, token: &str) -> usize {
    let mut passed = 0;
    for _ in 0..8 {
        let answer = loop {
            let answer = client::ask(channel, &[("x-api-key", token)]).await;
            // As clients do where a busy machine answers late.
            if answer != 503 {
                break answer;
            }
        };
        assert!(matches!(answer, 200 | 429), "{answer}");
        passed += usize::from(answer == 200);
    }
    passed
}

/// Makes, uses and revokes keys with a key that has five requests, and rotates it; how many pass in all.
async fn all_that_passes(mut place: Place, limit: [&str; 2]) -> usize {
    place.bootstrap();
    let _running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    let own = make(&place, &limit);
    let channel = client::tcp(place.authz).await;
    place.admin_token.clone_from(&own.token);
    let mut passed = 0;
    for _ in 0..2 {
        let made = make(&place, &limit);
        passed += spend(&channel, &made.token).await;
        // And so on: a key of a key of its own.
        let admin = std::mem::replace(&mut place.admin_token, made.token);
        let below = make(&place, &limit);
        place.admin_token = admin;
        passed += spend(&channel, &below.token).await;
        place.do_it(&["key", "revoke", "acme", &below.id]);
        place.do_it(&["key", "revoke", "acme", &made.id]);
        passed += spend(&channel, &own.token).await;
    }
    let rotated = place.do_it(&["key", "rotate", "acme", &own.id, "-o", "json"]);
    let rotated: serde_json::Value = serde_json::from_str(&rotated).unwrap();
    passed + spend(&channel, rotated["plaintext"].as_str().unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_using_and_revoking_keys_gives_a_user_no_more_than_its_key_was_given() {
    for mode in ["strict", "leased", "local"] {
        for limit in [["--quota", "5/month"], ["--rate", "1/h burst 5"]] {
            let place = Place::with_keyrings();
            place.add_config(&format!("rate_limits: {{mode: {mode}}}"));
            let passed = all_that_passes(place, limit).await;
            assert_eq!(passed, 5, "{mode} {limit:?}, embedded");
        }
        let redis = RedisServer::start();
        let place = Place::with_keyrings();
        place.add_config(&format!("rate_limits: {{mode: {mode}}}"));
        place.use_redis(&format!("url: \"redis://127.0.0.1:{}\"", redis.port()));
        let passed = all_that_passes(place, ["--quota", "5/month"]).await;
        assert_eq!(passed, 5, "{mode}, Redis");
    }
}
