//! The dashboard and the alerts, against the metrics of a real process that has everything they are about.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tokio::runtime;

use super::matrix::{MATRIX, list};
use crate::harness::ca::Ca;
use crate::harness::http1;
use crate::harness::redis::RedisServer;
use crate::support::client;
use crate::support::program::Place;

/// The names of our metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("keystile_") || word.starts_with("api_key_"))
        .map(|word| word.trim_end_matches("_bucket"))
}

/// What a process on Redis with TLS, a configuration file and `abuse` shows.
fn shown() -> BTreeSet<String> {
    let redis = RedisServer::start();
    let mut place = Place::with_keyrings();
    let pair = Ca::new("monitoring").server();
    fs::write(place.path("tls.crt"), pair.cert).unwrap();
    crate::harness::write_secret(&place.path("tls.key"), &pair.key);
    place.use_redis(&format!("url: \"{}\"", redis.url()));
    place.edit_config(
        "authz:\n",
        &format!(
            "abuse: {{}}\nauthz:\n  tls: {{cert_file: {}, key_file: {}}}\n",
            place.path("tls.crt").display(),
            place.path("tls.key").display()
        ),
    );
    place.bootstrap();
    let _server = place.serve();
    // Before the first decision there is no time that one took.
    let asked = runtime::Builder::new_current_thread().enable_all().build();
    let status = asked.unwrap().block_on(async {
        let channel = client::unix(&place.path("authz.sock")).await;
        client::ask(&channel, &[]).await
    });
    assert_eq!(status, 401);
    let ask = b"GET /metrics HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n";
    let reply = http1::send(place.ops, ask, false).unwrap();
    let text = String::from_utf8(reply.body).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn dashboard() -> Value {
    let rendered = MATRIX.named("values-ha+monitoring-dashboard");
    let map = rendered
        .of_kind("ConfigMap")
        .find(|it| it["metadata"]["labels"]["grafana_dashboard"] == "1");
    let text = map.unwrap()["data"]["keystile.json"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_one_of_a_real_process() {
    let shown = shown();
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]).flat_map(|panel| list(&panel["targets"]));
    let rules = MATRIX.named("values-ha+monitoring");
    let rules = rules.of_kind("PrometheusRule").next().unwrap();
    let rules = list(&rules["spec"]["groups"][0]["rules"]);
    let mut asked = BTreeSet::new();
    for expression in panels.chain(rules).map(|it| it["expr"].as_str().unwrap()) {
        let mut of_it = names(expression).peekable();
        assert!(
            of_it.peek().is_some(),
            "{expression} asks for nothing of ours"
        );
        asked.extend(of_it.map(str::to_owned));
    }
    let missing: Vec<&String> = asked.difference(&shown).collect();
    assert!(missing.is_empty(), "{missing:?} of {shown:?}");
    assert!(asked.len() > 25, "{asked:?}");
}

#[test]
fn every_panel_says_what_it_shows_and_is_of_one_namespace() {
    let dashboard = dashboard();
    let mut places = BTreeSet::new();
    for panel in list(&dashboard["panels"]).filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let described = panel["description"]
            .as_str()
            .is_some_and(|text| text.len() > 8);
        assert!(described, "{title}");
        let position = &panel["gridPos"];
        let place = (position["x"].as_u64(), position["y"].as_u64());
        assert!(places.insert(place), "{title} lies on another");
        for target in list(&panel["targets"]) {
            let expression = target["expr"].as_str().unwrap();
            let (of_ours, selected) = (
                names(expression).count(),
                expression
                    .matches(r#"{namespace="$namespace",job=~"$job""#)
                    .count(),
            );
            assert_eq!(of_ours, selected, "{title}: {expression}");
        }
    }
    assert!(places.len() > 15, "{places:?}");
    assert_eq!(dashboard["uid"], "keystile");
}
