//! What a control plane is asked to do to a key, of whatever store.

use std::time::Duration;

use keystile::domain::change::Actor;
use keystile::domain::key::{Key, LookupId};
use keystile::domain::name::{Description, KeyId, TenantId};
use keystile::registry::{NewEnd, Registry, RegistryError};

use super::schedule::Change;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a change.
pub(crate) enum Outcome {
    /// Who has not confirmed; none where nobody was waited for.
    Revoked(Option<Vec<String>>),
    /// The key is bound to this network, by each of these tokens.
    Narrowed(String, Vec<LookupId>),
    Other,
}

/// The key that is changed.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyId,
}

impl Target {
    pub(crate) async fn revoke(&self, registry: &Registry) -> Result<Key, RegistryError> {
        let reason = Description::parse("").unwrap();
        let (tenant, key) = (&self.tenant, &self.key);
        let revoked = registry.revoke_key(&Actor::Operator, tenant, key, None, &reason);
        Ok(revoked.await?.key)
    }

    /// Binds the key to a network.
    pub(crate) async fn narrow(
        &self,
        registry: &Registry,
        network: String,
    ) -> Result<Key, RegistryError> {
        let set = move |key: &mut Key| key.networks = vec![network.parse().unwrap()];
        let (actor, note) = (Actor::Operator, String::new());
        let changed = registry.update_key(&actor, &self.tenant, &self.key, None, note, set);
        changed.await
    }
}

impl Change {
    pub(crate) async fn make(self, registry: Registry, of: &Target, network: String) -> Outcome {
        let (actor, tenant, id) = (Actor::Operator, &of.tenant, &of.key);
        match self {
            Self::Revoke { wait } => {
                let Ok(key) = of.revoke(&registry).await else {
                    return Outcome::Other;
                };
                let late = match wait {
                    true => {
                        let confirmed = registry
                            .confirmed(std::slice::from_ref(&key), PATIENCE)
                            .await;
                        confirmed.ok().map(|confirmed| confirmed.late)
                    }
                    false => None,
                };
                return Outcome::Revoked(late);
            }
            Self::Narrow => {
                if let Ok(key) = of.narrow(&registry, network.clone()).await {
                    let tokens = key.generations.iter().map(|one| one.lookup_id);
                    return Outcome::Narrowed(network, tokens.collect());
                }
            }
            Self::Same => {
                let same = registry.update_key(&actor, tenant, id, None, String::new(), |_| ());
                drop(same.await);
            }
            Self::Rotate => {
                let rotated = registry.rotate_key(&actor, tenant, id, DAY, None, None);
                drop(rotated.await);
            }
            Self::Renew => {
                let renewed = registry.renew_key(&actor, tenant, id, NewEnd::After(3 * DAY), None);
                drop(renewed.await);
            }
        }
        Outcome::Other
    }
}

/// Of a sidecar that lets a token pass: an error if it has confirmed the revocation, or has to know of it.
pub(crate) fn judge_pass(
    sidecar: usize,
    token: LookupId,
    has_confirmed: bool,
    must_refuse: bool,
) -> Result<(), String> {
    let why = match (has_confirmed, must_refuse) {
        (true, _) => "pass, though it has confirmed the revocation",
        (false, true) => "pass after the revocation was acknowledged",
        (false, false) => return Ok(()),
    };
    Err(format!("sidecar {sidecar} lets {token} {why}"))
}
