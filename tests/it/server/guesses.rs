//! Who guesses, by whichever address, port or protocol.

use crate::support::client;
use crate::support::program::Place;

const GUESS: (&str, &str) = ("x-api-key", "a-guess-of-the-right-length");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv4_guesser_is_one_source_behind_every_translator_and_its_neighbours_are_others() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 5, nat64_prefixes: [\"64:ff9b:1::/48\"]}");
    let _running = place.serve();
    let authz = client::tcp(place.authz).await;
    let ways = [
        "192.0.2.33",
        "::ffff:192.0.2.33",
        "64:ff9b::192.0.2.33",
        "2002:c000:221::1",
        "64:ff9b:1:c000:2:2100::",
    ];
    for way in ways {
        assert_eq!(client::ask_from(&authz, &[GUESS], way).await, 401, "{way}");
    }
    for way in ways {
        assert_eq!(client::ask_from(&authz, &[GUESS], way).await, 429, "{way}");
    }
    for neighbour in [
        "192.0.2.34",
        "64:ff9b::192.0.2.34",
        "64:ff9b:1:c000:2:2200::",
    ] {
        let status = client::ask_from(&authz, &[GUESS], neighbour).await;
        assert_eq!(status, 401, "{neighbour}");
    }
    assert!(place.do_it(&["blocks", "list"]).contains("192.0.2.33"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guesser_who_has_a_48_is_blocked_with_it_and_an_operator_can_end_that() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 2}");
    let _running = place.serve();
    let authz = client::tcp(place.authz).await;
    // Never twice from one /64.
    for number in 0..32 {
        let from = format!("2001:db8:7:{number:x}::1");
        let status = client::ask_from(&authz, &[GUESS], &from).await;
        assert_eq!(status, 401, "{from}");
    }
    let fresh = "2001:db8:7:ffff::1";
    assert_eq!(client::ask_from(&authz, &[GUESS], fresh).await, 429);
    let other = "2001:db8:8::1";
    assert_eq!(client::ask_from(&authz, &[GUESS], other).await, 401);
    let known = ("x-api-key", place.admin_token.as_str());
    place.do_it(&["tenant", "list"]);
    assert_eq!(
        client::ask_from(&authz, &[known], fresh).await,
        200,
        "in memory"
    );
    assert!(place.do_it(&["blocks", "list"]).contains("2001:db8:7::/48"));
    place.do_it(&["blocks", "clear", "2001:db8:7::/48"]);
    assert_eq!(client::ask_from(&authz, &[GUESS], fresh).await, 401);
}
