//! `keystile login` and `keystile context`: control planes by name.

pub(super) mod file;

use anyhow::anyhow;
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::endpoint::ClientArgs;
use crate::cli::output::{self, Form, Out};
use crate::cli::prompt;
use crate::cli::target::{self, Target};
use crate::cli::{Failure, block_on, print_hint};
use crate::oidc;
use crate::proto::admin as pb;
use file::{ApiKey, Context, Contexts};

const DEFAULT_NAME: &str = "default";
const NAME_LEN_MAX: usize = 64;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks for the API key without showing it, tries it, and keeps it with the address in
$XDG_CONFIG_HOME/keystile/config.yaml (mode 0600). Later commands use it until another context is
chosen. The key is also read from standard input when that is not a terminal. It is not asked for
when the server gives the certificate of --tls-cert a role; --api-key-file keeps one all the same.

Examples:
  keystile login --addr keystile.example:9002
  keystile login --addr https://keystile.example:9002 --tls-cert me.pem --tls-key me.key
  keystile login --context staging --addr unix:/run/keystile.sock --api-key-file admin.key"
)]
pub(super) struct LoginArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ContextArgs {
    #[command(subcommand)]
    command: ContextCommand,
    /// Form of the output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    output: Form,
}

#[derive(Debug, clap::Subcommand)]
enum ContextCommand {
    /// List the contexts that `keystile login` has made
    List,
    /// Use this one from now on
    #[command(after_help = "Example:
  keystile context use staging")]
    Use {
        /// The context's name
        name: String,
    },
    /// Show a context; its API key is never shown
    Show {
        /// The context's name; without it, the one in use
        name: Option<String>,
    },
    /// Forget a context and its API key; the key itself goes on working
    Delete {
        /// The context's name
        name: String,
    },
}

pub(super) fn login(args: &LoginArgs, out: &mut Out) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    let name = args.client.context.as_deref().unwrap_or(DEFAULT_NAME);
    check_name(name)?;
    let known = contexts.contexts.get(name);
    let address = target::address_for_login(&args.client, known)?;
    let before = known.map(|known| known.tls.clone()).unwrap_or_default();
    let target = |token| Target {
        address: address.clone(),
        token,
        tls: args.client.tls.or(&before),
    };
    let token = match &args.client.api_key_file {
        Some(path) => Some(prompt::credential_from(path)?),
        None if block_on(certificate_suffices(args, target(None)))? => None,
        None => Some(prompt::secret(&format!("API key for {}: ", address.shown))?),
    };
    let files = target(None).tls.files()?;
    let who = match &token {
        Some(_) => block_on(who_is(args, target(token.clone())))?,
        None => "the holder of the client certificate".into(),
    };
    let context = Context {
        addr: address.written(),
        api_key: token.map(ApiKey),
        tls: files,
    };
    contexts.contexts.insert(name.to_owned(), context);
    contexts.current = Some(name.to_owned());
    contexts.save()?;
    let addr = &contexts.contexts[name].addr;
    match args.client.output {
        Form::Table => out.line(format_args!(
            "Logged in to {addr} as {who}; context `{name}` is in use."
        )),
        Form::Json | Form::Yaml => {
            output::document(out, args.client.output, &shown(name, &contexts))
        }
        Form::Name => out.line(name),
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(good) {
        return Err(Failure::usage(format!(
            "a context's name must be 1 to {NAME_LEN_MAX} characters of A-Z, a-z, 0-9 and . _ -"
        )));
    }
    Ok(())
}

/// Whether the server gives our certificate a role, so that no key is needed.
async fn certificate_suffices(args: &LoginArgs, target: Target) -> Result<bool, Failure> {
    if !target.tls.identifies_us() {
        return Ok(false);
    }
    let known = Client::open(target, &args.client).await?.is_known().await?;
    if !known {
        print_hint("the server gives our certificate no role, so an API key is needed as well");
    }
    Ok(known)
}

/// Tries the key, and says whose it is as far as the server tells.
async fn who_is(args: &LoginArgs, target: Target) -> Result<String, Failure> {
    let token = target.token.as_deref().cloned().unwrap_or_default();
    let is_jwt = oidc::is_jwt(token.as_bytes());
    let request = pb::VerifyKeyRequest {
        // Only of a key can the server say whose it is; everybody whom it knows is answered.
        token: if is_jwt { String::new() } else { token },
        source_ip: String::new(),
    };
    let client = Client::open(target, &args.client).await?;
    let send = |request| async { client.keys().verify_key(request).await };
    let answer = client.call(request, send).await?;
    if is_jwt {
        print_hint("this is a JWT: when it has expired, log in again with a new one");
        return Ok("the holder of this JWT".into());
    }
    Ok(answer.key.map_or_else(
        || "the holder of this key".into(),
        |key| {
            let owner = output::printable(&key.owner);
            format!("{owner} of tenant {}", output::printable(&key.tenant_id))
        },
    ))
}

fn unknown(name: &str) -> Failure {
    Failure::failed(anyhow!(
        "there is no context `{name}`\nhint: `keystile context list` shows those that there are; `keystile login --context {name}` makes it"
    ))
}

pub(super) fn run(args: &ContextArgs, out: &mut Out) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    match &args.command {
        ContextCommand::List => list(&contexts, args.output, out),
        ContextCommand::Use { name } => {
            if !contexts.contexts.contains_key(name) {
                return Err(unknown(name));
            }
            contexts.current = Some(name.clone());
            contexts.save()?;
            done(out, args.output, name, "in use")
        }
        ContextCommand::Show { name } => {
            let current = contexts.current.as_ref();
            let name = name.as_ref().or(current).ok_or_else(|| {
                Failure::failed(anyhow!(
                    "no context is in use\nhint: `keystile login` makes one"
                ))
            })?;
            show(name, &contexts, args.output, out)
        }
        ContextCommand::Delete { name } => {
            contexts
                .contexts
                .remove(name)
                .ok_or_else(|| unknown(name))?;
            contexts.current.take_if(|current| current == name);
            contexts.save()?;
            done(out, args.output, name, "forgotten, with its API key")
        }
    }
}

fn done(out: &mut Out, form: Form, name: &str, what: &str) -> Result<(), Failure> {
    match form {
        Form::Table => out.line(format_args!("{name}: {what}")),
        Form::Name => out.line(name),
        Form::Json | Form::Yaml => output::document(out, form, &json!({"name": name})),
    }
}

fn list(contexts: &Contexts, form: Form, out: &mut Out) -> Result<(), Failure> {
    let names = contexts.contexts.keys();
    match form {
        Form::Table if contexts.contexts.is_empty() => out.line("no contexts"),
        Form::Table => {
            let rows = contexts.contexts.iter().map(|(name, context)| {
                let used = contexts.current.as_ref() == Some(name);
                let mark = if used { "*" } else { "" };
                vec![mark.to_owned(), name.clone(), context.addr.clone()]
            });
            output::rows(out, &["", "CONTEXT", "ADDRESS"], &rows.collect::<Vec<_>>())
        }
        Form::Json | Form::Yaml => {
            let all: Vec<_> = names.map(|name| shown(name, contexts)).collect();
            output::document(out, form, &json!({"contexts": all}))
        }
        Form::Name => names.clone().try_for_each(|name| out.line(name)),
    }
}

fn shown(name: &str, contexts: &Contexts) -> serde_json::Value {
    json!({
        "name": name,
        "addr": contexts.contexts.get(name).map(|context| &context.addr),
        "current": contexts.current.as_deref() == Some(name),
    })
}

fn show(name: &str, contexts: &Contexts, form: Form, out: &mut Out) -> Result<(), Failure> {
    let context = contexts.contexts.get(name).ok_or_else(|| unknown(name))?;
    let kept = match &context.api_key {
        Some(_) => "kept, not shown",
        None => "none: the client certificate is enough",
    };
    match form {
        Form::Table => output::pairs(
            out,
            &[
                ("context", name.to_owned()),
                ("address", context.addr.clone()),
                ("API key", kept.to_owned()),
            ],
        ),
        Form::Json | Form::Yaml => output::document(out, form, &shown(name, contexts)),
        Form::Name => out.line(name),
    }
}
