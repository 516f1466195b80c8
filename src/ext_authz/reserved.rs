//! The headers that carry the tenant's context, and what of a client's headers could pass for one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::cache::{CachedKey, Found};
use crate::domain::access::TenantAccess;
use crate::domain::name::Feature;

use Prefix::{Key, Tenant};

/// Long enough for 64 features; far below the 60 KiB that Envoy allows for all headers.
const VALUE_LEN_MAX: usize = 8 * 1024;
/// What is not visible ASCII, and the sign that the encoding itself uses.
const NOT_VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// Before the name of a metadata entry, under the tenant prefix.
const METADATA: &str = "meta-";

/// The configured prefix that a name begins with.
#[derive(Clone, Copy)]
enum Prefix {
    Tenant,
    Key,
}

/// Where the value of a reserved header comes from.
#[derive(Clone, Copy)]
enum Value {
    /// From the tenant, as the key sees it. Such headers are rendered once a tenant.
    OfTenant(for<'a> fn(TenantView<'a>) -> Option<Cow<'a, str>>),
    /// From the key.
    OfKey(for<'a> fn(&'a CachedKey) -> Option<Cow<'a, str>>),
    /// The signed token, made for this request.
    Token,
}
use Value::{OfKey, OfTenant, Token};

/// Every reserved header but the tenant's metadata: its name after the prefix and its value. From this list follows
/// what is set, what is removed and what counts as forged.
const RESERVED: [(Prefix, &str, Value); 9] = [
    (
        Tenant,
        "id",
        OfTenant(|of| Some(of.tenant.id.as_str().into())),
    ),
    (
        Tenant,
        "name",
        OfTenant(|of| Some(sanitise(of.tenant.display_name.as_str()))),
    ),
    (
        Tenant,
        "plan",
        OfTenant(|of| Some(of.tenant.plan.as_ref()?.as_str().into())),
    ),
    (
        Tenant,
        "features",
        OfTenant(|of| Some(of.joined_features()?.into())),
    ),
    (
        Tenant,
        "rate-limit",
        OfTenant(|of| Some(of.rate_limit()?.into())),
    ),
    (Tenant, "token", Token),
    (Key, "id", OfKey(|key| Some(key.key().into()))),
    (Key, "owner", OfKey(|key| Some(key.owner().into()))),
    (
        Key,
        "scopes",
        OfKey(|key| (!key.scopes().is_empty()).then(|| sanitise(key.scopes()))),
    ),
];

/// A tenant as one of its keys sees it.
#[derive(Clone, Copy)]
pub(super) struct TenantView<'a> {
    pub(super) tenant: &'a TenantAccess,
    /// The features that the key does not give up, if it gives up any.
    narrowed_to: Option<&'a BTreeSet<Feature>>,
}

impl<'a> TenantView<'a> {
    /// As a key sees it that gives up nothing.
    pub(super) fn whole(tenant: &'a TenantAccess) -> Self {
        Self {
            tenant,
            narrowed_to: None,
        }
    }

    pub(super) fn of(found: &'a Found) -> Self {
        Self {
            tenant: found.tenant.access(),
            narrowed_to: found.key.features(),
        }
    }

    pub(super) fn features(self) -> impl Iterator<Item = &'a Feature> + use<'a> {
        let narrowed_to = self.narrowed_to;
        let is_kept =
            move |feature: &&Feature| narrowed_to.is_none_or(|kept| kept.contains(*feature));
        self.tenant.features.iter().filter(is_kept)
    }

    fn joined_features(self) -> Option<String> {
        let names: Vec<_> = self.features().map(Feature::as_str).collect();
        (!names.is_empty()).then(|| sanitise(&names.join(",")).into_owned())
    }

    fn rate_limit(self) -> Option<String> {
        let rate = self.tenant.limits.rate?;
        Some(format!("{}/{}", rate.amount(), rate.period().as_str()))
    }
}

/// A reserved header: its name, and its value unless there is nothing to say.
pub(super) type Header<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The names of the reserved headers, made once.
#[derive(Clone)]
pub struct ReservedHeaders {
    tenant_prefix: String,
    key_prefix: String,
    headers: Vec<(String, Value)>,
    aliases: Vec<String>,
}

impl fmt::Debug for ReservedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl ReservedHeaders {
    /// The headers under these prefixes, which end in a dash.
    pub fn new(tenant_prefix: &str, key_prefix: &str) -> Self {
        let headers = RESERVED.map(|(prefix, name, value)| {
            let prefix = match prefix {
                Tenant => tenant_prefix,
                Key => key_prefix,
            };
            (format!("{prefix}{name}"), value)
        });
        let aliases = headers
            .iter()
            .flat_map(|(name, _)| [underscored(name), with_other_signs(name)].concat())
            .collect();
        Self {
            tenant_prefix: tenant_prefix.into(),
            key_prefix: key_prefix.into(),
            headers: headers.into(),
            aliases,
        }
    }

    /// The names that every allow sets or removes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// Every reserved header of a request with a key.
    pub(super) fn all<'a>(
        &'a self,
        found: &'a Found,
        token: Option<&'a str>,
    ) -> impl Iterator<Item = Header<'a>> {
        self.of_tenant(TenantView::of(found))
            .chain(self.of_request(&found.key, token))
    }

    /// Those that depend on the tenant, and on what its key gives up, alone.
    pub(super) fn of_tenant<'a>(
        &'a self,
        view: TenantView<'a>,
    ) -> impl Iterator<Item = Header<'a>> {
        let headers = self
            .headers
            .iter()
            .filter_map(move |(name, value)| match value {
                OfTenant(read) => Some((name.into(), read(view))),
                OfKey(_) | Token => None,
            });
        let metadata = view.tenant.metadata.iter().map(|(name, value)| {
            let value = Some(value.as_str()).filter(|value| !value.is_empty());
            let name = format!("{}{METADATA}{}", self.tenant_prefix, name.as_str());
            (name.into(), value.map(sanitise))
        });
        headers.chain(metadata)
    }

    /// The others.
    pub(super) fn of_request<'a>(
        &'a self,
        key: &'a CachedKey,
        token: Option<&'a str>,
    ) -> impl Iterator<Item = Header<'a>> {
        self.headers
            .iter()
            .filter_map(move |(name, value)| match value {
                OfTenant(_) => None,
                OfKey(read) => Some((name.into(), read(key))),
                Token => Some((name.into(), token.map(Cow::from))),
            })
    }

    /// Whether it is the header of the signed context, spelled as we spell it.
    pub(super) fn is_token(&self, name: &[u8]) -> bool {
        let is_it = |(own, value): &(String, Value)| {
            matches!(value, Token) && name.eq_ignore_ascii_case(own.as_bytes())
        };
        self.headers.iter().any(is_it)
    }

    /// The fixed names in every spelling with underscores, and with each other sign throughout. Needed where Envoy hides the client's headers from us.
    pub(super) fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Whether an upstream could take a client's header of this name for one of ours: CGI and WSGI make
    /// `_` and `-` the same, others do so with every sign, and case does not count.
    pub(super) fn covers(&self, name: &[u8]) -> bool {
        [&self.tenant_prefix, &self.key_prefix]
            .into_iter()
            .any(|prefix| {
                name.get(..prefix.len())
                    .is_some_and(|start| same_header(start, prefix.as_bytes()))
            })
    }
}

/// A value that is safe in a header: visible ASCII, everything else percent-encoded, of bounded length.
fn sanitise(value: &str) -> Cow<'_, str> {
    let encoded: Cow<'_, str> = utf8_percent_encode(value, NOT_VISIBLE).into();
    if encoded.len() <= VALUE_LEN_MAX {
        return encoded;
    }
    // Cut at an item's end, so that no part of a name passes for a name.
    let end = encoded[..VALUE_LEN_MAX].rfind(',').unwrap_or(0);
    Cow::Owned(encoded[..end].to_owned())
}

/// Whether two header names are the same to a lenient reader: one who makes a variable of a name has one sign for all
/// that is no letter and no digit.
pub(super) fn same_header(a: &[u8], b: &[u8]) -> bool {
    let fold = |byte: &u8| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    };
    a.len() == b.len() && a.iter().map(fold).eq(b.iter().map(fold))
}

/// All ways to write a name with at least one underscore for a dash.
fn underscored(name: &str) -> Vec<String> {
    let dashes: Vec<usize> = name.match_indices('-').map(|(at, _)| at).collect();
    let spelling = |choice: u32| {
        let mut bytes = name.as_bytes().to_vec();
        for (bit, at) in dashes.iter().enumerate() {
            if choice & (1 << bit) != 0 {
                bytes[*at] = b'_';
            }
        }
        String::from_utf8(bytes).ok()
    };
    // Prefixes may have many dashes; beyond five only the spelling without any dash is listed.
    if dashes.len() > 5 {
        return vec![name.replace('-', "_")];
    }
    (1..1_u32 << dashes.len()).filter_map(spelling).collect()
}

/// The name with each sign that a header name may have besides (RFC 9110 section 5.6.2) in place of all dashes.
fn with_other_signs(name: &str) -> Vec<String> {
    let signs = "!#$%&'*+.^`|~".chars();
    signs
        .map(|sign| name.replace('-', sign.encode_utf8(&mut [0; 4])))
        .collect()
}

/// Whether a header may be set at all: never one that frames the message or belongs to one hop (RFC 9110
/// section 7.6.1), whatever a configuration or a metadata name says.
pub(super) fn is_settable(name: &str) -> bool {
    const NEVER: [&str; 16] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !NEVER.contains(&name)
        && !name.starts_with("x-envoy-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::DisplayName;

    #[test]
    fn what_a_lenient_upstream_would_merge_is_covered() {
        let headers = ReservedHeaders::new("x-tenant-", "x-api-key-");
        for name in [
            "x-tenant-id",
            "x_tenant_id",
            "X-Tenant_Evil",
            "x-tenant-",
            "x-api-key-id",
            "x_api-key_scopes",
            "x.tenant.id",
            "x!tenant!id",
            "x~tenant~id",
            "x.Tenant-meta~level",
            "x*tenant+id",
            "x|api^key`id",
        ] {
            assert!(headers.covers(name.as_bytes()), "{name}");
        }
        for name in [
            "x-tenant",
            "x-api-key",
            "x_api_key",
            "tenant-id",
            "x-tenants-id",
            "x--tenant-id",
            "xtenantid",
            "",
        ] {
            assert!(!headers.covers(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_underscore_spelling_is_listed() {
        let mut spellings = underscored("x-tenant-id");
        spellings.sort();
        assert_eq!(spellings, ["x-tenant_id", "x_tenant-id", "x_tenant_id"]);
    }

    #[test]
    fn framing_and_hop_by_hop_headers_can_never_be_set() {
        assert!(is_settable("x-tenant-id") && is_settable("cookie"));
        for name in [
            "connection",
            "content-length",
            "transfer-encoding",
            "host",
            ":path",
            "x-envoy-x",
            "X-Up",
            "",
            "a b",
        ] {
            assert!(!is_settable(name), "{name}");
        }
    }

    #[test]
    fn values_are_visible_ascii_of_bounded_length() {
        let name = DisplayName::parse("Ünï 100%").unwrap();
        assert_eq!(sanitise(name.as_str()), "%C3%9Cn%C3%AF%20100%25");
        assert_eq!(sanitise("a\r\nx: y"), "a%0D%0Ax:%20y");
        let list = vec!["f".repeat(63); 200].join(",");
        let cut = sanitise(&list);
        assert!(
            cut.len() <= VALUE_LEN_MAX
                && cut.ends_with('f')
                && cut.split(',').all(|item| item.len() == 63)
        );
    }
}
