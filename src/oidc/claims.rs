//! What claims mean here: a role, a tenant, an owner. What maps to nothing gives nothing.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::json::Object;
use super::{Holder, Refusal};
use crate::domain::name::{Owner, Scope, Subject, TenantId};
use crate::domain::role::Role;

/// As many as a key can have.
const SCOPES_MAX: usize = 64;

/// Where in a token a value is: `tenant`, or `realm_access.roles` for one inside another. A name with `://` in it is
/// one name, dots and all, as issuers write those of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads the path.
    pub fn parse(text: &str) -> Self {
        Self(match text.contains("://") {
            true => vec![text.to_owned()],
            false => text.split('.').map(str::to_owned).collect(),
        })
    }

    fn find<'a>(&self, claims: &'a Object) -> Option<&'a Value> {
        let (first, inner) = self.0.split_first()?;
        inner.iter().try_fold(claims.get(first)?, |value, name| {
            value.as_object()?.get(name)
        })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Which claims are read, and what their values mean.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Where roles are.
    pub role: ClaimPath,
    /// Where the tenant is.
    pub tenant: ClaimPath,
    /// Where the owner is.
    pub owner: ClaimPath,
    /// Where scopes are; none are given without it.
    pub scopes: Option<ClaimPath>,
    /// The first whose value the token has decides.
    pub roles: Vec<(String, Role)>,
    /// Tenants by what the issuer calls them; none when it uses our ids.
    pub tenants: Option<Vec<(String, TenantId)>>,
}

impl Mapping {
    pub(super) fn holder(&self, subject: Subject, claims: &Object) -> Result<Holder, Refusal> {
        let role = self.role(claims).ok_or(Refusal::NoRole)?;
        let tenant = match role {
            Role::GlobalAdmin => None,
            Role::User | Role::TenantAdmin => Some(self.tenant(claims)?),
        };
        let owner = self.owner.find(claims).and_then(Value::as_str);
        let owner = owner.and_then(|owner| Owner::parse(owner).ok());
        if role == Role::User && owner.is_none() {
            return Err(Refusal::NoOwner);
        }
        Ok(Holder {
            subject,
            role,
            tenant,
            owner,
            scopes: self.scopes(claims),
        })
    }

    fn role(&self, claims: &Object) -> Option<Role> {
        let values = words(self.role.find(claims)?);
        let decides = |(value, _): &&(String, Role)| values.contains(&value.as_str());
        self.roles.iter().find(decides).map(|(_, role)| *role)
    }

    /// The one tenant; of two, none can be chosen.
    fn tenant(&self, claims: &Object) -> Result<TenantId, Refusal> {
        let value = self.tenant.find(claims).ok_or(Refusal::NoTenant)?;
        let tenants = texts(value).filter_map(|name| self.tenant_called(name));
        let tenants: BTreeSet<TenantId> = tenants.collect();
        let mut tenants = tenants.into_iter();
        match (tenants.next(), tenants.next()) {
            (Some(one), None) => Ok(one),
            (None, _) | (Some(_), Some(_)) => Err(Refusal::NoTenant),
        }
    }

    fn tenant_called(&self, name: &str) -> Option<TenantId> {
        match &self.tenants {
            None => TenantId::parse(name).ok(),
            Some(known) => {
                let (_, tenant) = known.iter().find(|(value, _)| value == name)?;
                Some(tenant.clone())
            }
        }
    }

    fn scopes(&self, claims: &Object) -> BTreeSet<Scope> {
        let value = self.scopes.as_ref().and_then(|path| path.find(claims));
        let words = value.map(words).unwrap_or_default();
        let scopes = words.into_iter().filter_map(|word| Scope::parse(word).ok());
        scopes.take(SCOPES_MAX).collect()
    }
}

/// A text, or the texts of a list; nothing else is a value.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let items = list.iter().filter_map(Value::as_str);
    value.as_str().into_iter().chain(items)
}

/// The same where a text may hold several, between spaces, as `scope` does (RFC 8693).
fn words(value: &Value) -> Vec<&str> {
    let parts = value.as_str().unwrap_or_default().split(' ');
    texts(value)
        .chain(parts)
        .filter(|text| !text.is_empty())
        .collect()
}
