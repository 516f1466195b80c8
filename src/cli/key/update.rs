//! `keystile key update`: changes what may change of a key.

use prost_types::FieldMask;

use super::{AdminAccessArg, KeyName, get};
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::tenant::{EtagArg, change_list};
use crate::proto::admin as pb;

#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    key: KeyName,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// For people; empty for none
    #[arg(long)]
    description: Option<String>,
    /// Let it do something; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    add_scopes: Vec<String>,
    /// Let it do something no longer; may be repeated
    #[arg(long = "remove-scope", value_name = "SCOPE")]
    remove_scopes: Vec<String>,
    /// Narrow it to this feature of its tenant, beside those that it has; may be repeated
    #[arg(long = "feature", value_name = "FEATURE")]
    add_features: Vec<String>,
    /// Take a feature from those that it is narrowed to; may be repeated
    #[arg(long = "remove-feature", value_name = "FEATURE")]
    remove_features: Vec<String>,
    /// Let it have every feature of its tenant
    #[arg(long, conflicts_with_all = ["add_features", "remove_features"])]
    all_features: bool,
    /// A network it may be used from, beside those that it has; may be repeated
    #[arg(long = "allow-cidr", value_name = "CIDR")]
    add_cidrs: Vec<String>,
    /// Take a network from those that it may be used from; may be repeated
    #[arg(long = "remove-cidr", value_name = "CIDR")]
    remove_cidrs: Vec<String>,
    /// Let it be used from everywhere
    #[arg(long, conflicts_with_all = ["add_cidrs", "remove_cidrs"])]
    any_network: bool,
    /// How fast it may ask, for example 10/s; empty for no rate of its own
    #[arg(long)]
    rate: Option<String>,
    /// How much it may ask, for example 20/day; empty for no quota of its own
    #[arg(long)]
    quota: Option<String>,
    /// Whether it opens the admin API at all
    #[arg(long, value_enum)]
    admin_access: Option<AdminAccessArg>,
    #[command(flatten)]
    etag: EtagArg,
}

pub(super) async fn run(client: &Client, args: &UpdateArgs) -> Result<pb::Key, Failure> {
    // Read first: lists are changed, not replaced. The etag keeps what somebody else does meanwhile.
    let mut key = get(client, &args.key).await?;
    let paths = change(&mut key, args)?;
    if paths.is_empty() {
        return Err(Failure::usage(
            "nothing to change\nhint: name a field, for example --scope read",
        ));
    }
    if !args.etag.etag.is_empty() {
        key.etag.clone_from(&args.etag.etag);
    }
    let request = pb::UpdateKeyRequest {
        key: Some(key),
        update_mask: Some(FieldMask { paths }),
    };
    let send = async { client.keys().update_key(request).await };
    client.call_once(send).await
}

/// Makes the change and names the fields that it touches.
fn change(key: &mut pb::Key, args: &UpdateArgs) -> Result<Vec<String>, Failure> {
    let mut paths = Vec::new();
    if let Some(name) = &args.name {
        key.display_name.clone_from(name);
        paths.push("display_name".into());
    }
    if let Some(description) = &args.description {
        key.description.clone_from(description);
        paths.push("description".into());
    }
    if change_list(&mut key.scopes, &args.add_scopes, &args.remove_scopes) {
        paths.push("scopes".into());
    }
    if change_features(key, args)? {
        paths.push("features".into());
    }
    if change_networks(key, args)? {
        paths.push("allow_cidrs".into());
    }
    if let Some(rate) = &args.rate {
        key.rate.clone_from(rate);
        paths.push("rate".into());
    }
    if let Some(quota) = &args.quota {
        key.quota.clone_from(quota);
        paths.push("quota".into());
    }
    if let Some(access) = args.admin_access {
        key.set_admin_access(access.into());
        paths.push("admin_access".into());
    }
    Ok(paths)
}

fn change_features(key: &mut pb::Key, args: &UpdateArgs) -> Result<bool, Failure> {
    if args.all_features {
        key.features = None;
        return Ok(true);
    }
    if args.add_features.is_empty() && args.remove_features.is_empty() {
        return Ok(false);
    }
    if key.features.is_none() && args.add_features.is_empty() {
        return Err(Failure::usage(
            "the key has every feature of its tenant: there is no list to take one from\nhint: name those that it shall have with --feature",
        ));
    }
    let list = key.features.get_or_insert_default();
    change_list(&mut list.names, &args.add_features, &args.remove_features);
    Ok(true)
}

/// A key with no networks left would work from everywhere: never by the way.
fn change_networks(key: &mut pb::Key, args: &UpdateArgs) -> Result<bool, Failure> {
    if args.any_network {
        key.allow_cidrs.clear();
        return Ok(true);
    }
    let changed = change_list(&mut key.allow_cidrs, &args.add_cidrs, &args.remove_cidrs);
    if changed && key.allow_cidrs.is_empty() {
        return Err(Failure::usage(
            "no network would be left, and the key would work from everywhere\nhint: if that is meant, say --any-network",
        ));
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn changed(line: &str, key: &mut pb::Key) -> Result<Vec<String>, Failure> {
        let words = ["key", "acme", "abcd2345"].into_iter();
        change(key, &Line::parse_from(words.chain(line.split(' '))).args)
    }

    #[test]
    fn only_what_is_named_changes() {
        let mut key = pb::Key {
            display_name: "ci".into(),
            scopes: vec!["read".into(), "list".into()],
            features: Some(pb::FeatureList::default()),
            ..pb::Key::default()
        };
        let line = "--scope write --remove-scope read --all-features --allow-cidr 10.0.0.0/8";
        let paths = changed(line, &mut key).unwrap();
        assert_eq!(paths, ["scopes", "features", "allow_cidrs"]);
        assert_eq!(key.scopes, ["list", "write"]);
        assert_eq!(key.features, None);
        assert_eq!(key.allow_cidrs, ["10.0.0.0/8"]);
        assert_eq!(key.display_name, "ci");
    }

    #[test]
    fn nothing_widens_or_narrows_by_the_way() {
        let mut key = pb::Key {
            allow_cidrs: vec!["10.0.0.0/8".into()],
            ..pb::Key::default()
        };
        for line in ["--remove-cidr 10.0.0.0/8", "--remove-feature images"] {
            assert!(changed(line, &mut key.clone()).is_err(), "{line}");
        }
        changed("--any-network --feature images", &mut key).unwrap();
        assert!(key.allow_cidrs.is_empty());
        assert_eq!(key.features.unwrap().names, ["images"]);
    }
}
