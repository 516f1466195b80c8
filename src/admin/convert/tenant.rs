//! Tenants, proto to domain and back.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use crate::admin::convert::{Fields, bad, effective, masked, put, time_to_proto};
use crate::domain::limit::{Own, Quota, Rate};
use crate::domain::name::{Description, DisplayName, Feature, MetadataName, PlanName, TenantId};
use crate::domain::plan::Plans;
use crate::domain::tenant::{FEATURES_MAX, METADATA_MAX, Tenant, TenantStatus};
use crate::proto::admin as pb;
use crate::registry::{Etag, NewTenant};

/// The tenant of a resource name `tenants/{tenant}`.
pub(in crate::admin) fn tenant_name(field: &str, name: &str) -> Result<TenantId, Status> {
    name.strip_prefix("tenants/")
        .and_then(|id| TenantId::parse(id).ok())
        .ok_or_else(|| {
            bad(
                field,
                format!(
                    "must be `tenants/{{tenant}}`, the tenant {}",
                    TenantId::RULE
                ),
            )
        })
}

pub(in crate::admin) fn tenant_to_proto(tenant: &Tenant, plans: &Plans) -> pb::Tenant {
    let texts = |set: &BTreeSet<Feature>| set.iter().map(ToString::to_string).collect();
    pb::Tenant {
        name: format!("tenants/{}", tenant.id),
        tenant_id: tenant.id.to_string(),
        display_name: tenant.display_name.to_string(),
        state: match tenant.status {
            TenantStatus::Active => pb::TenantState::Active,
            TenantStatus::Suspended => pb::TenantState::Suspended,
        }
        .into(),
        plan: tenant
            .plan
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        features: texts(&tenant.features),
        denied_features: texts(&tenant.denied_features),
        metadata: tenant
            .metadata
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        create_time: Some(time_to_proto(tenant.created_at)),
        update_time: Some(time_to_proto(tenant.updated_at)),
        etag: Etag::of_tenant(tenant).to_string(),
        rate: tenant.rate.to_string(),
        quota: tenant.quota.to_string(),
        effective_limits: effective::limits(tenant, plans),
        effective_features: effective::features(tenant, plans),
    }
}

pub(in crate::admin) fn new_tenant(request: &pb::CreateTenantRequest) -> Result<NewTenant, Status> {
    let mut fields = Fields::default();
    let id = fields.take("tenant_id", TenantId::parse(&request.tenant_id));
    let mut wanted = request.tenant.clone().unwrap_or_default();
    if wanted.display_name.is_empty() {
        wanted.display_name.clone_from(&request.tenant_id);
    }
    // A bad id that became the display name is reported once, as the id.
    let display_name = match id {
        Some(_) => display_name(&mut fields, &wanted),
        None => None,
    };
    let plan = plan(&mut fields, &wanted);
    let features = features(&mut fields, "tenant.features", &wanted.features);
    let denied_features = features_denied(&mut fields, &wanted);
    let metadata = metadata(&mut fields, &wanted);
    let rate = rate(&mut fields, &wanted);
    let quota = quota(&mut fields, &wanted);
    let new = id.zip(display_name).map(|(id, display_name)| NewTenant {
        id,
        display_name,
        plan,
        features,
        denied_features,
        rate,
        quota,
        metadata,
    });
    fields.finish(new)
}

/// What an update sets; what is none stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct TenantChange {
    display_name: Option<DisplayName>,
    plan: Option<Option<PlanName>>,
    features: Option<BTreeSet<Feature>>,
    denied_features: Option<BTreeSet<Feature>>,
    rate: Option<Own<Rate>>,
    quota: Option<Own<Quota>>,
    metadata: Option<BTreeMap<MetadataName, Description>>,
}

/// What an update may name in its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    DisplayName,
    Plan,
    Features,
    DeniedFeatures,
    Rate,
    Quota,
    Metadata,
}

impl Field {
    const ALL: [Self; 7] = [
        Self::DisplayName,
        Self::Plan,
        Self::Features,
        Self::DeniedFeatures,
        Self::Rate,
        Self::Quota,
        Self::Metadata,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Plan => "plan",
            Self::Features => "features",
            Self::DeniedFeatures => "denied_features",
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::Metadata => "metadata",
        }
    }
}

impl TenantChange {
    /// The change that the mask names.
    pub(in crate::admin) fn parse(wanted: &pb::Tenant, mask: &[String]) -> Result<Self, Status> {
        let mut fields = Fields::default();
        let mut change = Self::default();
        for field in masked(&mut fields, mask, &Field::ALL, Field::name) {
            change.set(&mut fields, field, wanted);
        }
        fields.finish(Some(change))
    }

    fn set(&mut self, fields: &mut Fields, field: Field, wanted: &pb::Tenant) {
        match field {
            Field::DisplayName => self.display_name = display_name(fields, wanted),
            Field::Plan => self.plan = Some(plan(fields, wanted)),
            Field::Features => {
                self.features = Some(features(fields, "tenant.features", &wanted.features));
            }
            Field::DeniedFeatures => self.denied_features = Some(features_denied(fields, wanted)),
            Field::Rate => self.rate = Some(rate(fields, wanted)),
            Field::Quota => self.quota = Some(quota(fields, wanted)),
            Field::Metadata => self.metadata = Some(metadata(fields, wanted)),
        }
    }

    /// Makes the change.
    pub(in crate::admin) fn apply(&self, tenant: &mut Tenant) {
        let Self {
            display_name,
            plan,
            features,
            denied_features,
            rate,
            quota,
            metadata,
        } = self;
        put(&mut tenant.display_name, display_name.as_ref());
        put(&mut tenant.plan, plan.as_ref());
        put(&mut tenant.features, features.as_ref());
        put(&mut tenant.denied_features, denied_features.as_ref());
        put(&mut tenant.rate, rate.as_ref());
        put(&mut tenant.quota, quota.as_ref());
        put(&mut tenant.metadata, metadata.as_ref());
    }

    /// The fields that it sets, for the audit.
    pub(in crate::admin) fn note(&self) -> String {
        let set = Field::ALL.iter().filter(|field| self.sets(**field));
        set.map(|field| field.name()).collect::<Vec<_>>().join(", ")
    }

    fn sets(&self, field: Field) -> bool {
        match field {
            Field::DisplayName => self.display_name.is_some(),
            Field::Plan => self.plan.is_some(),
            Field::Features => self.features.is_some(),
            Field::DeniedFeatures => self.denied_features.is_some(),
            Field::Rate => self.rate.is_some(),
            Field::Quota => self.quota.is_some(),
            Field::Metadata => self.metadata.is_some(),
        }
    }
}

fn display_name(fields: &mut Fields, wanted: &pb::Tenant) -> Option<DisplayName> {
    fields.take(
        "tenant.display_name",
        DisplayName::parse(&wanted.display_name),
    )
}

fn plan(fields: &mut Fields, wanted: &pb::Tenant) -> Option<PlanName> {
    if wanted.plan.is_empty() {
        return None;
    }
    fields.take("tenant.plan", PlanName::parse(&wanted.plan))
}

fn features(fields: &mut Fields, field: &str, texts: &[String]) -> BTreeSet<Feature> {
    fields.set(field, texts, FEATURES_MAX, Feature::parse)
}

fn features_denied(fields: &mut Fields, wanted: &pb::Tenant) -> BTreeSet<Feature> {
    features(fields, "tenant.denied_features", &wanted.denied_features)
}

fn rate(fields: &mut Fields, wanted: &pb::Tenant) -> Own<Rate> {
    let parsed = Own::parse(&wanted.rate, Rate::parse);
    fields.take("tenant.rate", parsed).unwrap_or_default()
}

fn quota(fields: &mut Fields, wanted: &pb::Tenant) -> Own<Quota> {
    let parsed = Own::parse(&wanted.quota, Quota::parse);
    fields.take("tenant.quota", parsed).unwrap_or_default()
}

fn metadata(fields: &mut Fields, wanted: &pb::Tenant) -> BTreeMap<MetadataName, Description> {
    // A name that is refused is not repeated in the field's path: it may be hostile or huge.
    const FIELD: &str = "tenant.metadata";
    if wanted.metadata.len() > METADATA_MAX {
        fields.refuse(FIELD, format!("at most {METADATA_MAX} are allowed"));
        return BTreeMap::new();
    }
    let mut out = BTreeMap::new();
    for (name, value) in &wanted.metadata {
        let name = fields.take(FIELD, MetadataName::parse(name));
        let field = name
            .as_ref()
            .map_or_else(|| FIELD.into(), |name| format!("{FIELD}[{name}]"));
        let value = fields.take(field, Description::parse(value));
        out.extend(name.zip(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn bad_fields(status: &Status) -> Vec<String> {
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_details_bad_request().unwrap();
        details
            .field_violations
            .into_iter()
            .map(|violation| violation.field)
            .collect()
    }

    #[test]
    fn every_bad_field_of_a_new_tenant_is_named_at_once() {
        let request = pb::CreateTenantRequest {
            tenant_id: "acme".into(),
            tenant: Some(pb::Tenant {
                display_name: "a\u{202E}b".into(),
                plan: "Pro!".into(),
                features: texts(&["images", "no spaces"]),
                denied_features: vec!["x".into(); FEATURES_MAX + 1],
                metadata: [
                    ("Region".into(), "eu".into()),
                    ("tier".into(), "a\nb".into()),
                ]
                .into(),
                ..pb::Tenant::default()
            }),
            ..pb::CreateTenantRequest::default()
        };
        assert_eq!(
            bad_fields(&new_tenant(&request).unwrap_err()),
            [
                "tenant.display_name",
                "tenant.plan",
                "tenant.features[1]",
                "tenant.denied_features",
                "tenant.metadata",
                "tenant.metadata[tier]",
            ]
        );
    }

    #[test]
    fn a_hostile_tenant_id_is_refused_once_and_never_repeated() {
        for id in ["", "ACME", "аcme", "a/b", "a\u{0}", &"a".repeat(1 << 20)] {
            let request = pb::CreateTenantRequest {
                tenant_id: id.into(),
                ..pb::CreateTenantRequest::default()
            };
            let status = new_tenant(&request).unwrap_err();
            assert_eq!(bad_fields(&status), ["tenant_id"]);
            assert!(status.message().len() < 200);
        }
    }

    #[test]
    fn a_tenant_without_a_display_name_is_called_by_its_id() {
        let request = pb::CreateTenantRequest {
            tenant_id: "acme".into(),
            ..pb::CreateTenantRequest::default()
        };
        assert_eq!(new_tenant(&request).unwrap().display_name.as_str(), "acme");
    }

    #[test]
    fn resource_names_are_exact() {
        assert_eq!(
            tenant_name("name", "tenants/acme").unwrap().as_str(),
            "acme"
        );
        for bad in [
            "",
            "acme",
            "tenants/",
            "tenants/a/b",
            "/tenants/acme",
            "tenants/acme/",
            "Tenants/acme",
        ] {
            assert_eq!(
                bad_fields(&tenant_name("parent", bad).unwrap_err()),
                ["parent"],
                "{bad}"
            );
        }
    }

    #[test]
    fn a_mask_names_what_an_update_may_change_and_nothing_else() {
        let wanted = pb::Tenant {
            plan: "pro".into(),
            ..pb::Tenant::default()
        };
        let change = TenantChange::parse(&wanted, &texts(&["plan", "features"])).unwrap();
        assert_eq!(change.note(), "plan, features");
        assert_eq!(change.display_name, None);
        for (mask, bad) in [
            (&[][..], vec!["update_mask"]),
            (&["etag"], vec!["update_mask.paths[0]"]),
            (&["plan", "Plan"], vec!["update_mask.paths[1]"]),
            (&["*"], vec!["tenant.display_name"]),
            (&["plan"; 8], vec!["update_mask"]),
        ] {
            let refused = TenantChange::parse(&wanted, &texts(mask)).unwrap_err();
            assert_eq!(bad_fields(&refused), bad, "{mask:?}");
        }
    }
}
