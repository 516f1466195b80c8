//! How each kind of resource is shown: as a row of a list, and whole.

use std::time::Duration;

use crate::cli::output::Resource;
use crate::clock::{Span, Timestamp};
use crate::proto::admin as pb;

/// A time for people: RFC 3339, whole seconds.
pub(super) fn time(time: Option<&prost_types::Timestamp>) -> String {
    let millis = time.map(|time| time.seconds.saturating_mul(1000));
    millis.map_or_else(String::new, |millis| {
        Timestamp::from_millis(millis).to_string()
    })
}

/// The word of an enum value: `KEY_STATE_ACTIVE` is `active`.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

impl pb::Tenant {
    /// The limit that holds, and where it comes from: `100/s (plan)`.
    fn limit(&self, name: &str) -> String {
        let holds = self
            .effective_limits
            .iter()
            .find(|limit| limit.name == name);
        holds.map_or_else(String::new, |limit| match limit.source.as_str() {
            "default" => limit.value.clone(),
            source => format!("{} ({source})", limit.value),
        })
    }
}

/// `rate 100/s (plan), rate 10/s (key)`
fn held_against(limits: &[pb::EffectiveLimit]) -> String {
    let limits = limits.iter().filter(|limit| limit.source != "default");
    let shown = limits.map(|limit| format!("{} {} ({})", limit.name, limit.value, limit.source));
    shown.collect::<Vec<_>>().join(", ")
}

impl Resource for pb::Tenant {
    const TYPE: &'static str = "keystile.admin.v1.Tenant";
    const MANY: &'static str = "tenants";
    const COLUMNS: &'static [&'static str] =
        &["TENANT", "NAME", "STATE", "PLAN", "FEATURES", "CREATED"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.tenant_id.clone(),
            self.display_name.clone(),
            word(self.state().as_str_name(), "TENANT_STATE_"),
            self.plan.clone(),
            self.features.join(", "),
            time(self.create_time.as_ref()),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let metadata = self
            .metadata
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        vec![
            ("tenant", self.tenant_id.clone()),
            ("display name", self.display_name.clone()),
            ("state", word(self.state().as_str_name(), "TENANT_STATE_")),
            ("plan", self.plan.clone()),
            ("features", self.features.join(", ")),
            ("denied features", self.denied_features.join(", ")),
            ("rate", self.limit("rate")),
            ("quota", self.limit("quota")),
            ("effective features", self.effective_features.join(", ")),
            ("metadata", metadata.collect::<Vec<_>>().join(", ")),
            ("created", time(self.create_time.as_ref())),
            ("updated", time(self.update_time.as_ref())),
            ("etag", self.etag.clone()),
        ]
    }
}

impl Resource for pb::Key {
    const TYPE: &'static str = "keystile.admin.v1.Key";
    const MANY: &'static str = "keys";
    const COLUMNS: &'static [&'static str] = &[
        "KEY", "NAME", "OWNER", "ROLE", "ADMIN", "STATE", "TOKEN", "EXPIRES",
    ];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.key_id.clone(),
            self.display_name.clone(),
            self.owner.clone(),
            word(self.role().as_str_name(), "ROLE_"),
            word(self.admin_access().as_str_name(), "ADMIN_ACCESS_"),
            word(self.state().as_str_name(), "KEY_STATE_"),
            format!("{}...", self.key_prefix),
            self.expire_time
                .as_ref()
                .map_or_else(|| "never".into(), |end| time(Some(end))),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let features = match &self.features {
            Some(list) if list.names.is_empty() => "none".into(),
            Some(list) => list.names.join(", "),
            None => String::new(),
        };
        let retiring = self.retiring.as_ref().map(|old| {
            let end = time(old.retire_time.as_ref());
            format!("{}... works until {end}", old.key_prefix)
        });
        let generation = match self.generation {
            0 | 1 => String::new(),
            later => later.to_string(),
        };
        let paused_until = match (&self.pause_time, &self.pause_end_time) {
            (Some(_), None) => "it is resumed".into(),
            (_, end) => time(end.as_ref()),
        };
        vec![
            ("key", self.key_id.clone()),
            ("tenant", self.tenant_id.clone()),
            ("name", self.display_name.clone()),
            ("description", self.description.clone()),
            ("owner", self.owner.clone()),
            ("role", word(self.role().as_str_name(), "ROLE_")),
            (
                "admin access",
                word(self.admin_access().as_str_name(), "ADMIN_ACCESS_"),
            ),
            ("kind", word(self.kind().as_str_name(), "KEY_KIND_")),
            ("state", word(self.state().as_str_name(), "KEY_STATE_")),
            ("scopes", self.scopes.join(", ")),
            ("only features", features),
            ("only networks", self.allow_cidrs.join(", ")),
            ("own rate", self.rate.clone()),
            ("own quota", self.quota.clone()),
            ("held against", held_against(&self.effective_limits)),
            ("token begins", self.key_prefix.clone()),
            ("generation", generation),
            ("token before", retiring.unwrap_or_default()),
            (
                "to be claimed",
                if self.unclaimed { "yes" } else { "" }.into(),
            ),
            ("expires", time(self.expire_time.as_ref())),
            ("created", time(self.create_time.as_ref())),
            ("created by", self.created_by.clone()),
            ("updated", time(self.update_time.as_ref())),
            ("paused", time(self.pause_time.as_ref())),
            ("paused until", paused_until),
            ("paused because", self.pause_reason.clone()),
            ("revoked", time(self.revoke_time.as_ref())),
            ("revoked because", self.revoke_reason.clone()),
            ("not confirmed by", self.unconfirmed_sidecars.join(", ")),
            ("etag", self.etag.clone()),
        ]
    }
}

/// A duration for people, in ms.
fn millis(duration: Option<&prost_types::Duration>) -> String {
    duration.map_or_else(String::new, |duration| {
        let millis = duration.seconds as f64 * 1e3 + f64::from(duration.nanos) / 1e6;
        format!("{millis:.1} ms")
    })
}

impl Resource for pb::Sidecar {
    const TYPE: &'static str = "keystile.admin.v1.Sidecar";
    const MANY: &'static str = "sidecars";
    const COLUMNS: &'static [&'static str] = &[
        "SIDECAR",
        "VERSION",
        "STARTED",
        "LAG",
        "CACHED KEYS",
        "HEARD",
    ];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.sidecar_id.clone(),
            self.version.clone(),
            time(self.start_time.as_ref()),
            millis(self.revocation_lag.as_ref()),
            self.cached_keys.to_string(),
            time(self.last_heard_time.as_ref()),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sidecar", self.sidecar_id.clone()),
            ("version", self.version.clone()),
            ("started", time(self.start_time.as_ref())),
            ("lag", millis(self.revocation_lag.as_ref())),
            ("cached keys", self.cached_keys.to_string()),
            ("last heartbeat", time(self.last_heard_time.as_ref())),
        ]
    }
}

impl Resource for pb::Block {
    const TYPE: &'static str = "keystile.admin.v1.Block";
    const MANY: &'static str = "blocks";
    const COLUMNS: &'static [&'static str] = &["SOURCE", "UNTIL", "LENGTH"];

    fn name(&self) -> &str {
        &self.source
    }

    fn row(&self) -> Vec<String> {
        let length = self.length.as_ref().map_or(0, |length| length.seconds);
        let length = Duration::from_secs(u64::try_from(length).unwrap_or(0));
        vec![
            self.source.clone(),
            time(self.end_time.as_ref()),
            Span(length).to_string(),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let values = self.row();
        ["source", "until", "length"]
            .into_iter()
            .zip(values)
            .collect()
    }
}
