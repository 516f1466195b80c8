//! Every configuration that the chart and the compose file hand to a process, before the real binary.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::matrix::MATRIX;
use super::root;
use crate::harness::keystile;
use crate::harness::process::without_our_environment;

fn check(file: &Path) -> Result<(), String> {
    let mut command = Command::new(keystile::binary());
    without_our_environment(&mut command);
    let output = command
        .args(["config", "check", "--no-files", "-c"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn every_rendered_config_is_accepted_by_the_real_binary() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keystile.yaml");
    let mut seen = BTreeSet::new();
    for rendered in &MATRIX.all {
        for map in rendered.of_kind("ConfigMap") {
            for (entry, text) in map["data"].as_object().into_iter().flatten() {
                let text = text.as_str().unwrap();
                // The dashboard is for Grafana (`monitoring.rs`).
                if !entry.ends_with(".yaml") || !seen.insert(text) {
                    continue;
                }
                fs::write(&file, text).unwrap();
                check(&file).unwrap_or_else(|said| panic!("{} {entry}: {said}", rendered.name));
            }
        }
    }
    assert!(seen.len() > 15, "{} configs", seen.len());
}

#[test]
fn the_config_files_of_the_compose_file_are_accepted() {
    for name in ["control-plane", "sidecar"] {
        check(&root().join(format!("docker/compose/{name}.yaml"))).unwrap();
    }
}
