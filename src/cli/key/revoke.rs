//! `keystile key revoke`: one key, and who has confirmed it.

use std::time::Duration;

use anyhow::anyhow;

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::key::KeyName;
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::tenant::EtagArg;
use crate::clock::Span;
use crate::config;
use crate::proto::admin as pb;

/// The longest that a server waits; it refuses more.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    key: KeyName,
    /// Kept with the key and in the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// How long to wait until every live sidecar has confirmed that it refuses the key, at most 60s
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    etag: EtagArg,
}

pub(super) async fn run(
    client: Client,
    args: &RevokeArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let wait = args.wait.unwrap_or_default();
    let key = send(&client.waiting(wait.min(WAIT_MAX)), args, wait).await?;
    let late = &key.unconfirmed_sidecars;
    let what = if wait.is_zero() || !late.is_empty() {
        "revoked for good"
    } else {
        "revoked for good; every live sidecar has confirmed it"
    };
    output::done(out, form, &key, what)?;
    if late.is_empty() {
        Ok(())
    } else {
        Err(unconfirmed(late, wait))
    }
}

async fn send(client: &Client, args: &RevokeArgs, wait: Duration) -> Result<pb::Key, Failure> {
    let etag = &args.etag.etag;
    let request = pb::RevokeKeyRequest {
        name: args.key.name(),
        etag: etag.clone(),
        reason: args.reason.clone(),
        wait: prost_types::Duration::try_from(wait).ok(),
    };
    let send = |request| async { client.keys().revoke_key(request).await };
    if etag.is_empty() {
        client.call(request, send).await
    } else {
        client.call_once(send(request)).await
    }
}

fn unconfirmed(late: &[String], wait: Duration) -> Failure {
    Failure::failed(anyhow!(
        "the key is revoked, but not confirmed within {} by {}: {}\nhint: each refuses the key as soon as it hears of it; do this again to ask again, and stop a sidecar that never answers (`keystile fleet` shows who lives)",
        Span(wait),
        match late.len() {
            1 => "1 sidecar".to_owned(),
            count => format!("{count} sidecars"),
        },
        printable(&late.join(", ")),
    ))
}
