//! `keystile key`: API keys on a control plane.

use std::time::Duration;

use crate::cli::client::{Client, ClientArgs};
use crate::cli::output::{self, Out};
use crate::cli::tenant::{EtagArg, name_of};
use crate::cli::{Failure, block_on};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config;
use crate::proto::admin as pb;

/// Keys a call when all are listed.
const PAGE_SIZE: i32 = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make a key and print its token, once
    #[command(after_help = "Examples:
  keystile key create acme --name ci --owner alice --role user --expires-in 30d --scope read
  keystile key create acme --name ci --allow-cidr 10.0.0.0/8 --allow-cidr 192.0.2.7
  keystile key create acme --name ci -o json | jq -r .plaintext")]
    Create(Box<CreateArgs>),
    /// List the keys of a tenant, revoked ones included
    #[command(after_help = "Example:
  keystile key list acme")]
    List {
        /// The tenant's id
        tenant: String,
    },
    /// Show a key; its token cannot be shown
    #[command(after_help = "Example:
  keystile key get acme mfzwizltoqzdgmjs -o json")]
    Get {
        /// The tenant's id
        tenant: String,
        /// The key's id
        key: String,
    },
    /// Make a key stop working, at once and for good
    #[command(after_help = "Example:
  keystile key revoke acme mfzwizltoqzdgmjs --reason \"leaked\"")]
    Revoke {
        /// The tenant's id
        tenant: String,
        /// The key's id
        key: String,
        /// Kept with the key and in the audit
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        etag: EtagArg,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The tenant's id
    tenant: String,
    /// What people call it
    #[arg(long)]
    name: String,
    /// For people
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// The user of the tenant that it belongs to
    #[arg(long, default_value = "default")]
    owner: String,
    /// What its holder may do on the admin API
    #[arg(long, value_enum, default_value_t)]
    role: RoleArg,
    /// How long it works, for example 30d; without it, for ever
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    expires_in: Option<Duration>,
    /// Something it may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Narrow it to this feature of its tenant; may be repeated
    #[arg(long = "feature", value_name = "FEATURE")]
    features: Vec<String>,
    /// A network it may be used from; without any, from everywhere; may be repeated
    #[arg(long = "allow-cidr", value_name = "CIDR")]
    allow_cidrs: Vec<String>,
    /// Make a key for trying out, whose token says so
    #[arg(long)]
    test: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum RoleArg {
    /// Its own keys
    #[default]
    User,
    /// All keys and limits of its tenant
    TenantAdmin,
    /// Tenants, system configuration, everything
    GlobalAdmin,
}

fn name_of_key(tenant: &str, key: &str) -> String {
    format!("tenants/{tenant}/keys/{key}")
}

pub(super) fn run(args: &KeyArgs, out: &mut Out) -> Result<(), Failure> {
    block_on(dispatch(args, out))
}

async fn dispatch(args: &KeyArgs, out: &mut Out) -> Result<(), Failure> {
    let form = args.client.output;
    let client = Client::connect(&args.client).await?;
    match &args.command {
        KeyCommand::Create(args) => {
            let request = request(args, SystemClock.now());
            let answer = client.keys().create_key(request).await;
            let made = answer
                .map_err(|status| client.refused(status))?
                .into_inner();
            let plaintext = zeroize::Zeroizing::new(made.plaintext);
            output::created(out, form, &made.key.unwrap_or_default(), &plaintext)
        }
        KeyCommand::List { tenant } => output::many(out, form, &list(&client, tenant).await?),
        KeyCommand::Get { tenant, key } => {
            let request = pb::GetKeyRequest {
                name: name_of_key(tenant, key),
            };
            let answer = client.keys().get_key(request).await;
            let key = answer.map_err(|status| client.refused(status))?;
            output::one(out, form, key.get_ref())
        }
        KeyCommand::Revoke {
            tenant,
            key,
            reason,
            etag,
        } => {
            let request = pb::RevokeKeyRequest {
                name: name_of_key(tenant, key),
                etag: etag.etag.clone(),
                reason: reason.clone(),
            };
            let answer = client.keys().revoke_key(request).await;
            let key = answer.map_err(|status| client.refused(status))?;
            output::done(out, form, key.get_ref(), "revoked for good")
        }
    }
}

fn request(args: &CreateArgs, now: Timestamp) -> pb::CreateKeyRequest {
    let role = match args.role {
        RoleArg::User => pb::Role::User,
        RoleArg::TenantAdmin => pb::Role::TenantAdmin,
        RoleArg::GlobalAdmin => pb::Role::GlobalAdmin,
    };
    let kind = if args.test {
        pb::KeyKind::Test
    } else {
        pb::KeyKind::Live
    };
    let expire_time = args.expires_in.map(|life| {
        let end = now.plus(life).as_millis();
        prost_types::Timestamp {
            seconds: end.div_euclid(1000),
            nanos: i32::try_from(end.rem_euclid(1000)).unwrap_or(0) * 1_000_000,
        }
    });
    pb::CreateKeyRequest {
        parent: name_of(&args.tenant),
        key: Some(pb::Key {
            display_name: args.name.clone(),
            description: args.description.clone(),
            owner: args.owner.clone(),
            role: role.into(),
            kind: kind.into(),
            scopes: args.scopes.clone(),
            features: (!args.features.is_empty()).then(|| pb::FeatureList {
                names: args.features.clone(),
            }),
            allow_cidrs: args.allow_cidrs.clone(),
            expire_time,
            ..pb::Key::default()
        }),
    }
}

async fn list(client: &Client, tenant: &str) -> Result<Vec<pb::Key>, Failure> {
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListKeysRequest {
            parent: name_of(tenant),
            page_size: PAGE_SIZE,
            page_token,
        };
        let answer = client.keys().list_keys(request).await;
        let page = answer
            .map_err(|status| client.refused(status))?
            .into_inner();
        keys.extend(page.keys);
        if page.next_page_token.is_empty() {
            return Ok(keys);
        }
        page_token = page.next_page_token;
    }
}
