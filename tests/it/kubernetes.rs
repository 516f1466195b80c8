//! The Helm chart, the examples for meshes and the compose file, by the real Helm, Envoy and Kubernetes' own schemas.

mod admission;
mod compose;
mod configs;
mod crds;
mod examples;
mod guide;
mod injector;
mod matrix;
mod monitoring;
mod policy;
mod refusals;
mod secrets;
mod switches;
mod valid;
mod webhook;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::process::without_our_environment;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/keystile")
}

/// The Helm of `make setup`.
#[track_caller]
fn helm(args: &[&str]) -> Output {
    let helm = root().join(".venv/bin/helm");
    assert!(helm.exists(), "no {}: run `make setup`", helm.display());
    let mut command = Command::new(helm);
    without_our_environment(&mut command);
    command
        .args(args)
        .current_dir(chart())
        .output()
        .expect("run helm")
}

/// `helm template` of a values file, with more arguments.
fn template(values: &str, more: &[&str]) -> Result<String, String> {
    let mut args = vec![
        "template",
        "keystile",
        ".",
        "--namespace",
        "keystile",
        "-f",
        values,
    ];
    args.extend(more);
    let output = helm(&args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}
