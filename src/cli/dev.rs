//! `keystile dev`: everything in one process, with a demo tenant to try it on.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::cli::serve::{runtime, start_logs};
use crate::cli::{Failure, bad_start};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::crypto::keyring::Ring;
use crate::crypto::token::Token;
use crate::domain::change::Actor;
use crate::domain::name::{DisplayName, Owner, PlanName, Scope, TenantId};
use crate::domain::role::{AdminAccess, Role};
use crate::keyfile;
use crate::registry::{CreatedKey, NewKey, NewTenant, Registry, RegistryError};
use crate::server;
use crate::server::parts::Parts;

/// Where the demo tenant's requests are expected to pass: the port of the sample Envoy configuration.
const ENVOY: &str = "http://127.0.0.1:10000";

/// How the first lines on standard output look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Arguments of `keystile dev`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keystile dev
  keystile dev --dir /tmp/try --authz-listen 127.0.0.1:9101

The first start in a folder makes a keyring, the tenant `demo` and two keys, and prints the keys once.
Remove the folder to start anew. For development only: no TLS, and core dumps are not switched off.")]
pub(super) struct DevArgs {
    /// Where the store and the keyrings are kept.
    #[arg(long, value_name = "DIR", default_value = ".keystile")]
    dir: PathBuf,
    /// Where Envoy asks.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9001")]
    authz_listen: SocketAddr,
    /// The admin API.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9002")]
    admin_listen: SocketAddr,
    /// Health and metrics.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9003")]
    ops_listen: SocketAddr,
    /// How the keys are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The keys that the first start makes.
struct Demo {
    admin: CreatedKey,
    user: CreatedKey,
}

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    let text = config_text(args);
    let loaded = Config::parse(
        &text,
        "the configuration of `keystile dev`",
        config::environment(),
    );
    let config = loaded.map_err(Failure::config)?.config;
    let _flushed_at_the_end = start_logs(&config)?;
    prepare(&args.dir).map_err(Failure::config)?;
    runtime().map_err(Failure::Failed)?.block_on(async {
        let parts = Parts::open(&config).await.map_err(bad_start)?;
        let demo = make_demo(&parts.registry).await.map_err(Failure::Failed)?;
        let greeting = greet(args, demo.as_ref());
        server::run(&config, None, parts, async |_| {
            print_greeting(greeting).await
        })
        .await
        .map_err(bad_start)
    })
}

fn config_text(args: &DevArgs) -> String {
    let path = |name: &str| json!(args.dir.join(name).to_string_lossy());
    // JSON strings are YAML strings: whatever the path holds, it is quoted.
    format!(
        "profile: development\n\
         authz: {{listen: [{}], insecure: {}}}\n\
         admin: {{listen: [{}], insecure: {}}}\n\
         ops: {{listen: [{}], insecure: {}}}\n\
         store: {{kind: embedded, embedded: {{path: {}}}}}\n\
         keyring: {{data: {{file: {}}}, vault: {{file: {}}}}}\n\
         telemetry: {{log: {{level: warn}}}}\n\
         plans: {{pro: {{features: [images]}}}}\n",
        json!(args.authz_listen.to_string()),
        !args.authz_listen.ip().is_loopback(),
        json!(args.admin_listen.to_string()),
        !args.admin_listen.ip().is_loopback(),
        json!(args.ops_listen.to_string()),
        !args.ops_listen.ip().is_loopback(),
        path("keystile.redb"),
        path("data.keyring"),
        path("vault.keyring"),
    )
}

/// Makes the folder and the keyrings that are not there yet.
fn prepare(dir: &Path) -> Result<(), keyfile::KeyfileError> {
    let missing = |ring: &Ring| !dir.join(keyfile::file_name(*ring)).exists();
    let rings: Vec<Ring> = [Ring::Data, Ring::Vault]
        .into_iter()
        .filter(missing)
        .collect();
    keyfile::init(dir, &rings, SystemClock.now())?;
    Ok(())
}

/// Makes the demo tenant and its keys; `None` when an earlier start did.
async fn make_demo(registry: &Registry) -> anyhow::Result<Option<Demo>> {
    let actor = Actor::Operator;
    let tenant = TenantId::parse("demo")?;
    let mut new = NewTenant::named(tenant.clone(), DisplayName::parse("Demo Inc.")?);
    new.plan = Some(PlanName::parse("pro")?);
    match registry.create_tenant(&actor, new).await {
        Ok(_) | Err(RegistryError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut user = NewKey::named(
        DisplayName::parse("try me")?,
        Owner::parse("alice")?,
        Role::User,
    );
    user.scopes.insert(Scope::parse("read")?);
    // It calls services; who manages keys has a key for that.
    user.admin_access = Some(AdminAccess::None);
    let user = match registry.create_first_key(&actor, &tenant, user).await {
        Ok(user) => user,
        Err(RegistryError::AlreadyExists { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let admin = super::bootstrap::bootstrap(registry).await?;
    Ok(Some(Demo { admin, user }))
}

fn greet(args: &DevArgs, demo: Option<&Demo>) -> Zeroizing<String> {
    Zeroizing::new(match args.output {
        Output::Json => greeting_json(args, demo),
        Output::Text => greeting_text(args, demo),
    })
}

/// Written by a thread of its own: while nobody reads, the server serves and can be stopped.
async fn print_greeting(greeting: Zeroizing<String>) -> anyhow::Result<()> {
    let (done, printed) = oneshot::channel();
    thread::Builder::new()
        .name("greeting".to_owned())
        .spawn(move || done.send(print(&greeting)))
        .context("cannot print the keys")?;
    printed.await?.context("cannot print the keys")
}

/// Past the buffer of standard output, which would keep the keys in memory.
fn print(greeting: &str) -> io::Result<()> {
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    File::from(out).write_all(greeting.as_bytes())
}

fn greeting_json(args: &DevArgs, demo: Option<&Demo>) -> String {
    let tokens = demo
        .map(|demo| json!({"admin": demo.admin.token.expose(), "user": demo.user.token.expose()}));
    let greeting = json!({
        "tenant": "demo",
        "key_id": demo.map(|demo| demo.user.key.id.as_str()),
        "tokens": tokens,
        "addresses": {
            "authz": args.authz_listen.to_string(),
            "admin": args.admin_listen.to_string(),
            "ops": args.ops_listen.to_string(),
        },
    });
    format!("{greeting}\n")
}

fn greeting_text(args: &DevArgs, demo: Option<&Demo>) -> String {
    let head = format!(
        "keystile dev: authz {}, admin {}, ops {}; data in {}\n",
        args.authz_listen,
        args.admin_listen,
        args.ops_listen,
        args.dir.display(),
    );
    let Some(demo) = demo else {
        return format!(
            "{head}\nThe keys of the tenant `demo` were printed when this folder was made. \
             To start anew: rm -r {}\n",
            args.dir.display(),
        );
    };
    let show = |token: &Token| token.expose().to_owned();
    format!(
        "{head}
Shown once:
  key of alice in the tenant demo (scope read):  {user}
  key of the operator (role global_admin):       {admin}

Try it through Envoy (docker/envoy.yaml, or `make run`):
  curl -i {ENVOY}/                                   # no key: 401
  curl -i -H 'x-api-key: {user}' {ENVOY}/
Manage it:
  export KEYSTILE_ADDR=http://{addr} KEYSTILE_API_KEY={admin}
  keystile tenant list
  keystile key revoke demo {key}
Ctrl-C stops it.
",
        user = show(&demo.user.token),
        admin = show(&demo.admin.token),
        addr = args.admin_listen,
        key = demo.user.key.id,
    )
}
