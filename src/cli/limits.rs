//! `keystile limits`: how many keys the owners of a tenant may have, what its requests are held against, and why.

mod requests;

use prost_types::FieldMask;

use crate::cli::client::Client;
use crate::cli::endpoint::ClientArgs;
use crate::cli::name_of;
use crate::cli::output::{self, Form, Out, Resource};
use crate::cli::tenant::EtagArg;
use crate::cli::{Failure, block_on};
use crate::domain::governance::Days;
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each limit is settled by the first of these that says anything: the override for all tenants, the tenant's limit
that was set at run time, the tenant's limit in the configuration, the default (docs/GOVERNANCE.md).

Examples:
  keystile limits get acme
  keystile limits set acme --max-keys-per-user 15
  keystile limits set acme --max-keys-per-user none     (back to the configuration's)
  keystile limits explain acme"
)]
pub(super) struct LimitsArgs {
    #[command(subcommand)]
    command: LimitsCommand,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum LimitsCommand {
    /// Show the limits of a tenant that hold, and where each comes from
    Get {
        /// The tenant's id
        tenant: String,
    },
    /// Change a tenant's limits at run time; what is not named stays
    #[command(
        after_help = "Lower than what an owner has already: the keys stay, and the next one is refused.

Examples:
  keystile limits set acme --max-keys-per-user 15
  keystile limits set acme --max-keys-per-tenant-admin 30 --max-keys-per-user none"
    )]
    Set(SetArgs),
    /// Say in words what holds for a tenant, or a key of it, and why
    #[command(
        after_help = "Of requests: a tenant's own rate or quota stands in place of its plan's; a key's holds beside both (docs/LIMITS.md).
Features are the plan's and the tenant's own, without those it is denied; a key may keep fewer. Plans are those of the
control plane that is asked.

Examples:
  keystile limits explain acme
  keystile limits explain acme KEY_ID -o json"
    )]
    Explain {
        /// The tenant's id
        tenant: String,
        /// A key's id: what its requests are held against
        key: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The tenant's id
    tenant: String,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    etag: EtagArg,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct LimitArgs {
    /// Most keys of an owner for one more with the role user: 1 to 100000, or none to leave it to the configuration
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_keys_per_user: Option<Limit>,
    /// The same for the role tenant_admin
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_keys_per_tenant_admin: Option<Limit>,
    /// The same for the role global_admin
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_keys_per_global_admin: Option<Limit>,
}

/// A limit to be set, or to be set no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        text => text
            .parse()
            .map(|max| Limit(Some(max)))
            .map_err(|_| "must be a whole number, or none".into()),
    }
}

pub(super) fn run(args: &LimitsArgs, out: &mut Out) -> Result<(), Failure> {
    block_on(dispatch(args, out))
}

async fn dispatch(args: &LimitsArgs, out: &mut Out) -> Result<(), Failure> {
    let form = args.client.output;
    let client = Client::connect(&args.client).await?;
    match &args.command {
        LimitsCommand::Get { tenant } => output::one(out, form, &get(&client, tenant).await?),
        LimitsCommand::Set(args) => output::one(out, form, &set(&client, args).await?),
        LimitsCommand::Explain { tenant, key } => {
            let limits = get(&client, tenant).await?;
            let requests = requests::explain(&client, tenant, key.as_deref()).await?;
            match form {
                Form::Table => {
                    let mut all = sections(&limits);
                    all.extend(requests.map(|requests| requests.section()));
                    all.iter().try_for_each(|one| one.show(out))
                }
                Form::Json | Form::Yaml => {
                    let mut all = output::json_of(&limits)?;
                    all["requests"] = serde_json::to_value(requests).map_err(Failure::failed)?;
                    output::document(out, form, &all)
                }
                Form::Name => output::one(out, form, &limits),
            }
        }
    }
}

async fn get(client: &Client, tenant: &str) -> Result<pb::KeyLimits, Failure> {
    let name = key_limits_of(tenant);
    let send = |request| async { client.limits().get_key_limits(request).await };
    client.call(pb::GetKeyLimitsRequest { name }, send).await
}

async fn set(client: &Client, args: &SetArgs) -> Result<pb::KeyLimits, Failure> {
    let LimitArgs {
        max_keys_per_user,
        max_keys_per_tenant_admin,
        max_keys_per_global_admin,
    } = args.limits;
    let named = [
        ("max_keys_per_user", max_keys_per_user),
        ("max_keys_per_tenant_admin", max_keys_per_tenant_admin),
        ("max_keys_per_global_admin", max_keys_per_global_admin),
    ];
    let named = named.iter().filter(|(_, limit)| limit.is_some());
    let paths = named.map(|(path, _)| (*path).to_owned()).collect();
    let value = |limit: Option<Limit>| limit.and_then(|limit| limit.0);
    let request = pb::UpdateKeyLimitsRequest {
        key_limits: Some(pb::KeyLimits {
            name: key_limits_of(&args.tenant),
            max_keys_per_user: value(max_keys_per_user),
            max_keys_per_tenant_admin: value(max_keys_per_tenant_admin),
            max_keys_per_global_admin: value(max_keys_per_global_admin),
            etag: args.etag.etag.clone(),
            ..pb::KeyLimits::default()
        }),
        update_mask: Some(FieldMask { paths }),
    };
    let send = |request| async { client.limits().update_key_limits(request).await };
    client.change(&args.etag.etag, request, send).await
}

fn key_limits_of(tenant: &str) -> String {
    format!("{}/keyLimits", name_of(tenant))
}

/// A part of an explanation.
struct Section {
    title: &'static str,
    lines: Vec<String>,
}

impl Section {
    fn show(&self, out: &mut Out) -> Result<(), Failure> {
        out.line(self.title)?;
        let mut lines = self.lines.iter();
        lines.try_for_each(|line| out.line(format_args!("  {}", output::printable(line))))
    }
}

/// What holds, in words, one section a subject.
fn sections(limits: &pb::KeyLimits) -> Vec<Section> {
    let frame = limits.configuration.clone().unwrap_or_default();
    vec![
        Section {
            title: "Keys that an owner may have",
            lines: explain_keys(limits),
        },
        Section {
            title: "Expiry of a key",
            lines: explain_expiry(&frame),
        },
        Section {
            title: "Who may change the limits",
            lines: explain_overrides(&frame),
        },
    ]
}

/// The limits in the order of the roles, as `effective_limits` has them.
fn in_order(limits: &pb::RoleLimits) -> [Option<u32>; 3] {
    [
        limits.max_keys_per_user,
        limits.max_keys_per_tenant_admin,
        limits.max_keys_per_global_admin,
    ]
}

fn explain_keys(limits: &pb::KeyLimits) -> Vec<String> {
    let configured = limits.configured.as_ref().map(in_order).unwrap_or_default();
    let runtime = in_order(&pb::RoleLimits {
        max_keys_per_user: limits.max_keys_per_user,
        max_keys_per_tenant_admin: limits.max_keys_per_tenant_admin,
        max_keys_per_global_admin: limits.max_keys_per_global_admin,
    });
    let beneath = runtime.into_iter().zip(configured);
    let all = limits.effective_limits.iter().zip(beneath);
    all.map(|(limit, (runtime, configured))| explain_limit(limit, runtime, configured))
        .collect()
}

fn explain_limit(
    limit: &pb::EffectiveKeyLimit,
    runtime: Option<u32>,
    configured: Option<u32>,
) -> String {
    let at_run_time = runtime.map(|max| format!("{max} that was set at run time"));
    let in_config = configured.map(|max| format!("{max} that is configured for this tenant"));
    let (set_by, beneath) = match limit.source.as_str() {
        "global_override" => (
            "the override for all tenants in the configuration",
            vec![at_run_time, in_config],
        ),
        "tenant_runtime" => ("set for this tenant at run time", vec![in_config]),
        "tenant_config" => ("configured for this tenant", vec![]),
        "default" => ("the default of the configuration", vec![]),
        other => (other, vec![]),
    };
    let beneath: Vec<String> = beneath.into_iter().flatten().collect();
    let beneath = match beneath.as_slice() {
        [] => String::new(),
        all => format!(", which wins over {}", all.join(" and ")),
    };
    let (max, source) = (limit.value, &limit.source);
    let role = limit.name.trim_start_matches("max_keys_per_");
    format!("{max} for one more with the role {role}: {set_by}{beneath} ({source})")
}

fn explain_expiry(frame: &pb::LimitConfiguration) -> Vec<String> {
    let from = |field: &str| match frame.sources.get(field) {
        Some(source) => format!("{field} is from the {source}"),
        None => field.to_owned(),
    };
    let must = match frame.enforce_expiry {
        true => "every new key must have one",
        false => "a new key may have one or not",
    };
    let shortest = match frame.min_expiry_days {
        0 => "no shortest life".to_owned(),
        days => format!("at least {} from when it is made or renewed", Days(days)),
    };
    let longest = match frame.max_expiry_days {
        0 => "no longest life".to_owned(),
        days => format!("at most {}", Days(days)),
    };
    vec![
        format!("{must} ({})", from("enforce_expiry")),
        format!("{shortest} ({})", from("min_expiry_days")),
        format!("{longest} ({})", from("max_expiry_days")),
    ]
}

fn explain_overrides(frame: &pb::LimitConfiguration) -> Vec<String> {
    let who = match (frame.allow_admin_override, frame.allow_tenant_override) {
        (false, _) => "nobody: allow_admin_override is false",
        (true, true) => "tenant admins, of their own tenant, and global admins",
        (true, false) => "global admins alone: allow_tenant_override is false",
    };
    vec![who.to_owned()]
}

impl Resource for pb::KeyLimits {
    const TYPE: &'static str = "keystile.admin.v1.KeyLimits";
    const MANY: &'static str = "key_limits";
    const COLUMNS: &'static [&'static str] = &["TENANT", "USER", "TENANT ADMIN", "GLOBAL ADMIN"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        let limits = self.effective_limits.iter();
        std::iter::once(self.tenant_id.clone())
            .chain(limits.map(|limit| limit.value.to_string()))
            .collect()
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let holds = |name: &str| {
            let mut limits = self.effective_limits.iter();
            limits
                .find(|limit| limit.name == name)
                .map(|limit| format!("{} ({})", limit.value, limit.source))
                .unwrap_or_default()
        };
        vec![
            ("tenant", self.tenant_id.clone()),
            ("keys per user", holds("max_keys_per_user")),
            ("keys per tenant admin", holds("max_keys_per_tenant_admin")),
            ("keys per global admin", holds("max_keys_per_global_admin")),
            ("etag", self.etag.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_says_what_it_wins_over() {
        let check = |source: &str, runtime, configured, expected: &str| {
            let limit = pb::EffectiveKeyLimit {
                name: "max_keys_per_user".into(),
                value: 15,
                source: source.into(),
            };
            assert_eq!(explain_limit(&limit, runtime, configured), expected);
        };
        check(
            "default",
            None,
            None,
            "15 for one more with the role user: the default of the configuration (default)",
        );
        check(
            "tenant_config",
            None,
            Some(15),
            "15 for one more with the role user: configured for this tenant (tenant_config)",
        );
        check(
            "tenant_runtime",
            Some(15),
            Some(20),
            "15 for one more with the role user: set for this tenant at run time, which wins over 20 that is configured for this tenant (tenant_runtime)",
        );
        check(
            "global_override",
            Some(7),
            Some(20),
            "15 for one more with the role user: the override for all tenants in the configuration, which wins over 7 that was set at run time and 20 that is configured for this tenant (global_override)",
        );
    }

    #[test]
    fn no_limit_is_taken_back_with_a_word() {
        assert_eq!(limit("none"), Ok(Limit(None)));
        assert_eq!(limit("15"), Ok(Limit(Some(15))));
        for bad in ["", "-1", "1.5", "default", "99999999999"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }
}
