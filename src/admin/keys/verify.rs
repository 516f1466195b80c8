//! What a Check would say of a token.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tonic::Status;

use crate::admin::caller::{Identity, Peer, refused};
use crate::admin::convert::{bad, key_to_proto};
use crate::admin::keys::Keys;
use crate::authorizer::policy::{self, KeyFacts};
use crate::domain::access::TenantAccess;
use crate::domain::block::Presenter;
use crate::domain::decision::DenyReason;
use crate::domain::limit::Limits;
use crate::domain::request::{AccessRequest, Charge, Credential, Rule};
use crate::domain::role::Role;
use crate::domain::tenant::Tenant;
use crate::proto::admin as pb;
use crate::registry::Proven;
use crate::status::from_registry;

impl Keys {
    pub(super) async fn verify(
        &self,
        caller: &Identity,
        peer: Peer,
        request: &pb::VerifyKeyRequest,
    ) -> Result<pb::VerifyKeyResponse, Status> {
        let presenter = Presenter::Recognised(peer.0);
        let auth = &self.0.auth;
        auth.check_blocked(presenter).map_err(refused)?;
        let source = source_ip(&request.source_ip)?;
        let proven = self.0.registry.prove(&request.token).await;
        let proven = proven.map_err(from_registry("key"))?;
        let Some(proven) = proven.filter(|proven| reaches(caller, proven)) else {
            auth.presented_wrong(presenter);
            return Ok(pb::VerifyKeyResponse {
                valid: false,
                reason: DenyReason::InvalidApiKey.as_str().to_owned(),
                key: None,
            });
        };
        let now = self.0.clock.now();
        let (tenant, request) = (access(&proven.tenant), plain_request(source));
        let denial = policy::decide(&tenant, &facts(&proven), &request, now).err();
        Ok(pb::VerifyKeyResponse {
            valid: denial.is_none(),
            reason: denial
                .map(|denial| denial.reason.as_str().to_owned())
                .unwrap_or_default(),
            key: Some(key_to_proto(&proven.key, now)),
        })
    }
}

fn source_ip(text: &str) -> Result<Option<IpAddr>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| bad("source_ip", "must be an IPv4 or IPv6 address"))
}

fn reaches(caller: &Identity, proven: &Proven) -> bool {
    caller.role == Role::GlobalAdmin
        || caller.tenant() == Some(&proven.tenant.id)
            && caller
                .only_owner()
                .is_none_or(|owner| *owner == proven.key.owner)
}

/// A request to a route that demands nothing but a key.
fn plain_request(source: Option<IpAddr>) -> AccessRequest<'static> {
    AccessRequest {
        rule: Rule::default(),
        credential: Credential::None,
        shadow: None,
        ambiguity: None,
        source,
        caller: None,
        time_left: None,
        charge: Charge::Nothing,
        proven: None,
    }
}

fn facts(proven: &Proven) -> KeyFacts<'_> {
    KeyFacts {
        revoked: proven.is_revoked,
        expires_at: proven.expires_at,
        paused: proven.key.pause.as_ref().map(|pause| pause.end),
        networks: &proven.key.networks,
        features: proven.key.features.as_ref(),
        scopes: "",
    }
}

/// The tenant as a decision sees it; no route rule asks for its features, and nothing is charged.
fn access(tenant: &Tenant) -> TenantAccess {
    TenantAccess {
        id: tenant.id.clone(),
        display_name: tenant.display_name.clone(),
        status: tenant.status,
        plan: tenant.plan.clone(),
        features: BTreeSet::new(),
        limits: Limits::default(),
        plan_in_shadow: false,
        metadata: tenant.metadata.clone(),
        version: tenant.version,
    }
}
