//! The admin listener: its services, and what its callers are recognised by.

use std::sync::Arc;

use axum::Router;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};

use crate::admin;
use crate::admin::caller::{AuthFailure, AuthFuture, Authenticate, Credential, Identity};
use crate::authorizer::Authorizer;
use crate::cache::Found;
use crate::clock::SystemClock;
use crate::config::{ClientRole, ClientRoleConfig};
use crate::domain::decision::DenyReason;
use crate::domain::name::{KeyId, Owner, TenantId};
use crate::domain::role::Role;
use crate::domain::san::{San, SanPattern};
use crate::domain::tenant::TenantStatus;
use crate::registry::{Registry, RegistryError};
use crate::server::parts::Parts;

/// Recognises callers: keys by the same path that decides requests, certificates by the configuration.
struct Callers {
    authorizer: Arc<Authorizer>,
    registry: Registry,
    /// The first that names one of a certificate's names decides.
    roles: Vec<CertificateRole>,
}

/// What the holder of a certificate may do.
struct CertificateRole {
    san: SanPattern,
    role: Role,
    tenant: Option<TenantId>,
}

impl Authenticate for Callers {
    fn authenticate<'a>(&'a self, token: &'a [u8]) -> AuthFuture<'a> {
        Box::pin(async move {
            match self.authorizer.authenticate(token).await {
                Ok(Ok(found)) => identity(&found),
                Ok(Err(reason)) => Err(failure(reason)),
                Err(outage) => {
                    tracing::warn!(
                        error = %crate::telemetry::chain(&outage),
                        "cannot authenticate a caller"
                    );
                    Err(AuthFailure::Unavailable)
                }
            }
        })
    }

    fn recognise<'a>(&'a self, names: &'a [San]) -> AuthFuture<'a> {
        Box::pin(async move {
            let (entry, san) = self.role_of(names).ok_or(AuthFailure::Refused)?;
            if let Some(tenant) = &entry.tenant {
                self.check_active(tenant).await?;
            }
            Ok(Identity {
                role: entry.role,
                credential: Credential::Certificate {
                    san: san.clone(),
                    tenant: entry.tenant.clone(),
                },
            })
        })
    }
}

impl Callers {
    fn role_of<'a>(&self, names: &'a [San]) -> Option<(&CertificateRole, &'a San)> {
        self.roles.iter().find_map(|entry| {
            let san = names.iter().find(|san| entry.san.matches(san))?;
            Some((entry, san))
        })
    }

    /// As a key of the tenant would be, the certificate is refused while the tenant is suspended.
    async fn check_active(&self, tenant: &TenantId) -> Result<(), AuthFailure> {
        match self.registry.tenant(tenant).await {
            Ok(found) if found.status == TenantStatus::Active => Ok(()),
            Ok(_) => Err(AuthFailure::TenantSuspended),
            Err(RegistryError::NotFound { .. }) => Err(AuthFailure::Refused),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot recognise a client certificate");
                Err(AuthFailure::Unavailable)
            }
        }
    }
}

fn certificate_role(entry: &ClientRoleConfig) -> anyhow::Result<CertificateRole> {
    let tenant = entry.tenant.as_deref().map(TenantId::parse).transpose()?;
    Ok(CertificateRole {
        san: entry.san.clone(),
        role: match entry.role {
            ClientRole::TenantAdmin => Role::TenantAdmin,
            ClientRole::GlobalAdmin => Role::GlobalAdmin,
        },
        tenant,
    })
}

fn identity(found: &Found) -> Result<Identity, AuthFailure> {
    let key = &found.key;
    Ok(Identity {
        role: key.role(),
        credential: Credential::Key {
            tenant: key.tenant().clone(),
            key: KeyId::parse(key.key()).map_err(|_| AuthFailure::Unavailable)?,
            owner: Owner::parse(key.owner()).map_err(|_| AuthFailure::Unavailable)?,
        },
    })
}

fn failure(reason: DenyReason) -> AuthFailure {
    match reason {
        DenyReason::ApiKeyExpired => AuthFailure::Expired,
        DenyReason::TenantSuspended => AuthFailure::TenantSuspended,
        DenyReason::AuthorizationUnavailable => AuthFailure::Unavailable,
        // A key that is bound to networks cannot prove where its holder is on this listener: refused.
        DenyReason::NetworkNotAllowed
        | DenyReason::MissingApiKey
        | DenyReason::InvalidApiKey
        | DenyReason::FeatureNotEnabled
        | DenyReason::ScopeNotGranted
        | DenyReason::AmbiguousRequest
        // Limits are for the mesh: this listener asks none of them.
        | DenyReason::RateLimited
        | DenyReason::QuotaExceeded
        | DenyReason::TemporarilyBlocked => AuthFailure::Refused,
    }
}

/// Everything that the admin listener serves.
pub(super) fn router(
    parts: &Parts,
    roles: &[ClientRoleConfig],
    health: HealthServer<impl HealthApi>,
) -> anyhow::Result<Router> {
    let auth = Arc::new(Callers {
        authorizer: Arc::clone(&parts.authorizer),
        registry: parts.registry.clone(),
        roles: roles
            .iter()
            .map(certificate_role)
            .collect::<Result<_, _>>()?,
    });
    let routes = admin::routes(
        parts.registry.clone(),
        auth,
        Arc::clone(parts.blocks()),
        Arc::new(SystemClock),
        &parts.page_token_key(),
    );
    Ok(admin::router(routes.add_service(health)))
}
