//! A thousand configurations, half of them bad, while requests are checked.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::Channel;

use crate::harness::{PATIENCE, pass, wait_until};
use crate::support::client;
use crate::support::program::{Place, Running};

const RELOADS: usize = 1000;
/// After these the allocator has what it needs.
const WARM: usize = 100;
/// What may be more in memory at the end: less than the good configurations together, were they kept.
const GROWTH_MAX: u64 = 8 << 20;
const RULES: &str = "api_keys: {min_expiry_days: 0, max_expiry_days: 0}";

/// Configurations that are large enough for a leak to be seen.
fn rules(max: usize) -> String {
    let tenants: Vec<String> = (0..40)
        .map(|at| format!("{{tenant_id: t{at}, max_keys_per_user: {max}}}"))
        .collect();
    format!(
        "api_keys: {{default_limits: {{max_keys_per_user: {max}}}, tenant_limits: [{}]}}",
        tenants.join(", ")
    )
}

/// Open files, and bytes in memory.
fn footprint(running: &Running) -> (usize, u64) {
    let pid = running.pid();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let anonymous = status.lines().find(|line| line.starts_with("RssAnon"));
    let kib = anonymous.and_then(|line| line.split_ascii_whitespace().nth(1));
    (files, kib.unwrap().parse::<u64>().unwrap() << 10)
}

/// How often a configuration was read again.
fn reads(place: &Place) -> usize {
    let (_, metrics) = place.ops("/metrics").unwrap();
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("keystile_config_reloads_total{"));
    let counts = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    counts.sum()
}

async fn check_on(channel: Channel, token: String, stop: Arc<AtomicBool>, checks: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let status = client::ask(&channel, &[("x-api-key", &token)]).await;
        assert_eq!(status, 200);
        checks.fetch_add(1, Ordering::Relaxed);
        pass(Duration::from_millis(4), "the load leaves room for reloads").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reloads_fails_no_check_and_leaks_nothing() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let config = fs::read_to_string(place.path("keystile.yaml")).unwrap();
    let (stop, checks) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut load = Vec::new();
    for _ in 0..2 {
        let (channel, token) = (client::tcp(place.authz).await, place.admin_token.clone());
        load.push(tokio::spawn(check_on(
            channel,
            token,
            Arc::clone(&stop),
            Arc::clone(&checks),
        )));
    }
    let pid = running.pid().to_string();
    let mut warm = (0, 0);
    for reload in 0..RELOADS {
        // Bad ones: a value, a contradiction, no YAML.
        let bad = [
            "api_keys: {enabled: 7}",
            "api_keys: {min_expiry_days: 9, max_expiry_days: 8}",
            "api_keys: [",
        ];
        let text = match reload % 2 {
            0 => config.replace(RULES, bad[reload / 2 % 3]),
            _ => config.replace(RULES, &rules(1 + reload)),
        };
        fs::write(place.path("next"), text).unwrap();
        fs::rename(place.path("next"), place.path("keystile.yaml")).unwrap();
        assert!(
            Command::new("kill")
                .args(["-HUP", &pid])
                .status()
                .unwrap()
                .success()
        );
        wait_until("the file is read", async || {
            let is_read = reads(&place) > reload;
            is_read.then_some(()).ok_or_else(|| running.log())
        })
        .await;
        // Between reloads there are checks, however slow this machine is.
        let enough = u64::try_from(reload / 2).unwrap();
        let checked = async || checks.load(Ordering::Relaxed) >= enough;
        wait_until("checks are answered", checked).await;
        if reload == WARM {
            warm = footprint(&running);
        }
    }
    let end = footprint(&running);
    stop.store(true, Ordering::Relaxed);
    for task in load {
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }
    assert!(end.0 <= warm.0 + 8, "open files: {} then {}", warm.0, end.0);
    assert!(
        end.1 <= warm.1 + GROWTH_MAX,
        "bytes: {} then {}",
        warm.1,
        end.1
    );
    // The last one was good.
    place.do_it(&["tenant", "create", "acme"]);
    let shown = place.do_it(&["limits", "get", "acme"]);
    assert!(shown.contains("1000 (default)"), "{shown}");
}
