//! The admin listener: its services, and what its callers are recognised by.

use std::sync::Arc;

use axum::Router;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};

use crate::admin;
use crate::admin::caller::{
    AuthFailure, AuthFuture, Authenticate, Credential, Identity, JwtFailure,
};
use crate::authorizer::Authorizer;
use crate::cache::Found;
use crate::clock::{Clock as _, SteadyClock};
use crate::config::{ClientEntry, ClientRole};
use crate::domain::block::Presenter;
use crate::domain::decision::{Denial, DenyReason};
use crate::domain::name::{KeyId, Owner, TenantId};
use crate::domain::role::Role;
use crate::domain::san::{San, SanPattern};
use crate::domain::tenant::TenantStatus;
use crate::oidc::{self, Holder, Refusal};
use crate::registry::{Registry, RegistryError};
use crate::server::oidc::{NotFound, Oidc};
use crate::server::parts::Parts;
use crate::telemetry::Throttle;

/// Recognises callers: keys by the same path that decides requests, certificates and JWTs by the configuration.
struct Callers {
    authorizer: Arc<Authorizer>,
    registry: Registry,
    /// The first that names one of a certificate's names decides.
    roles: Vec<CertificateRole>,
    /// Whose JWTs are accepted; none in strict mode.
    oidc: Option<Arc<Oidc>>,
    /// In an outage every request, a stranger's too, meets the same.
    outages: Throttle,
}

/// What the holder of a certificate may do.
struct CertificateRole {
    san: SanPattern,
    role: Role,
    tenant: Option<TenantId>,
}

impl Authenticate for Callers {
    fn authenticate<'a>(&'a self, token: &'a [u8], presenter: Presenter) -> AuthFuture<'a> {
        Box::pin(async move {
            match self.authorizer.authenticate(token, presenter).await {
                Ok(Ok(found)) => identity(&found),
                Ok(Err(denial)) => Err(failure(&denial)),
                Err(outage) => {
                    if let Some(held_back) = self.outages.admit(SteadyClock.now()) {
                        tracing::warn!(
                            error = %crate::telemetry::chain(&outage),
                            held_back,
                            "cannot authenticate a caller"
                        );
                    }
                    Err(AuthFailure::Unavailable)
                }
            }
        })
    }

    fn check_blocked(&self, presenter: Presenter) -> Result<(), AuthFailure> {
        match self.authorizer.blocked_presenter(presenter) {
            Some(wait) => Err(AuthFailure::Blocked(wait)),
            None => Ok(()),
        }
    }

    fn presented_wrong(&self, presenter: Presenter) {
        self.authorizer.presented_wrong(presenter);
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

    fn jwt<'a>(&'a self, token: &'a [u8]) -> Option<AuthFuture<'a, JwtFailure>> {
        let oidc = self.oidc.as_ref().filter(|_| oidc::is_jwt(token))?;
        Some(Box::pin(async move {
            let holder = oidc.holder(token).await.map_err(jwt_failure)?;
            if let Some(tenant) = &holder.tenant {
                let active = self.check_active(tenant).await;
                active.map_err(|failure| match failure {
                    AuthFailure::Refused | AuthFailure::Expired | AuthFailure::Paused => {
                        JwtFailure::Refused
                    }
                    AuthFailure::TenantSuspended => JwtFailure::TenantSuspended,
                    AuthFailure::Blocked(_) | AuthFailure::Unavailable => JwtFailure::Unavailable,
                })?;
            }
            Ok(holder_of_jwt(oidc, holder))
        }))
    }
}

impl Callers {
    fn role_of<'a>(&self, names: &'a [San]) -> Option<(&CertificateRole, &'a San)> {
        self.roles.iter().find_map(|entry| {
            let san = names.iter().find(|san| entry.san.matches(san))?;
            Some((entry, san))
        })
    }

    /// As a key of the tenant would be, the certificate or JWT is refused while the tenant is suspended.
    async fn check_active(&self, tenant: &TenantId) -> Result<(), AuthFailure> {
        match self.registry.tenant(tenant).await {
            Ok(found) if found.status == TenantStatus::Active => Ok(()),
            Ok(_) => Err(AuthFailure::TenantSuspended),
            Err(RegistryError::NotFound { .. }) => Err(AuthFailure::Refused),
            Err(error) => {
                if let Some(held_back) = self.outages.admit(SteadyClock.now()) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, held_back, "cannot recognise a caller of a tenant");
                }
                Err(AuthFailure::Unavailable)
            }
        }
    }
}

fn certificate_role(entry: &ClientEntry) -> CertificateRole {
    CertificateRole {
        san: entry.san.clone(),
        role: match entry.role {
            ClientRole::TenantAdmin => Role::TenantAdmin,
            ClientRole::GlobalAdmin => Role::GlobalAdmin,
        },
        tenant: entry.tenant.clone(),
    }
}

fn identity(found: &Found) -> Result<Identity, AuthFailure> {
    let key = &found.key;
    Ok(Identity {
        role: key.role(),
        credential: Credential::Key {
            tenant: key.tenant().clone(),
            key: KeyId::parse(key.key()).map_err(|_| AuthFailure::Unavailable)?,
            generation: key.generation(),
            owner: Owner::parse(key.owner()).map_err(|_| AuthFailure::Unavailable)?,
        },
    })
}

fn holder_of_jwt(oidc: &Oidc, holder: Holder) -> Identity {
    Identity {
        role: holder.role,
        credential: Credential::Jwt {
            issuer: oidc.issuer().clone(),
            subject: holder.subject,
            tenant: holder.tenant,
            owner: holder.owner,
            scopes: holder.scopes,
        },
    }
}

/// What its holder is told: the reason, once the issuer's signature has shown that it is the holder.
fn jwt_failure(failure: NotFound) -> JwtFailure {
    let refusal = match failure {
        NotFound::NoKeys => return JwtFailure::Unavailable,
        NotFound::Refused(refusal) => refusal,
    };
    match refusal {
        Refusal::Malformed | Refusal::Algorithm | Refusal::UnknownKey | Refusal::Signature => {
            JwtFailure::Refused
        }
        Refusal::Expired => JwtFailure::Expired,
        Refusal::Issuer => JwtFailure::NotAcceptable("its `iss` is not `admin.oidc.issuer`"),
        Refusal::Audience => {
            JwtFailure::NotAcceptable("its `aud` names nothing of `admin.oidc.audience`")
        }
        Refusal::NotYetValid => {
            JwtFailure::NotAcceptable("its `nbf` or `iat` is in the future: compare the clocks")
        }
        Refusal::Bound => JwtFailure::NotAcceptable(
            "its `cnf` binds it to a key of its holder's, which cannot be shown here",
        ),
        Refusal::NoSubject => {
            JwtFailure::NotAcceptable("its `sub` must be 1 to 255 visible ASCII characters")
        }
        Refusal::NoRole => JwtFailure::NoRole(
            "no value of the claim `admin.oidc.claims.role` is in `admin.oidc.roles`",
        ),
        Refusal::NoTenant => {
            JwtFailure::NoRole("the claim `admin.oidc.claims.tenant` must name exactly one tenant")
        }
        Refusal::NoOwner => JwtFailure::NoRole(
            "the claim `admin.oidc.claims.owner` must be an owner: 1 to 128 characters of A-Z, a-z, 0-9 and . _ @ : + / = - |",
        ),
    }
}

fn failure(denial: &Denial) -> AuthFailure {
    match denial.reason {
        DenyReason::ApiKeyExpired => AuthFailure::Expired,
        DenyReason::TenantSuspended => AuthFailure::TenantSuspended,
        DenyReason::ApiKeyPaused => AuthFailure::Paused,
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
        | DenyReason::QuotaExceeded => AuthFailure::Refused,
        DenyReason::TemporarilyBlocked => {
            AuthFailure::Blocked(denial.retry_after.unwrap_or_default())
        }
    }
}

/// Everything that the admin listener serves.
pub(super) fn router(
    parts: &Parts,
    roles: &[ClientEntry],
    oidc: Option<Arc<Oidc>>,
    health: HealthServer<impl HealthApi>,
) -> Router {
    let auth = Arc::new(Callers {
        authorizer: Arc::clone(&parts.authorizer),
        registry: parts.registry.clone(),
        roles: roles.iter().map(certificate_role).collect(),
        oidc,
        outages: Throttle::default(),
    });
    let routes = admin::routes(
        parts.registry.clone(),
        auth,
        Arc::clone(parts.blocks()),
        Arc::new(SteadyClock),
        &parts.page_token_key(),
    );
    admin::router(routes.add_service(health))
}
