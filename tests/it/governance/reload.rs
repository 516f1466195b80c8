//! A new configuration is taken while the process runs, from a file that is written, swapped or moved.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::wait_for;
use crate::support::program::{Place, Running};

const RULES: &str = "api_keys: {min_expiry_days: 0, max_expiry_days: 0}";

fn keys_per_user(place: &Place) -> String {
    let shown = place.do_it(&["limits", "get", "acme"]);
    let line = shown.lines().find(|line| line.contains("keys per user"));
    line.unwrap_or_else(|| panic!("{shown}")).trim().to_owned()
}

fn wait_for_limit(place: &Place, limit: &str) {
    wait_for(&format!("the limit {limit}"), || {
        keys_per_user(place).ends_with(limit).then_some(())
    });
}

fn wait_for_log(running: &Running, words: &str) {
    wait_for(words, || running.log().contains(words).then_some(()));
}

fn metric(place: &Place, line: &str) -> bool {
    let (_, metrics) = place.ops("/metrics").unwrap();
    metrics.lines().any(|found| found == line)
}

#[test]
fn new_limits_hold_at_once_and_a_bad_file_changes_nothing_and_names_every_mistake() {
    let place = Place::bootstrapped();
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    assert!(keys_per_user(&place).ends_with("10 (default)"));
    let make = |name| place.run(&["key", "create", "acme", "--name", name, "--owner", "alice"]);
    for name in ["one", "two", "three"] {
        assert_eq!(make(name).code, 0);
    }

    // Lower than what is there: the keys stay, the next one is refused.
    place.edit_config(RULES, "api_keys: {default_limits: {max_keys_per_user: 2}}");
    running.signal("HUP");
    wait_for_limit(&place, "2 (default)");
    let refused = make("four");
    assert!(
        refused
            .stderr
            .contains("API key limit exceeded: the owner has 3 of 2 keys"),
        "{}",
        refused.stderr
    );
    let kept = place.do_it(&["key", "list", "acme", "-o", "name"]);
    assert_eq!(kept.lines().count(), 3);
    assert!(metric(&place, "keystile_config_stale 0"));

    place.edit_config(
        "max_keys_per_user: 2}",
        "max_keys_per_user: 0, max_keys_per_usr: 3}, max_expiry_days: -1",
    );
    running.signal("HUP");
    wait_for_log(&running, "rejected the new configuration");
    let log = running.log();
    for mistake in [
        "api_keys.default_limits.max_keys_per_user: 0 is not a whole number from 1 to 100000",
        "api_keys.default_limits.max_keys_per_usr",
        "max_keys_per_user",
        "api_keys.max_expiry_days: -1",
    ] {
        assert!(log.contains(mistake), "{mistake}: {log}");
    }
    assert!(keys_per_user(&place).ends_with("2 (default)"));
    assert!(metric(&place, "keystile_config_stale 1"));
    assert!(metric(
        &place,
        "keystile_config_reloads_total{outcome=\"failed\"} 1"
    ));

    // Mended, with something that needs a restart beside what does not.
    place.edit_config(
        "max_keys_per_user: 0, max_keys_per_usr: 3}, max_expiry_days: -1",
        "max_keys_per_user: 7}",
    );
    place.edit_config("workers: 2", "workers: 3");
    place.add_config("profile: production");
    running.signal("HUP");
    wait_for_limit(&place, "7 (default)");
    wait_for_log(&running, "need a restart");
    let log = running.log();
    let told = log
        .lines()
        .find(|line| line.contains("need a restart"))
        .unwrap();
    assert!(
        told.contains("authz.workers") && !told.contains("profile"),
        "{told}"
    );
    assert!(metric(&place, "keystile_config_stale 0"));
    // The profile's defaults came with it: an expiry is needed now.
    let refused = make("five");
    assert!(
        refused
            .stderr
            .contains("API key expiry validation failed: must be set"),
        "{}",
        refused.stderr
    );
    let explained = place.do_it(&["limits", "explain", "acme"]);
    assert!(
        explained.contains("enforce_expiry is from the profile"),
        "{explained}"
    );
}

/// A folder as the kubelet fills it: what is read is a link to a link to a folder that is replaced whole.
fn mount(volume: &Path, version: &str, config: &str) {
    let folder = volume.join(format!("..{version}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("keystile.yaml"), config).unwrap();
    symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn a_config_map_that_is_swapped_is_taken_without_a_signal() {
    let place = Place::bootstrapped();
    let file = place.path("keystile.yaml");
    let config = fs::read_to_string(&file).unwrap();
    let with = |max: u32| {
        let rules = format!("api_keys: {{default_limits: {{max_keys_per_user: {max}}}}}");
        config.replace(RULES, &rules)
    };
    let volume = place.path("volume");
    fs::create_dir(&volume).unwrap();
    mount(&volume, "v1", &with(3));
    fs::remove_file(&file).unwrap();
    symlink("volume/..data/keystile.yaml", &file).unwrap();
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    assert!(keys_per_user(&place).ends_with("3 (default)"));

    mount(&volume, "v2", &with(4));
    fs::remove_dir_all(volume.join("..v1")).unwrap();
    wait_for_limit(&place, "4 (default)");
    mount(&volume, "v3", "api_keys: [\n");
    fs::remove_dir_all(volume.join("..v2")).unwrap();
    wait_for_log(&running, "rejected the new configuration");
    assert!(keys_per_user(&place).ends_with("4 (default)"));
    mount(&volume, "v4", &with(5));
    wait_for_limit(&place, "5 (default)");
}
