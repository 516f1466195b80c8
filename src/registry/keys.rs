//! The registry's keys.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::crypto::token::{PresentedToken, Token};
use crate::domain::change::{Action, Actor};
use crate::domain::governance::LimitSource;
use crate::domain::key::{Key, KeyKind, KeyStatus, NETWORKS_MAX, SCOPES_MAX};
use crate::domain::limit::Limits;
use crate::domain::name::{Description, DisplayName, Feature, KeyId, Owner, Scope, TenantId};
use crate::domain::role::{AdminAccess, Role};
use crate::domain::tenant::{FEATURES_MAX, Tenant};
use crate::domain::version::Version;
use crate::registry::idempotency::{Tagged, Verb};
use crate::registry::{Entry, Opened, Registry, RegistryError, RequestId, audit_notes, refused};
use crate::store::records;
use crate::store::{CommitError, CountChange, CountScope, Expected, KeyCommit, KeyRow};

/// What a new key is made of.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For people.
    pub display_name: DisplayName,
    /// For people; may be empty.
    pub description: Description,
    /// The user it belongs to.
    pub owner: Owner,
    /// What its holder may do on the admin API.
    pub role: Role,
    /// Whether it opens the admin API; where nobody says, by the rules.
    pub admin_access: Option<AdminAccess>,
    /// Live or test.
    pub kind: KeyKind,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// If set, only these of the tenant's features.
    pub features: Option<BTreeSet<Feature>>,
    /// If not empty, the only networks it may be used from.
    pub networks: Vec<IpNet>,
    /// Limits of its own, beside its tenant's.
    pub limits: Limits,
    /// The key whose budgets its requests are charged to; none: its own.
    pub budget: Option<KeyId>,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// In its place: how long it works from when it is made.
    pub ttl: Option<Duration>,
}

impl NewKey {
    /// A live key of that name, owner and role and nothing else.
    pub fn named(display_name: DisplayName, owner: Owner, role: Role) -> Self {
        Self {
            display_name,
            description: Description::parse("").expect("an empty description is allowed"),
            owner,
            role,
            admin_access: None,
            kind: KeyKind::Live,
            scopes: BTreeSet::new(),
            features: None,
            networks: Vec::new(),
            limits: Limits::default(),
            budget: None,
            expires_at: None,
            ttl: None,
        }
    }
}

/// A key that was just made, and its token: the only time that it is seen.
#[derive(Debug)]
pub struct CreatedKey {
    /// What operators know of it.
    pub key: Key,
    /// For its owner.
    pub token: Token,
}

/// A key as it was read, with its tenant opened. A change that is given it reads neither again, unless somebody else was
/// faster.
#[derive(Clone)]
pub struct ReadKey {
    pub(super) opened: Arc<Opened>,
    pub(super) key: Key,
}

impl ReadKey {
    /// What operators know of the key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its tenant, as it was read with it.
    pub fn tenant(&self) -> &Tenant {
        &self.opened.tenant
    }
}

impl fmt::Debug for ReadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadKey({}/{})", self.key.tenant, self.key.id)
    }
}

/// Where the token of a new key comes from.
pub(super) enum TokenSource<'a> {
    Fresh,
    Imported(PresentedToken<'a>),
}

/// A key to be made.
pub(super) struct Creation<'a> {
    pub(super) new: NewKey,
    pub(super) token: TokenSource<'a>,
    pub(super) expected: Expected,
    pub(super) request: Option<&'a Tagged>,
}

impl Creation<'_> {
    pub(super) fn new(new: NewKey) -> Self {
        Self {
            new,
            token: TokenSource::Fresh,
            expected: Expected::New,
            request: None,
        }
    }
}

impl Registry {
    /// Makes a key and its token.
    pub async fn create_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
    ) -> Result<CreatedKey, RegistryError> {
        let opened = self.open(tenant).await?;
        self.make_key(actor, &opened, Creation::new(new)).await
    }

    /// Makes the first key of a tenant; [`RegistryError::AlreadyExists`] when it has ever had one.
    ///
    /// The rules for keys do not hold for it: who is here has the store and the keyrings and is above them, it comes
    /// only once, and if it could be refused or expire, nobody might be left who can make another.
    pub async fn create_first_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
    ) -> Result<CreatedKey, RegistryError> {
        let opened = self.open(tenant).await?;
        let creation = Creation {
            expected: Expected::FirstOfTenant,
            ..Creation::new(new)
        };
        self.make_key(actor, &opened, creation).await
    }

    /// Makes a key and its token, once: the same request again is answered with the same key and token.
    pub async fn create_key_once(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
        request: &RequestId,
    ) -> Result<CreatedKey, RegistryError> {
        let opened = self.open(tenant).await?;
        let request = self.tag(Verb::CreateKey, actor, tenant, request);
        if let Some(made) = self.key_made_before(&opened, &request).await? {
            return self.repeat(&opened, made);
        }
        let creation = Creation {
            request: Some(&request),
            ..Creation::new(new)
        };
        match self.make_key(actor, &opened, creation).await {
            // It was made meanwhile, perhaps by this very request.
            Err(error @ RegistryError::AlreadyExists { .. }) => {
                match self.key_made_before(&opened, &request).await? {
                    Some(made) => self.repeat(&opened, made),
                    None => Err(error),
                }
            }
            made => made,
        }
    }

    /// The key that the request made or rotated, and which generation of it.
    pub(super) async fn key_made_before(
        &self,
        opened: &Opened,
        request: &Tagged,
    ) -> Result<Option<(Key, u32)>, RegistryError> {
        let Some(done) = self.done(opened, request).await? else {
            return Ok(None);
        };
        let Some(id) = done.key else {
            return Ok(None);
        };
        let key = self.open_key(opened, &id).await?;
        Ok(Some((key, done.generation)))
    }

    /// The first answer again: the key, and the token of the generation that was made.
    fn repeat(
        &self,
        opened: &Opened,
        (key, generation): (Key, u32),
    ) -> Result<CreatedKey, RegistryError> {
        match self.kept_token(opened, &key, generation)? {
            Some(token) => Ok(CreatedKey { key, token }),
            None => Err(RegistryError::TokenNotKept {
                tenant: key.tenant,
                key: key.id,
            }),
        }
    }

    pub(super) async fn make_key(
        &self,
        actor: &Actor,
        opened: &Opened,
        creation: Creation<'_>,
    ) -> Result<CreatedKey, RegistryError> {
        let (owner, role) = (creation.new.owner.clone(), creation.new.role);
        let made = self.try_make_key(actor, opened, creation).await;
        made.inspect_err(|error| {
            self.note_refused_key(actor, &opened.tenant.id, (&owner, role), error);
        })
    }

    async fn try_make_key(
        &self,
        actor: &Actor,
        opened: &Opened,
        mut creation: Creation<'_>,
    ) -> Result<CreatedKey, RegistryError> {
        let now = self.now();
        if let Some(ttl) = creation.new.ttl {
            creation.new.expires_at = Some(now.plus(ttl));
        }
        let (tenant, role) = (&opened.tenant, creation.new.role);
        check_sizes(
            &creation.new.scopes,
            creation.new.features.as_ref(),
            &creation.new.networks,
        )?;
        let count = self.check_rules(tenant, &creation, now)?;
        let (token, hint, action) = self.token_for(&creation.token, creation.new.kind);
        let key = self.assemble((opened, actor), creation.new, &token, hint, now)?;
        let entry = Entry {
            actor,
            action,
            at: now,
            key: Some(&key.id),
            note: audit_notes::of_new_key(&key),
        };
        let commit = KeyCommit {
            request: creation
                .request
                .map(|request| request.row(opened, Some(&key), now)),
            ..self.key_commit(opened, &key, creation.expected, count, entry)
        };
        match self.commit_counted(opened, commit).await {
            Ok(()) => Ok(CreatedKey { key, token }),
            Err(CommitError::Repeated) => Err(RegistryError::AlreadyExists { what: "key" }),
            Err(CommitError::CountLimit {
                scope,
                limit,
                current,
            }) => Err(self.count_limit(tenant, role, scope, (limit, current))),
            Err(error) => Err(refused("key")(error)),
        }
    }

    /// How the new key is counted, if the rules for keys let it be made at all.
    fn check_rules(
        &self,
        tenant: &Tenant,
        creation: &Creation<'_>,
        now: Timestamp,
    ) -> Result<CountChange, RegistryError> {
        match creation.expected {
            Expected::FirstOfTenant => Ok(CountChange::Add {
                per_owner: u64::MAX,
                total: None,
            }),
            Expected::New | Expected::Lost | Expected::Version(_) => {
                let count = self.room(tenant, creation.new.role)?;
                self.check_expiry(creation.new.expires_at, now)?;
                Ok(count)
            }
        }
    }

    /// The token, what is shown of it, and what making the key is called in the audit.
    fn token_for(&self, source: &TokenSource<'_>, kind: KeyKind) -> (Token, String, Action) {
        match source {
            TokenSource::Fresh => {
                let token = self.new_token(kind);
                let hint = token.hint();
                (token, hint, Action::KeyCreated)
            }
            TokenSource::Imported(token) => {
                let hint = token.imported_hint();
                let token = Token::kept(token.expose().to_owned());
                (token, hint, Action::KeyImported)
            }
        }
    }

    pub(super) fn count_limit(
        &self,
        tenant: &Tenant,
        role: Role,
        scope: CountScope,
        (limit, current): (u64, u64),
    ) -> RegistryError {
        let set_by = match scope {
            CountScope::Owner => {
                let rules = self.key_rules();
                rules.limit(&tenant.id, &tenant.key_limits, role).source
            }
            CountScope::Total => LimitSource::GlobalOverride,
        };
        RegistryError::CountLimit {
            scope,
            limit,
            current,
            role,
            set_by,
        }
    }

    fn assemble(
        &self,
        (opened, actor): (&Opened, &Actor),
        new: NewKey,
        token: &Token,
        hint: String,
        now: Timestamp,
    ) -> Result<Key, RegistryError> {
        let rules = self.key_rules();
        let admin_access = new
            .admin_access
            .unwrap_or_else(|| rules.admin_access(new.role));
        let mut key = Key {
            tenant: opened.tenant.id.clone(),
            id: new_key_id(),
            display_name: new.display_name,
            description: new.description,
            owner: new.owner,
            role: new.role,
            admin_access,
            kind: new.kind,
            status: KeyStatus::Active,
            pause: None,
            scopes: new.scopes,
            features: new.features,
            networks: new.networks,
            limits: new.limits,
            budget: new.budget,
            created_by: Some(actor.clone()),
            expires_at: new.expires_at,
            generations: Vec::with_capacity(1),
            forgotten: Vec::new(),
            created_at: now,
            updated_at: now,
            version: Version::after(0, now, rand::random()),
        };
        let first = self.generation(opened, &key, 1, token, hint, now)?;
        key.generations.push(first);
        Ok(key)
    }

    /// Reads a key, for a change that begins from what was read.
    pub async fn read_key(&self, tenant: &TenantId, id: &KeyId) -> Result<ReadKey, RegistryError> {
        let opened = Arc::new(self.open(tenant).await?);
        let key = self.open_key(&opened, id).await?;
        Ok(ReadKey { opened, key })
    }

    /// A key of a tenant.
    pub async fn key(&self, tenant: &TenantId, id: &KeyId) -> Result<Key, RegistryError> {
        Ok(self.read_key(tenant, id).await?.key)
    }

    pub(super) async fn open_key(&self, opened: &Opened, id: &KeyId) -> Result<Key, RegistryError> {
        let row = self
            .store
            .key(&opened.tenant.id, id)
            .await?
            .ok_or(RegistryError::NotFound { what: "key" })?;
        let tenant = &opened.tenant.id;
        let key = records::open_key(&opened.data_key, tenant, &row);
        Ok(key.inspect_err(|error| self.store.damage().unopened(tenant, error))?)
    }

    /// Keys of a tenant in the order of their ids, after `after`, at most `limit`. Of one whose record is lost or cannot
    /// be read, the id.
    pub async fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyId>,
        limit: usize,
    ) -> Result<Vec<Result<Key, KeyId>>, RegistryError> {
        let opened = self.open(tenant).await?;
        let rows = self.store.keys(tenant, after, limit).await?;
        Ok(self.open_rows(&opened, rows))
    }

    /// Opens keys. Of one whose record is lost or cannot be read, the id.
    pub(super) fn open_rows(&self, opened: &Opened, rows: Vec<KeyRow>) -> Vec<Result<Key, KeyId>> {
        let tenant = &opened.tenant.id;
        let open = |row: KeyRow| {
            let key = records::open_key(&opened.data_key, tenant, &row);
            key.map_err(|error| {
                self.store.damage().unopened(tenant, &error);
                row.id
            })
        };
        rows.into_iter().map(open).collect()
    }

    /// The commit that puts `key` there.
    pub(super) fn key_commit(
        &self,
        opened: &Opened,
        key: &Key,
        expected: Expected,
        count: CountChange,
        entry: Entry<'_>,
    ) -> KeyCommit {
        KeyCommit {
            tenant: key.tenant.clone(),
            dek_id: opened.data_key.id(),
            expected,
            row: records::seal_key(&opened.data_key, key, &mut rand::rng()),
            index: records::seal_index(&opened.data_key, key, &mut rand::rng()),
            drop: Vec::new(),
            owner_tag: records::owner_tag(&self.lookup, key),
            count,
            audit: Self::audit(&opened.data_key, &key.tenant, entry),
            request: None,
        }
    }
}

/// 96 random bits as 20 characters of lower-case base32.
fn new_key_id() -> KeyId {
    let mut bytes = [0; 12];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    let text = data_encoding::BASE32_NOPAD
        .encode(&bytes)
        .to_ascii_lowercase();
    KeyId::parse(&text).expect("base32 is within a-z and 2-7, and 12 bytes make 20 characters")
}

pub(super) fn check_sizes(
    scopes: &BTreeSet<Scope>,
    features: Option<&BTreeSet<Feature>>,
    networks: &[IpNet],
) -> Result<(), RegistryError> {
    let features = features.map_or(0, BTreeSet::len);
    for (field, len, max) in [
        ("scopes", scopes.len(), SCOPES_MAX),
        ("allow_cidrs", networks.len(), NETWORKS_MAX),
        ("features", features, FEATURES_MAX),
    ] {
        if len > max {
            let problem = format!("at most {max} are allowed");
            return Err(RegistryError::Invalid { field, problem });
        }
    }
    Ok(())
}
