//! Guesses, and near misses of a real token: none is let in, and who has a real one is not kept out meanwhile.
//! That a guesser is blocked is in [`crate::abuse`].

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use serde_json::json;

use super::unknown;
use crate::rest::{KEYS, PLACE, VALIDATE, ask, check_refused};
use crate::support::{check, client};

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The checksum over all that stands before it, as the form of a token demands.
fn with_checksum(body: &str) -> String {
    let mut sum = crc32fast::hash(body.as_bytes());
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(sum % 62) as usize];
        sum /= 62;
    }
    format!("{body}{}", String::from_utf8_lossy(&digits))
}

/// Tokens that differ from a real one in as little as can be.
fn near_misses(token: &str) -> Vec<String> {
    let (body, _) = token.split_at(token.len() - 6);
    assert_eq!(with_checksum(body), token, "the checksum is known");
    let secret = body.len() - 43;
    let mut all = Vec::new();
    for at in secret..body.len() {
        for step in [1, 7, 31] {
            let mut changed = body.as_bytes().to_vec();
            let digit = BASE62
                .iter()
                .position(|digit| *digit == changed[at])
                .unwrap();
            changed[at] = BASE62[(digit + step) % 62];
            all.push(with_checksum(&String::from_utf8(changed).unwrap()));
        }
    }
    for at in secret..body.len() - 1 {
        let mut swapped = body.as_bytes().to_vec();
        swapped.swap(at, at + 1);
        let swapped = String::from_utf8(swapped).unwrap();
        if swapped != body {
            all.push(with_checksum(&swapped));
        }
    }
    let other_case: String = body[secret..]
        .chars()
        .map(|c| {
            if c.is_uppercase() {
                c.to_ascii_lowercase()
            } else {
                c.to_ascii_uppercase()
            }
        })
        .collect();
    all.extend([
        with_checksum(&format!("{}{other_case}", &body[..secret])),
        with_checksum(&body.replace("ks_live", "ks_test")),
        with_checksum(&format!("{body}0")),
        with_checksum(&body[..body.len() - 1]),
        token[..token.len() - 1].to_owned(),
        format!("{token}0"),
        format!("{token}="),
        format!("{token}%00"),
        token.to_uppercase(),
        token.to_lowercase(),
        body.to_owned(),
        token[..20].to_owned(),
    ]);
    all
}

#[tokio::test]
async fn a_check_lets_no_guess_and_no_near_miss_in() {
    let channel = client::tcp(PLACE.server.authz_port).await;
    let answer = async |token: &str| {
        let request = check::headers(&[(":method", "GET"), ("x-api-key", token)]);
        let mut client = AuthorizationClient::new(channel.clone());
        let answer = client.check(request).await.unwrap().into_inner();
        let refused = answer.status.clone().unwrap_or_default().message;
        (client::http_status(&answer), refused)
    };
    let misses = near_misses(&PLACE.alice);
    assert!(misses.len() > 150);
    let guesses = (0..2000).map(|_| unknown());
    for (at, token) in misses.into_iter().chain(guesses).enumerate() {
        let (status, reason) = answer(&token).await;
        assert_eq!((status, reason.as_str()), (401, "invalid_api_key"), "{at}");
        if at % 100 == 0 {
            assert_eq!(answer(&PLACE.alice).await.0, 200, "after {at} guesses");
        }
    }
}

#[test]
fn rest_lets_no_near_miss_in() {
    for token in near_misses(&PLACE.admin).iter().step_by(5) {
        check_refused(ask("GET", KEYS, token, None), 401, "INVALID_API_KEY");
        let body = json!({ "token": token });
        let answer = ask("POST", VALIDATE, "", Some(&body));
        check_refused(answer, 401, "INVALID_API_KEY");
    }
    assert_eq!(ask("GET", KEYS, &PLACE.admin, None).0.status, 200);
}
