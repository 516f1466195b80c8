//! `keystile key revoke-all`: every key of a tenant or of an owner.

use serde_json::json;

use crate::cli::client::Client;
use crate::cli::name_of;
use crate::cli::output::{self, Form, Out};
use crate::cli::{Failure, prompt};
use crate::proto::admin as pb;
use crate::proto::admin::revoke_all_keys_request::Scope;

#[derive(Debug, clap::Args)]
pub(super) struct RevokeAllArgs {
    /// The tenant's id
    tenant: String,
    /// Only the keys of this owner
    #[arg(long)]
    owner: Option<String>,
    /// Kept with each key and in the audit
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Only count what would be revoked
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl RevokeAllArgs {
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        let Self { tenant, yes, .. } = self;
        if self.dry_run {
            return Ok(());
        }
        match &self.owner {
            Some(owner) => {
                let what = format!("revokes all keys of {owner} in tenant {tenant}");
                prompt::confirm(&what, owner, *yes)
            }
            None => prompt::confirm(
                &format!("revokes all keys of tenant {tenant}"),
                tenant,
                *yes,
            ),
        }
    }
}

pub(super) async fn run(
    client: &Client,
    args: &RevokeAllArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let scope = match &args.owner {
        Some(owner) => Scope::Owner(owner.clone()),
        None => Scope::AllOwners(true),
    };
    let mut request = pb::RevokeAllKeysRequest {
        parent: name_of(&args.tenant),
        scope: Some(scope),
        reason: args.reason.clone(),
        page_token: String::new(),
        dry_run: args.dry_run,
    };
    let (mut revoked, mut skipped) = (0, 0);
    loop {
        let send = |request| async { client.keys().revoke_all_keys(request).await };
        let answer = client.call(request.clone(), send).await?;
        revoked += answer.revoked_count;
        skipped += answer.skipped_count;
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    let what = match args.dry_run {
        true => "would be revoked for good",
        false => "revoked for good",
    };
    match form {
        Form::Table if skipped > 0 => out.line(format_args!(
            "{revoked} keys {what}; {skipped} left: the one in use here, or above its role"
        )),
        Form::Table => out.line(format_args!("{revoked} keys {what}")),
        Form::Json | Form::Yaml => {
            let counts = json!({
                "revoked_count": revoked,
                "skipped_count": skipped,
                "dry_run": args.dry_run,
            });
            output::document(out, form, &counts)
        }
        Form::Name => Ok(()),
    }
}
