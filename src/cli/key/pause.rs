//! `keystile key pause` and `resume`: a key that does not work for a while.

use std::time::Duration;

use super::KeyName;
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::output::{self, Form, Out};
use crate::cli::tenant::EtagArg;
use crate::config;
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    key: KeyName,
    /// How long, for example 1h; without it, until somebody resumes it
    #[arg(long = "for", value_name = "DURATION", value_parser = config::duration)]
    length: Option<Duration>,
    /// Kept with the key and in the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    etag: EtagArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    key: KeyName,
    #[command(flatten)]
    etag: EtagArg,
}

pub(super) async fn pause(
    client: &Client,
    args: &PauseArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let etag = &args.etag.etag;
    let length = args.length.map(prost_types::Duration::try_from);
    let request = pb::PauseKeyRequest {
        name: args.key.name(),
        etag: etag.clone(),
        reason: args.reason.clone(),
        end_time: None,
        ttl: length.and_then(Result::ok),
    };
    let send = |request| async { client.keys().pause_key(request).await };
    let paused = client.change(etag, request, send).await?;
    output::one(out, form, &paused)
}

pub(super) async fn resume(
    client: &Client,
    args: &ResumeArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let etag = &args.etag.etag;
    let request = pb::ResumeKeyRequest {
        name: args.key.name(),
        etag: etag.clone(),
    };
    let send = |request| async { client.keys().resume_key(request).await };
    let resumed = client.change(etag, request, send).await?;
    output::one(out, form, &resumed)
}
