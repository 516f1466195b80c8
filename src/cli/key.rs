//! `keystile key`: API keys on a control plane.

mod bulk;
mod digests;
mod import;
mod pause;
mod revoke;
mod revoke_all;
mod rotate;
mod table;
mod update;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::client::Client;
use crate::cli::endpoint::ClientArgs;
use crate::cli::list::ListArgs;
use crate::cli::name_of;
use crate::cli::output::{self, Out};
use crate::cli::watch::{self, WatchArg};
use crate::cli::{Failure, block_on, request_id};
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make a key and print its token, once; or the keys of a table
    #[command(
        after_help = "A table (--csv) has a first line that names its columns, in any order:
  name          required
  tenant        unless it is named on the command line
  owner         `default` if empty
  role          user, tenant_admin or global_admin; user if empty
  admin_access  none, self or role; by the server's rules if empty
  scopes, features, networks   several are separated by blanks
  rate, quota   limits of its own, such as 10/s and 20/day
  description   for people
  expires_at    for example 2027-01-31T00:00:00Z; never if empty
The cells are separated by commas, semicolons, tabs or |. A cell that a spreadsheet has changed (1.2E+31, ####,
#REF!) is refused; a ' before = + - @, as in files of ours, is left out.
The whole table is checked before anything is sent. Run it again within a day to resume after an
interruption: a key that the same caller made of the same tenant, name and owner is returned again with its token.

Examples:
  keystile key create acme --name ci --owner alice --role user --expires-in 30d --scope read
  keystile key create acme --name svc --owner alice --admin-access none
  keystile key create acme --name ci --allow-cidr 10.0.0.0/8 --allow-cidr 192.0.2.7
  keystile key create acme --name ci --rate 10/s --quota 1000/day
  keystile key create acme --name ci -o json | jq -r .plaintext
  keystile key create --csv keys-of-many-tenants.csv --tokens-file tokens.csv"
    )]
    Create(Box<CreateArgs>),
    /// Take over tokens that another system made, so that their holders need not change anything
    Import(Box<import::ImportArgs>),
    /// List the keys of a tenant, revoked ones included
    #[command(after_help = "Examples:
  keystile key list acme
  keystile key list acme --filter 'state = ACTIVE AND owner = \"alice@example.com\"' --watch")]
    List {
        /// The tenant's id
        tenant: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show a key, without its token
    #[command(after_help = "Example:
  keystile key get acme mfzwizltoqzdgmjs -o json")]
    Get {
        #[command(flatten)]
        key: KeyName,
        #[command(flatten)]
        watch: WatchArg,
    },
    /// Change a key; what is not named stays
    #[command(after_help = "Examples:
  keystile key update acme mfzwizltoqzdgmjs --scope write --remove-scope read
  keystile key update acme mfzwizltoqzdgmjs --allow-cidr 10.0.0.0/8")]
    Update(Box<update::UpdateArgs>),
    /// Give a key another token and print it, once; its id, limits and expiry stay
    #[command(
        after_help = "Without --grace the token that it had stops working at once. With it, both work until the grace is over, and never
past the key's expiry; a token that was still in the grace of an earlier rotation stops at once.

Examples:
  keystile key rotate acme mfzwizltoqzdgmjs
  keystile key rotate --grace 1h acme mfzwizltoqzdgmjs
  keystile key rotate --grace 1h acme mfzwizltoqzdgmjs -o json | jq -r .plaintext"
    )]
    Rotate(rotate::RotateArgs),
    /// Get the token that a schedule has made to take the place of the one that this is called with
    #[command(
        after_help = "Where the plan of a tenant has a rotation, a key gets another token by itself. Its holder claims it with the old
one, once, before that stops working. The key that this is called with is the one it is about.

Example:
  KEYSTILE_API_KEY=$(cat old-token) keystile key claim -o json | jq -r .plaintext"
    )]
    Claim,
    /// Put off when a key expires; its token stays, and an expired key works again
    #[command(after_help = "Example:
  keystile key renew --expires-in 90d acme mfzwizltoqzdgmjs")]
    Renew(rotate::RenewArgs),
    /// Show the present token of a key again, where tokens are kept
    #[command(
        after_help = "That it was shown is in the audit of the tenant. Needs the role tenant_admin.

Examples:
  keystile key reveal acme mfzwizltoqzdgmjs
  keystile key reveal acme mfzwizltoqzdgmjs -o json | jq -r .plaintext"
    )]
    Reveal(KeyName),
    /// Make a key stop working for a while; `key resume` ends that
    #[command(
        after_help = "Its holder is refused with 403 `api_key_paused` until then. Pausing a paused key sets end and reason anew; what an
admin has paused its owner does not resume.

Examples:
  keystile key pause acme mfzwizltoqzdgmjs --reason \"unpaid\"
  keystile key pause acme mfzwizltoqzdgmjs --for 1h"
    )]
    Pause(pause::PauseArgs),
    /// End the pause of a key
    #[command(after_help = "Example:
  keystile key resume acme mfzwizltoqzdgmjs")]
    Resume(pause::ResumeArgs),
    /// Make a key stop working, at once and for good
    #[command(
        after_help = "With --wait it ends with 1 when a live sidecar has not confirmed in time: the key is revoked all the
same. Doing it again asks again.
A key is revoked also where records in the store are damaged: by its name, else by a token of it, else by its lookup id,
which needs the role global_admin.

Examples:
  keystile key revoke acme mfzwizltoqzdgmjs --reason \"leaked\"
  pass show leaked | keystile key revoke --token-file -
  KEYSTILE_API_KEY=$(cat leaked-token) keystile key revoke --self
  keystile key revoke acme mfzwizltoqzdgmjs --wait 5s
  keystile key revoke --cascade acme mfzwizltoqzdgmjs --reason \"stolen\""
    )]
    Revoke(revoke::RevokeArgs),
    /// Make all keys of a tenant, or of one owner in it, stop working, at once and for good
    #[command(
        after_help = "The key that this is done with goes on working, and so do keys of a role above its own.
What stops half way is finished by doing it again.

Examples:
  keystile key revoke-all acme --owner alice --dry-run
  keystile key revoke-all acme --owner alice --reason \"left the company\"
  keystile key revoke-all acme --yes"
    )]
    RevokeAll(revoke_all::RevokeAllArgs),
    /// Say what a Check would say of a token now
    #[command(after_help = "Ends with 1 when the token would be refused.

Examples:
  keystile key verify --token-file token.txt
  pass show acme | keystile key verify --token-file - --source-ip 192.0.2.7")]
    Verify(verify::VerifyArgs),
}

/// Which key.
#[derive(Debug, clap::Args)]
struct KeyName {
    /// The tenant's id
    tenant: String,
    /// The key's id
    key: String,
}

impl KeyName {
    fn name(&self) -> String {
        format!("tenants/{}/keys/{}", self.tenant, self.key)
    }
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The tenant's id; without it, the table's column `tenant`
    #[arg(required_unless_present = "csv")]
    tenant: Option<String>,
    /// What people call it
    #[arg(long, required_unless_present = "csv")]
    name: Option<String>,
    /// A table of many keys, - for standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["name", "test", "description", "owner", "role", "expires_in", "scopes", "features", "allow_cidrs", "rate", "quota"]
    )]
    csv: Option<PathBuf>,
    /// File to make for the tokens of the table's keys, a table with mode 0600, with a ' before what a spreadsheet would calculate; it must not be there yet
    #[arg(long, value_name = "FILE", requires = "csv")]
    tokens_file: Option<PathBuf>,
    #[command(flatten)]
    facts: FactArgs,
    /// Make a key for trying out, whose token says so
    #[arg(long)]
    test: bool,
}

/// What a key is made with, whoever made its token.
#[derive(Debug, clap::Args)]
struct FactArgs {
    /// For people
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// The user of the tenant that it belongs to
    #[arg(long, default_value = "default")]
    owner: String,
    /// What its holder may do on the admin API
    #[arg(long, value_enum, default_value_t)]
    role: RoleArg,
    /// Whether it opens the admin API at all; without it, by `api_keys.default_admin_access` of the server
    #[arg(long, value_enum)]
    admin_access: Option<AdminAccessArg>,
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
    /// How fast it may ask, for example 10/s or "10/s burst 20"; its tenant's limit holds beside it
    #[arg(long, default_value = "", hide_default_value = true)]
    rate: String,
    /// How much it may ask, for example 20/day or 1000000/month; its tenant's limit holds beside it
    #[arg(long, default_value = "", hide_default_value = true)]
    quota: String,
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

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum AdminAccessArg {
    /// It calls services and nothing else
    None,
    /// It may read, claim, rotate and revoke itself
    #[value(name = "self")]
    Itself,
    /// It may do what its role gives
    Role,
}

impl From<AdminAccessArg> for pb::AdminAccess {
    fn from(access: AdminAccessArg) -> Self {
        match access {
            AdminAccessArg::None => Self::None,
            AdminAccessArg::Itself => Self::Self_,
            AdminAccessArg::Role => Self::Role,
        }
    }
}

impl From<RoleArg> for pb::Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::User => Self::User,
            RoleArg::TenantAdmin => Self::TenantAdmin,
            RoleArg::GlobalAdmin => Self::GlobalAdmin,
        }
    }
}

pub(super) fn run(args: &KeyArgs, out: &mut Out) -> Result<(), Failure> {
    block_on(dispatch(args, out))
}

async fn dispatch(args: &KeyArgs, out: &mut Out) -> Result<(), Failure> {
    let form = args.client.output;
    if let KeyCommand::RevokeAll(args) = &args.command {
        args.confirm()?;
    }
    let client = || Client::connect(&args.client);
    match &args.command {
        KeyCommand::Create(args) => {
            let now = SystemClock.now();
            if let Some(work) = args.table(form, now)? {
                let client = client().await?.with_long_timeout();
                return table::run(&client, args, work, now, form, out).await;
            }
            let made = create(&client().await?, args).await?;
            let plaintext = zeroize::Zeroizing::new(made.plaintext);
            output::created(
                out,
                form,
                &made.key.unwrap_or_default(),
                &plaintext,
                output::ONCE,
            )
        }
        KeyCommand::Import(args) => {
            // Read first: a mistake in a file is found without a server.
            let now = SystemClock.now();
            let work = args.read(now)?;
            import::run(&client().await?.with_long_timeout(), work, now, form, out).await
        }
        KeyCommand::List { tenant, list } => {
            let client = client().await?;
            let render =
                async |out: &mut Out| output::many(out, form, &all(&client, tenant, list).await?);
            watch::show(out, form, list.watch, render).await
        }
        KeyCommand::Get { key, watch } => {
            let client = client().await?;
            let render = async |out: &mut Out| output::one(out, form, &get(&client, key).await?);
            watch::show(out, form, *watch, render).await
        }
        KeyCommand::Update(args) => {
            output::one(out, form, &update::run(&client().await?, args).await?)
        }
        KeyCommand::Rotate(args) => rotate::rotate(&client().await?, args, form, out).await,
        KeyCommand::Renew(args) => rotate::renew(&client().await?, args, form, out).await,
        KeyCommand::Pause(args) => pause::pause(&client().await?, args, form, out).await,
        KeyCommand::Resume(args) => pause::resume(&client().await?, args, form, out).await,
        KeyCommand::Claim => rotate::claim(&client().await?, form, out).await,
        KeyCommand::Reveal(key) => rotate::reveal(&client().await?, key, form, out).await,
        KeyCommand::Revoke(args) => revoke::run(client().await?, args, form, out).await,
        KeyCommand::RevokeAll(args) => {
            revoke_all::run(&client().await?.with_long_timeout(), args, form, out).await
        }
        KeyCommand::Verify(args) => {
            let token = args.token()?;
            verify::run(&client().await?, args, &token, form, out).await
        }
    }
}

async fn create(client: &Client, args: &CreateArgs) -> Result<pb::CreateKeyResponse, Failure> {
    let kind = if args.test {
        pb::KeyKind::Test
    } else {
        pb::KeyKind::Live
    };
    let request = pb::CreateKeyRequest {
        parent: name_of(args.tenant.as_deref().unwrap_or_default()),
        key: Some(pb::Key {
            kind: kind.into(),
            ..args.facts.key(args.name.as_deref().unwrap_or_default())
        }),
        request_id: request_id::new(),
    };
    let send = |request| async { client.keys().create_key(request).await };
    client.call(request, send).await
}

impl FactArgs {
    fn key(&self, name: &str) -> pb::Key {
        // Not a time: by the server's clock it lives exactly as long as is asked.
        let ttl = self.expires_in.map(|life| prost_types::Duration {
            seconds: i64::try_from(life.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(life.subsec_nanos()).unwrap_or(0),
        });
        pb::Key {
            display_name: name.to_owned(),
            description: self.description.clone(),
            owner: self.owner.clone(),
            role: pb::Role::from(self.role).into(),
            admin_access: (self.admin_access)
                .map_or(pb::AdminAccess::Unspecified, Into::into)
                .into(),
            scopes: self.scopes.clone(),
            features: (!self.features.is_empty()).then(|| pb::FeatureList {
                names: self.features.clone(),
            }),
            allow_cidrs: self.allow_cidrs.clone(),
            rate: self.rate.clone(),
            quota: self.quota.clone(),
            ttl,
            ..pb::Key::default()
        }
    }
}

async fn all(client: &Client, tenant: &str, args: &ListArgs) -> Result<Vec<pb::Key>, Failure> {
    let fetch = async |page_size, page_token| {
        let request = pb::ListKeysRequest {
            parent: name_of(tenant),
            page_size,
            page_token,
            filter: args.filter.clone(),
        };
        let send = |request| async { client.keys().list_keys(request).await };
        let page = client.call(request, send).await?;
        Ok((page.keys, page.next_page_token))
    };
    args.all(fetch).await
}

async fn get(client: &Client, key: &KeyName) -> Result<pb::Key, Failure> {
    let send = |request| async { client.keys().get_key(request).await };
    client
        .call(pb::GetKeyRequest { name: key.name() }, send)
        .await
}
