//! `keystile key revoke`: one key, and who has confirmed it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::cli::client::Client;
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::tenant::EtagArg;
use crate::cli::{Failure, prompt};
use crate::clock::Span;
use crate::config;
use crate::proto::admin as pb;
use crate::proto::admin::revoke_token_request::Target;

/// The longest that a server waits; it refuses more.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").args(["tenant", "itself", "token_file", "lookup_id"]).required(true))]
pub(super) struct RevokeArgs {
    /// The tenant's id
    #[arg(requires = "key")]
    tenant: Option<String>,
    /// The key's id
    key: Option<String>,
    /// In place of tenant and key: the key that this is called with, whatever it may do otherwise
    #[arg(long = "self", conflicts_with_all = ["cascade", "etag"])]
    itself: bool,
    /// In place of tenant and key: a file that holds a token of the key, - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// In place of tenant and key, as a last resort: where its entry is found, which is what stands in the braces of its name in Redis
    #[arg(long, value_name = "ID")]
    lookup_id: Option<String>,
    /// Kept with the key and in the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// How long to wait until every live sidecar has confirmed that it refuses the key, at most 60s
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    wait: Option<Duration>,
    /// Revoke too what it has made, and what that has made
    #[arg(long)]
    cascade: bool,
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
    } else if key.confirmed_sidecars == 0 {
        "revoked for good; no live sidecar is known, so nobody has confirmed it"
    } else {
        "revoked for good; every live sidecar has confirmed it"
    };
    let what = match key.also_revoked_count {
        0 if args.cascade => format!("{what}; it has made no other key that worked"),
        0 => what.to_owned(),
        count => format!("{what}, and with it {count} that come from it"),
    };
    show(out, form, &key, &what)?;
    if late.is_empty() {
        Ok(())
    } else {
        Err(unconfirmed(late, wait))
    }
}

/// Where nobody can say whose key it was there is no name.
fn show(out: &mut Out, form: Form, key: &pb::Key, what: &str) -> Result<(), Failure> {
    match form {
        Form::Table if key.name.is_empty() => out.line(format_args!(
            "{what}: the entry cannot be read, so it is not known whose key it was"
        )),
        _ => output::done(out, form, key, what),
    }
}

async fn send(client: &Client, args: &RevokeArgs, wait: Duration) -> Result<pb::Key, Failure> {
    if let Some(target) = target(args)? {
        if !args.etag.etag.is_empty() {
            return Err(Failure::usage("--etag needs the key's name"));
        }
        return send_token(client, args, target, wait).await;
    }
    if args.itself {
        return send_self(client, args, wait).await;
    }
    let (tenant, key) = (args.tenant.as_deref(), args.key.as_deref());
    let (tenant, key) = (tenant.unwrap_or_default(), key.unwrap_or_default());
    let etag = &args.etag.etag;
    let request = pb::RevokeKeyRequest {
        name: format!("tenants/{tenant}/keys/{key}"),
        etag: etag.clone(),
        reason: args.reason.clone(),
        wait: prost_types::Duration::try_from(wait).ok(),
        cascade: args.cascade,
    };
    let send = |request| async { client.keys().revoke_key(request).await };
    client.change(etag, request, send).await
}

async fn send_self(client: &Client, args: &RevokeArgs, wait: Duration) -> Result<pb::Key, Failure> {
    let request = pb::RevokeSelfRequest {
        reason: args.reason.clone(),
        wait: prost_types::Duration::try_from(wait).ok(),
    };
    // Once: when it is done, the key is not recognised any more.
    client.call_once(client.keys().revoke_self(request)).await
}

/// What the key is known by, if not by its name.
fn target(args: &RevokeArgs) -> Result<Option<Target>, Failure> {
    let file = args.token_file.as_deref().map(prompt::token_from);
    let token = file
        .transpose()?
        .map(|token| Target::Token(token.to_string()));
    Ok(token.or_else(|| args.lookup_id.clone().map(Target::LookupId)))
}

async fn send_token(
    client: &Client,
    args: &RevokeArgs,
    target: Target,
    wait: Duration,
) -> Result<pb::Key, Failure> {
    let request = pb::RevokeTokenRequest {
        target: Some(target),
        reason: args.reason.clone(),
        wait: prost_types::Duration::try_from(wait).ok(),
    };
    let send = |request| async { client.keys().revoke_token(request).await };
    client.call(request, send).await
}

fn unconfirmed(late: &[String], wait: Duration) -> Failure {
    Failure::failed(anyhow!(
        "the key is revoked, but not confirmed within {} by {}: {}\nhint: each refuses the key as soon as the change reaches it; do this again to ask again, and stop a sidecar that never answers (`keystile fleet` shows who lives)",
        Span(wait),
        match late.len() {
            1 => "1 sidecar".to_owned(),
            count => format!("{count} sidecars"),
        },
        printable(&late.join(", ")),
    ))
}
