//! What the requests of a tenant or a key are held against, and who says so.

use serde::Serialize;
use tonic::{Code, Response};

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::limits::Section;
use crate::cli::name_of;
use crate::proto::admin as pb;

/// Everything that holds for a tenant's or a key's requests.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    tenant: String,
    plan: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    limits: Vec<Limit>,
    features: Vec<Feature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
}

/// A request is held against all of them.
#[derive(Debug, Serialize)]
struct Limit {
    /// Whose requests are counted together: `tenant` or `key`.
    of: &'static str,
    name: String,
    value: String,
    source: String,
}

#[derive(Debug, Serialize)]
struct Feature {
    name: String,
    has: bool,
    /// Empty where the caller may not know.
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'static str,
}

pub(super) async fn explain(
    client: &Client,
    tenant: &str,
    key: Option<&str>,
) -> Result<Option<Explained>, Failure> {
    let name = name_of(tenant);
    // Who may see its own keys alone sees what they are held against, and not what is its tenant's.
    let send = |request| async {
        match client.tenants().get_tenant(request).await {
            Ok(tenant) => Ok(tenant.map(Some)),
            Err(status) if status.code() == Code::PermissionDenied => Ok(Response::new(None)),
            Err(status) => Err(status),
        }
    };
    let found = client.call(pb::GetTenantRequest { name }, send).await?;
    let key = match key {
        Some(key) => {
            let name = format!("{}/keys/{key}", name_of(tenant));
            let send = |request| async { client.keys().get_key(request).await };
            Some(client.call(pb::GetKeyRequest { name }, send).await?)
        }
        None => None,
    };
    Ok(match found {
        Some(found) => Some(explained(&found, key.as_ref())),
        None => key.map(|key| explained_alone(tenant, &key)),
    })
}

/// As far as a key says it.
fn explained_alone(tenant: &str, key: &pb::Key) -> Explained {
    let features = key.effective_features.iter().map(|name| Feature {
        name: name.clone(),
        has: true,
        source: "",
    });
    Explained {
        tenant: tenant.to_owned(),
        plan: String::new(),
        key: Some(key.key_id.clone()),
        limits: key.effective_limits.iter().map(limit).collect(),
        features: features.collect(),
        scopes: Some(key.scopes.clone()),
    }
}

fn limit(limit: &pb::EffectiveLimit) -> Limit {
    Limit {
        of: if limit.source == "key" {
            "key"
        } else {
            "tenant"
        },
        name: limit.name.clone(),
        value: limit.value.clone(),
        source: limit.source.clone(),
    }
}

fn explained(tenant: &pb::Tenant, key: Option<&pb::Key>) -> Explained {
    let of_key = key.into_iter().flat_map(|key| &key.effective_limits);
    let of_key = of_key.filter(|limit| limit.source == "key");
    let limits = tenant.effective_limits.iter().chain(of_key).map(limit);
    Explained {
        tenant: tenant.tenant_id.clone(),
        plan: tenant.plan.clone(),
        key: key.map(|key| key.key_id.clone()),
        limits: limits.collect(),
        features: features(tenant, key),
        scopes: key.map(|key| key.scopes.clone()),
    }
}

/// Those that it has, and those that it lacks because somebody says so.
fn features(tenant: &pb::Tenant, key: Option<&pb::Key>) -> Vec<Feature> {
    let has = tenant.effective_features.iter().map(|name| {
        let kept = key.is_none_or(|key| key.effective_features.contains(name));
        Feature {
            name: name.clone(),
            has: kept,
            source: match kept {
                false => "key",
                true if tenant.features.contains(name) => "tenant",
                true => "plan",
            },
        }
    });
    let lacks = tenant.denied_features.iter().map(|name| Feature {
        name: name.clone(),
        has: false,
        source: "tenant",
    });
    let mut all: Vec<Feature> = has.chain(lacks).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

impl Explained {
    /// The same in words.
    pub(super) fn section(&self) -> Section {
        let from = |source: &str| match source {
            "" | "default" => String::new(),
            "plan" if self.plan.is_empty() => " (plan)".to_owned(),
            "plan" => format!(" (plan {})", self.plan),
            source => format!(" ({source})"),
        };
        let limits = self.limits.iter().map(|limit| {
            let from = from(&limit.source);
            format!("{} {}: {}{from}", limit.of, limit.name, limit.value)
        });
        let features = self.features.iter().map(|feature| {
            let has = if feature.has { "yes" } else { "no" };
            format!("feature {}: {has}{}", feature.name, from(feature.source))
        });
        let scopes = self.scopes.iter().flatten();
        let scopes = scopes.map(|scope| format!("scope {scope}: yes (key)"));
        Section {
            title: "Requests",
            lines: limits.chain(features).chain(scopes).collect(),
        }
    }
}
