//! `keystile key rotate`, `renew` and `reveal`: another token, a longer life, the token again.

use std::time::Duration;

use super::KeyName;
use crate::cli::client::Client;
use crate::cli::output::{self, Form, Out};
use crate::cli::tenant::EtagArg;
use crate::cli::{Failure, request_id};
use crate::config;
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    key: KeyName,
    /// How long the token that it had works on, at most 30d; without it, not at all
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    grace: Option<Duration>,
    #[command(flatten)]
    etag: EtagArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct RenewArgs {
    #[command(flatten)]
    key: KeyName,
    /// How long it works from now on, for example 90d
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    expires_in: Duration,
    #[command(flatten)]
    etag: EtagArg,
}

pub(super) async fn rotate(
    client: &Client,
    args: &RotateArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = pb::RotateKeyRequest {
        name: args.key.name(),
        grace: args
            .grace
            .and_then(|grace| prost_types::Duration::try_from(grace).ok()),
        etag: args.etag.etag.clone(),
        request_id: request_id::new(),
    };
    let send = |request| async { client.keys().rotate_key(request).await };
    let rotated = client.call(request, send).await?;
    let plaintext = zeroize::Zeroizing::new(rotated.plaintext);
    let key = rotated.key.unwrap_or_default();
    output::created(out, form, &key, &plaintext, output::ONCE)?;
    match (form, &key.retiring) {
        (Form::Table, None) => out.line("The token that the key had has stopped working."),
        _ => Ok(()),
    }
}

pub(super) async fn renew(
    client: &Client,
    args: &RenewArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let etag = &args.etag.etag;
    let request = pb::RenewKeyRequest {
        name: args.key.name(),
        ttl: prost_types::Duration::try_from(args.expires_in).ok(),
        etag: etag.clone(),
        ..pb::RenewKeyRequest::default()
    };
    let send = |request| async { client.keys().renew_key(request).await };
    let renewed = client.change(etag, request, send).await?;
    output::one(out, form, &renewed)
}

pub(super) async fn reveal(
    client: &Client,
    key: &KeyName,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = pb::RevealKeyRequest { name: key.name() };
    let send = |request| async { client.keys().reveal_key(request).await };
    let revealed = client.call(request, send).await?;
    let plaintext = zeroize::Zeroizing::new(revealed.plaintext);
    let about = "This is the API key. That it was shown is in the audit of the tenant.";
    let key = revealed.key.unwrap_or_default();
    output::created(out, form, &key, &plaintext, about)
}

pub(super) async fn claim(client: &Client, form: Form, out: &mut Out) -> Result<(), Failure> {
    let request = pb::ClaimKeyRequest {
        request_id: request_id::new(),
    };
    let send = |request| async { client.keys().claim_key(request).await };
    let claimed = client.call(request, send).await?;
    let plaintext = zeroize::Zeroizing::new(claimed.plaintext);
    let key = claimed.key.unwrap_or_default();
    output::created(out, form, &key, &plaintext, output::ONCE)
}
