//! A store with no server around it: opened so that it can be copied.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::StorePlace;
use crate::crypto::keyring::Keyring;
use crate::keyfile;
use crate::server::parts::check_keyrings;
use crate::server::redis::Running;
use crate::store::Store;
use crate::store::redb::{EmbeddedStore, OpenError};
use crate::store::redis::{Access, Settings};

/// A store that was compared with the keyring. Its connections end when this is dropped.
#[derive(Debug)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    _running: Option<Running>,
}

impl Opened {
    fn embedded(store: EmbeddedStore) -> Self {
        Self {
            store: Arc::new(store),
            _running: None,
        }
    }

    fn redis(running: Running) -> Self {
        Self {
            store: Arc::clone(&running.store) as Arc<dyn Store>,
            _running: Some(running),
        }
    }

    /// Opens a store that is there, and writes nothing to it.
    pub async fn to_read(place: &StorePlace, data: &Keyring) -> anyhow::Result<Self> {
        match place {
            StorePlace::Embedded { path } => {
                anyhow::ensure!(path.exists(), "there is no store at {}", path.display());
                Self::embedded_to_read(path, data)
            }
            StorePlace::Redis(redis) => {
                let running = connect(redis, Access::Read, data).await?;
                running.check(data, None).await?;
                Ok(Self::redis(running))
            }
        }
    }

    /// The same for a destination that is only looked at: an empty store stands in for one that is not there yet.
    pub async fn to_try(place: &StorePlace, data: &Keyring) -> anyhow::Result<Self> {
        match place {
            StorePlace::Embedded { path } if path.exists() => Self::embedded_to_read(path, data),
            StorePlace::Embedded { .. } => Ok(Self::embedded(EmbeddedStore::in_memory()?)),
            StorePlace::Redis(redis) => {
                let running = connect(redis, Access::Read, data).await?;
                if running.store.is_empty().await? {
                    return Ok(Self::embedded(EmbeddedStore::in_memory()?));
                }
                running.check(data, None).await?;
                Ok(Self::redis(running))
            }
        }
    }

    /// Opens a store, or makes it, and lets it remember the keyring if it has none.
    pub async fn to_write(place: &StorePlace, data: &Keyring) -> anyhow::Result<Self> {
        match place {
            StorePlace::Embedded { path } => {
                let store = EmbeddedStore::open_if(path, |facts| -> anyhow::Result<()> {
                    check_keyrings(&path.display().to_string(), facts, data, None)?;
                    Ok(())
                })?;
                let remembered = store.keyring_id(data.id()).await?;
                keyfile::check_belongs(&path.display().to_string(), &remembered, data)?;
                Ok(Self::embedded(store))
            }
            StorePlace::Redis(redis) => {
                let running = connect(redis, Access::Write, data).await?;
                running.check(data, None).await?;
                Ok(Self::redis(running))
            }
        }
    }

    fn embedded_to_read(path: &Path, data: &Keyring) -> anyhow::Result<Self> {
        let store = EmbeddedStore::open_to_read(path, |facts| {
            check_keyrings(&path.display().to_string(), facts, data, None)?;
            Ok::<_, anyhow::Error>(())
        });
        let in_use =
            |error: &anyhow::Error| matches!(error.downcast_ref(), Some(OpenError::InUse { .. }));
        match store {
            Err(error) if in_use(&error) => Err(error
                .context("nobody may write to a store that is copied: stop its `keystile serve`")),
            store => Ok(Self::embedded(store?)),
        }
    }
}

async fn connect(redis: &Settings, access: Access, data: &Keyring) -> anyhow::Result<Running> {
    let (running, connected) = Running::start(redis, access, data).await;
    connected.with_context(|| format!("cannot use the Redis store {}", redis.location()))?;
    Ok(running)
}
