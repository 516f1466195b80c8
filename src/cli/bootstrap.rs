//! `keystile bootstrap`: the first key of all, made once, without a server.

use std::path::PathBuf;

use crate::cli::output::{self, Form, Out};
use crate::cli::tokens::TokenFile;
use crate::cli::{Failure, bad_start, block_on, load_config};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::change::Actor;
use crate::domain::name::{DisplayName, InvalidName, Owner, TenantId};
use crate::domain::role::Role;
use crate::registry::{CreatedKey, NewKey, NewTenant, Registry, RegistryError};
use crate::server::parts::Parts;
use crate::store::redb::OpenError;

/// The tenant that the operators' keys belong to.
const TENANT: &str = "platform";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Makes the tenant `platform` and in it a key with the role global_admin, and prints the key once.
Run it before the first `keystile serve`, on the machine that has the store and both keyrings.
The key does not expire, and the rules of `api_keys` do not hold for it: it is the one that can make all others.

Examples:
  keystile bootstrap -c keystile.yaml --token-file admin.key
  keystile bootstrap -c keystile.yaml -o json | jq -r .plaintext > admin.key"
)]
pub(super) struct BootstrapArgs {
    /// Config file; without it, defaults and the environment alone
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// New file for the key, which its owner alone can read; the key is not printed then
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// Why there is no first key now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// It has been made before.
    #[error(
        "already bootstrapped: the tenant `{TENANT}` has had a key; make more with `keystile key create {TENANT} --role global_admin`"
    )]
    Already,
    /// It could not be made.
    #[error("cannot make the first key")]
    Registry(#[from] RegistryError),
    /// A name of ours is refused by our own rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// Makes the operators' tenant, unless an earlier run did, and the first key in it.
pub(crate) async fn bootstrap(registry: &Registry) -> Result<CreatedKey, BootstrapError> {
    let tenant = TenantId::parse(TENANT)?;
    let new = NewTenant::named(tenant.clone(), DisplayName::parse("Platform operators")?);
    match registry.create_tenant(&Actor::Operator, new).await {
        // A run that stopped between the tenant and its key is continued.
        Ok(_) | Err(RegistryError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let key = NewKey::named(
        DisplayName::parse("bootstrap")?,
        Owner::parse("operator")?,
        Role::GlobalAdmin,
    );
    let made = registry
        .create_first_key(&Actor::Operator, &tenant, key)
        .await;
    made.map_err(|error| match error {
        RegistryError::AlreadyExists { .. } => BootstrapError::Already,
        error => error.into(),
    })
}

pub(super) fn run(args: &BootstrapArgs, out: &mut Out) -> Result<(), Failure> {
    let config = load_config(args.config.as_deref())?;
    // Before there is a key that has no place.
    let file = args.token_file.as_deref().map(TokenFile::make);
    let file = file.transpose()?;
    let made = block_on(async {
        let parts = Parts::open(&config).await.map_err(explain)?;
        bootstrap(&parts.registry).await.map_err(Failure::failed)
    })?;
    let key = crate::admin::key_to_proto(&made.key, SystemClock.now());
    match file {
        Some(file) => {
            file.keep(made.token.expose())?;
            output::one(out, args.output, &key)
        }
        None => output::created(out, args.output, &key, made.token.expose(), output::ONCE),
    }
}

fn explain(error: anyhow::Error) -> Failure {
    let in_use = matches!(error.downcast_ref(), Some(OpenError::InUse { .. }));
    let error = if in_use {
        error.context(
            "bootstrap needs the store for itself: stop `keystile serve`, or run this before it",
        )
    } else {
        error
    };
    bad_start(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::keyring::{Keyring, Ring};
    use crate::registry::Settings;
    use crate::store::redb::EmbeddedStore;

    fn registry() -> Registry {
        let now = SystemClock.now();
        let ring = |ring| Arc::new(Keyring::generate(ring, now, &mut rand::rng()));
        let data = ring(Ring::Data);
        let lookup = Arc::new(data.lookup_key().unwrap());
        Registry::new(
            Arc::new(EmbeddedStore::in_memory().unwrap()),
            data,
            Some(ring(Ring::Vault)),
            lookup,
            Arc::new(SystemClock),
            Settings::default(),
        )
    }

    #[tokio::test]
    async fn the_first_key_is_made_once() {
        let registry = registry();
        let made = bootstrap(&registry).await.unwrap();
        assert_eq!(made.key.role, Role::GlobalAdmin);
        assert_eq!(made.key.tenant.as_str(), "platform");
        assert!(made.token.expose().starts_with("ks_live_"));
        let again = bootstrap(&registry).await.unwrap_err();
        assert!(matches!(again, BootstrapError::Already), "{again}");
    }

    #[tokio::test]
    async fn revoking_the_first_key_does_not_open_the_door_again() {
        let registry = registry();
        let made = bootstrap(&registry).await.unwrap();
        let reason = crate::domain::name::Description::parse("").unwrap();
        let (tenant, id) = (&made.key.tenant, &made.key.id);
        let revoked = registry.revoke_key(&Actor::Operator, tenant, id, None, &reason);
        revoked.await.unwrap();
        let again = bootstrap(&registry).await.unwrap_err();
        assert!(matches!(again, BootstrapError::Already), "{again}");
    }

    #[tokio::test]
    async fn a_run_that_stopped_halfway_is_continued() {
        let registry = registry();
        let tenant = TenantId::parse(TENANT).unwrap();
        let new = NewTenant::named(tenant, DisplayName::parse("Platform operators").unwrap());
        registry.create_tenant(&Actor::Operator, new).await.unwrap();
        assert!(bootstrap(&registry).await.is_ok());
    }
}
