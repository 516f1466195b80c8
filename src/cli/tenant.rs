//! `keystile tenant`: tenants on a control plane.

mod import;

use std::collections::BTreeMap;

use prost_types::FieldMask;

use crate::cli::client::Client;
use crate::cli::endpoint::ClientArgs;
use crate::cli::list::ListArgs;
use crate::cli::output::{self, Form, Out};
use crate::cli::watch::{self, WatchArg};
use crate::cli::{Failure, block_on, name_of, prompt, request_id};
use crate::clock::{Clock as _, SystemClock};
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
pub(super) struct TenantArgs {
    #[command(subcommand)]
    command: TenantCommand,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum TenantCommand {
    /// Make a tenant
    #[command(after_help = "Example:
  keystile tenant create acme --display-name \"Acme\" --plan pro --feature images --metadata region=eu
  keystile tenant create acme --rate 100/s --quota 1000000/month")]
    Create(CreateArgs),
    /// Make many tenants from a table, each with a first key if asked
    Import(import::ImportArgs),
    /// List tenants
    #[command(after_help = "Examples:
  keystile tenant list -o name
  keystile tenant list --filter 'state = ACTIVE AND plan = pro' --watch")]
    List(ListArgs),
    /// Show a tenant
    #[command(after_help = "Example:
  keystile tenant get acme -o json")]
    Get {
        /// The tenant's id
        tenant: String,
        #[command(flatten)]
        watch: WatchArg,
    },
    /// Change a tenant; what is not named stays
    #[command(after_help = "Examples:
  keystile tenant update acme --feature export
  keystile tenant update acme --rate 200/s --quota unlimited
  keystile tenant update acme --rate \"\"      (back to the plan's rate)
  keystile tenant update acme --plan free --remove-feature images")]
    Update(Box<UpdateArgs>),
    /// Suspend a tenant: its keys are refused until it is resumed
    #[command(after_help = "Example:
  keystile tenant suspend acme --reason \"invoice 17 unpaid\"")]
    Suspend {
        /// The tenant's id
        tenant: String,
        /// For the audit
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Make the keys of a suspended tenant work again
    #[command(after_help = "Example:
  keystile tenant resume acme")]
    Resume {
        /// The tenant's id
        tenant: String,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Delete a tenant and all its keys, for good
    #[command(
        after_help = "Nothing that the tenant had can be opened again, not even from a backup of the store alone.

Example:
  keystile tenant delete acme --yes"
    )]
    Delete {
        /// The tenant's id
        tenant: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        etag: EtagArg,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its id: 1 to 63 of a-z, 0-9 and -
    tenant: String,
    /// For people; without it, the id
    #[arg(long, default_value = "")]
    display_name: String,
    /// The plan whose features and limits it has
    #[arg(long, default_value = "")]
    plan: String,
    /// How fast all its keys together may ask, for example 100/s or "100/s burst 200", in place of its plan's rate
    #[arg(long, default_value = "", hide_default_value = true)]
    rate: String,
    /// How much they may ask, for example 1000000/month or "1000/day, 20000/month", in place of its plan's quota
    #[arg(long, default_value = "", hide_default_value = true)]
    quota: String,
    /// A feature beyond the plan's; may be repeated
    #[arg(long = "feature", value_name = "FEATURE")]
    features: Vec<String>,
    /// A feature that it does not have, though its plan does; may be repeated
    #[arg(long = "deny-feature", value_name = "FEATURE")]
    denied_features: Vec<String>,
    /// A fact for upstreams; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
struct UpdateArgs {
    /// The tenant's id
    tenant: String,
    /// For people
    #[arg(long)]
    display_name: Option<String>,
    /// The plan whose features and limits it has; empty for none
    #[arg(long)]
    plan: Option<String>,
    /// How fast all its keys together may ask, or unlimited; empty for its plan's rate
    #[arg(long)]
    rate: Option<String>,
    /// How much they may ask, or unlimited; empty for its plan's quota
    #[arg(long)]
    quota: Option<String>,
    /// Give it a feature; may be repeated
    #[arg(long = "feature", value_name = "FEATURE")]
    add: Vec<String>,
    /// Take a feature that it was given; may be repeated
    #[arg(long = "remove-feature", value_name = "FEATURE")]
    remove: Vec<String>,
    /// Deny a feature, though its plan has it; may be repeated
    #[arg(long = "deny-feature", value_name = "FEATURE")]
    deny: Vec<String>,
    /// Deny a feature no longer; may be repeated
    #[arg(long = "allow-feature", value_name = "FEATURE")]
    allow: Vec<String>,
    /// Set a fact for upstreams; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Remove a fact; may be repeated
    #[arg(long, value_name = "NAME")]
    remove_metadata: Vec<String>,
    #[command(flatten)]
    etag: EtagArg,
}

/// The version that a change is meant for.
#[derive(Debug, clap::Args)]
pub(super) struct EtagArg {
    /// Refuse when the resource has another etag by now
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) etag: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &TenantArgs, out: &mut Out) -> Result<(), Failure> {
    block_on(dispatch(args, out))
}

async fn dispatch(args: &TenantArgs, out: &mut Out) -> Result<(), Failure> {
    let form = args.client.output;
    if let TenantCommand::Delete { tenant, yes, .. } = &args.command {
        let what = format!("deletes tenant {tenant} and all its keys");
        prompt::confirm(&what, tenant, *yes)?;
    }
    let client = || Client::connect(&args.client);
    match &args.command {
        TenantCommand::Create(args) => {
            output::one(out, form, &create(&client().await?, args).await?)
        }
        TenantCommand::Import(table) => {
            let now = SystemClock.now();
            // Read first: a mistake in the table is found without a server.
            let rows = table.read(form, now)?;
            let client = client().await?.with_long_timeout();
            import::run(&client, table, &rows, now, form, out).await
        }
        TenantCommand::List(args) => {
            let client = client().await?;
            let render = async |out: &mut Out| output::many(out, form, &list(&client, args).await?);
            watch::show(out, form, args.watch, render).await
        }
        TenantCommand::Get { tenant, watch } => {
            let client = client().await?;
            let render = async |out: &mut Out| output::one(out, form, &get(&client, tenant).await?);
            watch::show(out, form, *watch, render).await
        }
        TenantCommand::Update(args) => {
            output::one(out, form, &update(&client().await?, args).await?)
        }
        TenantCommand::Suspend {
            tenant,
            reason,
            etag,
        } => {
            let tenant = suspend(&client().await?, tenant, reason, etag).await?;
            output::done(out, form, &tenant, "suspended, its keys are refused")
        }
        TenantCommand::Resume { tenant, etag } => {
            let tenant = resume(&client().await?, tenant, etag).await?;
            output::done(out, form, &tenant, "active, its keys work")
        }
        TenantCommand::Delete { tenant, etag, .. } => {
            delete(&client().await?, tenant, &etag.etag, form, out).await
        }
    }
}

async fn create(client: &Client, args: &CreateArgs) -> Result<pb::Tenant, Failure> {
    let request = pb::CreateTenantRequest {
        tenant_id: args.tenant.clone(),
        tenant: Some(pb::Tenant {
            display_name: args.display_name.clone(),
            plan: args.plan.clone(),
            rate: args.rate.clone(),
            quota: args.quota.clone(),
            features: args.features.clone(),
            denied_features: args.denied_features.clone(),
            metadata: args.metadata.iter().cloned().collect(),
            ..pb::Tenant::default()
        }),
        request_id: request_id::new(),
    };
    let send = |request| async { client.tenants().create_tenant(request).await };
    client.call(request, send).await
}

async fn list(client: &Client, args: &ListArgs) -> Result<Vec<pb::Tenant>, Failure> {
    let fetch = async |page_size, page_token| {
        let request = pb::ListTenantsRequest {
            page_size,
            page_token,
            filter: args.filter.clone(),
        };
        let send = |request| async { client.tenants().list_tenants(request).await };
        let page = client.call(request, send).await?;
        Ok((page.tenants, page.next_page_token))
    };
    args.all(fetch).await
}

async fn get(client: &Client, tenant: &str) -> Result<pb::Tenant, Failure> {
    let name = name_of(tenant);
    let send = |request| async { client.tenants().get_tenant(request).await };
    client.call(pb::GetTenantRequest { name }, send).await
}

async fn suspend(
    client: &Client,
    tenant: &str,
    reason: &str,
    etag: &EtagArg,
) -> Result<pb::Tenant, Failure> {
    let request = pb::SuspendTenantRequest {
        name: name_of(tenant),
        etag: etag.etag.clone(),
        reason: reason.to_owned(),
    };
    let send = |request| async { client.tenants().suspend_tenant(request).await };
    client.change(&etag.etag, request, send).await
}

async fn resume(client: &Client, tenant: &str, etag: &EtagArg) -> Result<pb::Tenant, Failure> {
    let request = pb::ResumeTenantRequest {
        name: name_of(tenant),
        etag: etag.etag.clone(),
    };
    let send = |request| async { client.tenants().resume_tenant(request).await };
    client.change(&etag.etag, request, send).await
}

async fn update(client: &Client, args: &UpdateArgs) -> Result<pb::Tenant, Failure> {
    // Read first: lists are changed, not replaced. The etag keeps what somebody else does meanwhile.
    let mut tenant = get(client, &args.tenant).await?;
    let paths = change(&mut tenant, args);
    if paths.is_empty() {
        return Err(Failure::usage(
            "nothing to change\nhint: name a field, for example --plan pro",
        ));
    }
    if !args.etag.etag.is_empty() {
        tenant.etag.clone_from(&args.etag.etag);
    }
    let request = pb::UpdateTenantRequest {
        tenant: Some(tenant),
        update_mask: Some(FieldMask { paths }),
    };
    let send = async { client.tenants().update_tenant(request).await };
    client.call_once(send).await
}

/// Makes the change and names the fields that it touches.
fn change(tenant: &mut pb::Tenant, args: &UpdateArgs) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(name) = &args.display_name {
        tenant.display_name.clone_from(name);
        paths.push("display_name".into());
    }
    if let Some(plan) = &args.plan {
        tenant.plan.clone_from(plan);
        paths.push("plan".into());
    }
    if let Some(rate) = &args.rate {
        tenant.rate.clone_from(rate);
        paths.push("rate".into());
    }
    if let Some(quota) = &args.quota {
        tenant.quota.clone_from(quota);
        paths.push("quota".into());
    }
    if change_list(&mut tenant.features, &args.add, &args.remove) {
        paths.push("features".into());
    }
    if change_list(&mut tenant.denied_features, &args.deny, &args.allow) {
        paths.push("denied_features".into());
    }
    if !args.metadata.is_empty() || !args.remove_metadata.is_empty() {
        change_map(&mut tenant.metadata, &args.metadata, &args.remove_metadata);
        paths.push("metadata".into());
    }
    paths
}

pub(super) fn change_list(list: &mut Vec<String>, add: &[String], remove: &[String]) -> bool {
    list.retain(|one| !remove.contains(one));
    for one in add {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
    !add.is_empty() || !remove.is_empty()
}

fn change_map(map: &mut BTreeMap<String, String>, set: &[(String, String)], remove: &[String]) {
    map.retain(|name, _| !remove.contains(name));
    map.extend(set.iter().cloned());
}

async fn delete(
    client: &Client,
    tenant: &str,
    etag: &str,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let etag = match etag {
        "" => get(client, tenant).await?.etag,
        given => given.to_owned(),
    };
    let name = name_of(tenant);
    let request = pb::DeleteTenantRequest {
        name: name.clone(),
        etag,
    };
    let send = async { client.tenants().delete_tenant(request).await };
    client.call_once(send).await?;
    match form {
        Form::Table => out.line(format_args!("{name}: deleted for good")),
        Form::Json | Form::Yaml => out.line("{}"),
        Form::Name => out.line(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_update_adds_and_removes_and_leaves_the_rest() {
        let mut tenant = pb::Tenant {
            features: texts(&["images", "export"]),
            metadata: [("a".into(), "1".into()), ("b".into(), "2".into())].into(),
            plan: "pro".into(),
            ..pb::Tenant::default()
        };
        let args = UpdateArgs {
            tenant: "acme".into(),
            display_name: None,
            plan: None,
            rate: Some(String::new()),
            quota: None,
            add: texts(&["audio", "export"]),
            remove: texts(&["images"]),
            deny: Vec::new(),
            allow: Vec::new(),
            metadata: vec![("b".into(), "3".into())],
            remove_metadata: texts(&["a"]),
            etag: EtagArg {
                etag: String::new(),
            },
        };
        assert_eq!(change(&mut tenant, &args), ["rate", "features", "metadata"]);
        assert_eq!(tenant.features, ["export", "audio"]);
        assert_eq!(tenant.metadata, [("b".into(), "3".into())].into());
        assert_eq!(tenant.plan, "pro");
    }

    #[test]
    fn metadata_is_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err());
    }
}
