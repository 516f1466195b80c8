//! Filters of lists: the part of AIP-160 that we support, and the errors for the rest.

use tonic::Status;

use crate::admin::convert::bad;
use crate::domain::name::Owner;
use crate::proto::admin as pb;

/// The longest filter, in bytes.
const LEN_MAX: usize = 512;
/// The most comparisons.
const COMPARISONS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Has,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparison {
    field: String,
    operator: Operator,
    value: String,
}

/// Something that a list can be filtered by.
pub(super) trait Filtered {
    /// What may be compared, in words.
    const SUPPORTED: &'static str;

    /// A value of the field as `filter` writes it, made comparable; none when there is no such field or value.
    fn parse(field: &str, value: &str) -> Option<Wanted>;

    /// Whether the field has the value.
    fn has(&self, wanted: &Wanted) -> bool;
}

/// A field with the value to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    State(i32),
    Role(i32),
    AdminAccess(i32),
    Kind(i32),
    Owner(String),
    DisplayName(String),
    Id(String),
    Plan(String),
    Scope(String),
    Feature(String),
}

impl Wanted {
    /// Whether the field holds many values, to be asked with `:`.
    fn is_list(&self) -> bool {
        matches!(self, Self::Scope(_) | Self::Feature(_))
    }
}

/// A filter that was understood.
#[derive(Clone, Debug)]
pub(super) struct Filter(Vec<(Wanted, bool)>);

impl Filter {
    /// Understands a filter, or says what would be.
    pub(super) fn parse<T: Filtered>(text: &str) -> Result<Self, Status> {
        let refused =
            |problem: &str| bad("filter", format!("{problem}; supported: {}", T::SUPPORTED));
        if text.len() > LEN_MAX {
            return Err(refused("is longer than 512 bytes"));
        }
        let comparisons = comparisons(text).map_err(refused)?;
        let mut tests = Vec::with_capacity(comparisons.len());
        for comparison in comparisons {
            let wanted = T::parse(&comparison.field, &comparison.value)
                .ok_or_else(|| refused("has a field or a value that is not known"))?;
            if wanted.is_list() != (comparison.operator == Operator::Has) {
                return Err(refused("has an operator that does not fit its field"));
            }
            tests.push((wanted, comparison.operator != Operator::NotEqual));
        }
        Ok(Self(tests))
    }

    /// Whether everything passes.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The owner that an item must have to pass, if the filter names one. What is no owner's name, none has.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.0.iter().find_map(|test| match test {
            (Wanted::Owner(owner), true) => Owner::parse(owner).ok(),
            _ => None,
        })
    }

    /// Whether the item passes.
    pub(super) fn passes<T: Filtered>(&self, item: &T) -> bool {
        self.0
            .iter()
            .all(|(wanted, expected)| item.has(wanted) == *expected)
    }
}

impl Filtered for pb::Key {
    const SUPPORTED: &'static str = "`state`, `role`, `admin_access`, `kind`, `owner`, `display_name` and `key_id` with = or !=, \
                                     `scopes` with :, joined by AND, for example state = ACTIVE AND owner = \"alice\"";

    fn parse(field: &str, value: &str) -> Option<Wanted> {
        let text = || value.to_owned();
        Some(match field {
            "state" => {
                Wanted::State(of_enum("KEY_STATE_", value, pb::KeyState::from_str_name)?.into())
            }
            "role" => Wanted::Role(of_enum("ROLE_", value, pb::Role::from_str_name)?.into()),
            "admin_access" => {
                let named = of_enum("ADMIN_ACCESS_", value, pb::AdminAccess::from_str_name);
                Wanted::AdminAccess(named?.into())
            }
            "kind" => Wanted::Kind(of_enum("KEY_KIND_", value, pb::KeyKind::from_str_name)?.into()),
            "owner" => Wanted::Owner(text()),
            "display_name" => Wanted::DisplayName(text()),
            "key_id" => Wanted::Id(text()),
            "scopes" => Wanted::Scope(text()),
            _ => return None,
        })
    }

    fn has(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::State(state) => self.state == *state,
            Wanted::Role(role) => self.role == *role,
            Wanted::AdminAccess(access) => self.admin_access == *access,
            Wanted::Kind(kind) => self.kind == *kind,
            Wanted::Owner(owner) => self.owner == *owner,
            Wanted::DisplayName(name) => self.display_name == *name,
            Wanted::Id(id) => self.key_id == *id,
            Wanted::Scope(scope) => self.scopes.contains(scope),
            Wanted::Plan(_) | Wanted::Feature(_) => false,
        }
    }
}

impl Filtered for pb::Tenant {
    const SUPPORTED: &'static str = "`state`, `plan`, `display_name` and `tenant_id` with = or !=, `features` with :, \
                                     joined by AND, for example state = ACTIVE AND plan = pro";

    fn parse(field: &str, value: &str) -> Option<Wanted> {
        let text = || value.to_owned();
        Some(match field {
            "state" => Wanted::State(
                of_enum("TENANT_STATE_", value, pb::TenantState::from_str_name)?.into(),
            ),
            "plan" => Wanted::Plan(text()),
            "display_name" => Wanted::DisplayName(text()),
            "tenant_id" => Wanted::Id(text()),
            "features" => Wanted::Feature(text()),
            _ => return None,
        })
    }

    fn has(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::State(state) => self.state == *state,
            Wanted::Plan(plan) => self.plan == *plan,
            Wanted::DisplayName(name) => self.display_name == *name,
            Wanted::Id(id) => self.tenant_id == *id,
            Wanted::Feature(feature) => self.features.contains(feature),
            Wanted::Role(_)
            | Wanted::AdminAccess(_)
            | Wanted::Kind(_)
            | Wanted::Owner(_)
            | Wanted::Scope(_) => false,
        }
    }
}

/// The value of an enum by its name, with or without the prefix. The unspecified one is never sent: refused.
fn of_enum<E: Default + PartialEq>(
    prefix: &str,
    value: &str,
    parse: impl Fn(&str) -> Option<E>,
) -> Option<E> {
    let short = value.strip_prefix(prefix).unwrap_or(value);
    parse(&format!("{prefix}{short}")).filter(|value| *value != E::default())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
    Operator(Operator),
}

fn comparisons(text: &str) -> Result<Vec<Comparison>, &'static str> {
    const FORM: &str = "must be comparisons joined by AND";
    let mut words = words(text)?.into_iter();
    let mut out = Vec::new();
    let mut next = words.next();
    while let Some(first) = next {
        let (Word::Bare(field), Some(Word::Operator(operator))) = (first, words.next()) else {
            return Err(FORM);
        };
        let (Some(Word::Bare(value)) | Some(Word::Quoted(value))) = words.next() else {
            return Err(FORM);
        };
        out.push(Comparison {
            field,
            operator,
            value,
        });
        if out.len() > COMPARISONS_MAX {
            return Err("has more than 8 comparisons");
        }
        next = match words.next() {
            None => None,
            Some(Word::Bare(and)) if and == "AND" => Some(words.next().ok_or(FORM)?),
            Some(_) => return Err(FORM),
        };
    }
    Ok(out)
}

fn words(text: &str) -> Result<Vec<Word>, &'static str> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        words.push(match first {
            ' ' => continue,
            '=' => Word::Operator(Operator::Equal),
            ':' => Word::Operator(Operator::Has),
            '!' if chars.next_if_eq(&'=').is_some() => Word::Operator(Operator::NotEqual),
            '"' => Word::Quoted(quoted(&mut chars)?),
            first if is_bare(first) => {
                let mut word = String::from(first);
                while let Some(more) = chars.next_if(|more| is_bare(*more)) {
                    word.push(more);
                }
                Word::Bare(word)
            }
            _ => return Err("has a character that must stand in quotes"),
        });
    }
    Ok(words)
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.@+/|".contains(c)
}

/// What follows an opening quote, up to the closing one. A backslash takes the next character as it is.
fn quoted(chars: &mut impl Iterator<Item = char>) -> Result<String, &'static str> {
    let mut out = String::new();
    while let Some(next) = chars.next() {
        match next {
            '"' => return Ok(out),
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    Err("has a quote that does not end")
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn key() -> pb::Key {
        pb::Key {
            key_id: "abcd2345".into(),
            owner: "alice@example.com".into(),
            display_name: "the \"big\" one".into(),
            state: pb::KeyState::Active.into(),
            role: pb::Role::TenantAdmin.into(),
            kind: pb::KeyKind::Live.into(),
            scopes: vec!["read".into(), "a:b".into()],
            ..pb::Key::default()
        }
    }

    #[test]
    fn a_filter_passes_what_all_its_comparisons_fit() {
        for (filter, passes) in [
            ("", true),
            ("   ", true),
            ("state = ACTIVE", true),
            ("state=KEY_STATE_ACTIVE", true),
            ("state != ACTIVE", false),
            ("role = TENANT_ADMIN AND kind != TEST", true),
            ("owner = alice@example.com", true),
            ("owner = \"alice@example.com\" AND state = REVOKED", false),
            (r#"display_name = "the \"big\" one""#, true),
            ("key_id = abcd2345", true),
            ("scopes:read AND scopes:\"a:b\"", true),
            ("scopes:write", false),
        ] {
            let parsed = Filter::parse::<pb::Key>(filter).unwrap();
            assert_eq!(parsed.passes(&key()), passes, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_is_not_supported_is_refused_and_told_what_is() {
        let long = format!("owner = \"{}\"", "x".repeat(1 << 20));
        let many = ["state = ACTIVE"; 9].join(" AND ");
        for filter in [
            "state",
            "state =",
            "= ACTIVE",
            "state ACTIVE",
            "state = ACTIVE AND",
            "state = ACTIVE OR state = REVOKED",
            "state = ACTIVE state = ACTIVE",
            "NOT state = ACTIVE",
            "(state = ACTIVE)",
            "state > ACTIVE",
            "state ! ACTIVE",
            "state = UNSPECIFIED",
            "state = active",
            "state = 1",
            "plan = pro",
            "scopes = read",
            "owner:alice",
            "owner = \"alice",
            "owner = *",
            "token = x",
            "owner = \u{202E}",
            "owner\t= x",
            "\0",
            many.as_str(),
            long.as_str(),
        ] {
            let refused = Filter::parse::<pb::Key>(filter).unwrap_err();
            let details = refused.get_details_bad_request().unwrap();
            assert_eq!(details.field_violations[0].field, "filter", "{filter:.60}");
            let message = refused.message();
            assert!(message.contains("supported: `state`"), "{message}");
            assert!(message.len() < 400, "{message}");
        }
    }

    #[test]
    fn tenants_have_their_own_fields() {
        let tenant = pb::Tenant {
            tenant_id: "acme".into(),
            plan: "pro".into(),
            state: pb::TenantState::Suspended.into(),
            features: vec!["images".into()],
            ..pb::Tenant::default()
        };
        for (filter, passes) in [
            ("state = SUSPENDED AND plan = pro AND features:images", true),
            ("tenant_id != acme", false),
            ("display_name = \"\"", true),
        ] {
            let parsed = Filter::parse::<pb::Tenant>(filter).unwrap();
            assert_eq!(parsed.passes(&tenant), passes, "{filter}");
        }
        assert!(Filter::parse::<pb::Tenant>("owner = alice").is_err());
    }
}
