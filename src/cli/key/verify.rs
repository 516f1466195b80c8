//! `keystile key verify`: what a Check would say of a token.

use std::path::PathBuf;

use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::client::Client;
use crate::cli::output::{self, Form, Out};
use crate::cli::{Failure, prompt};
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// File that holds the token, - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The address that the request comes from, for keys that are bound to networks
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    source_ip: String,
}

impl VerifyArgs {
    pub(super) fn token(&self) -> Result<Zeroizing<String>, Failure> {
        prompt::token_from(&self.token_file)
    }
}

pub(super) async fn run(
    client: &Client,
    args: &VerifyArgs,
    token: &Zeroizing<String>,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = pb::VerifyKeyRequest {
        token: token.to_string(),
        source_ip: args.source_ip.clone(),
    };
    let send = |request| async { client.keys().verify_key(request).await };
    let answer = client.call(request, send).await?;
    show(&answer, form, out)?;
    if answer.valid {
        Ok(())
    } else {
        Err(Failure::failed(anyhow::anyhow!(
            "the token would be refused: {}",
            output::printable(&answer.reason)
        )))
    }
}

fn show(answer: &pb::VerifyKeyResponse, form: Form, out: &mut Out) -> Result<(), Failure> {
    match (form, &answer.key) {
        (Form::Json | Form::Yaml, key) => {
            let key = key.as_ref().map(output::json_of).transpose()?;
            let (valid, reason) = (answer.valid, &answer.reason);
            output::document(
                out,
                form,
                &json!({"valid": valid, "reason": reason, "key": key}),
            )
        }
        (Form::Table | Form::Name, Some(key)) => output::one(out, form, key),
        (Form::Table | Form::Name, None) => Ok(()),
    }
}
