//! The headers that carry the tenant's context, and what of a client's headers could pass for one.

/// Ends of the names under the tenant prefix that every allow sets or removes.
pub(super) const TENANT_NAMES: [&str; 6] =
    ["id", "name", "plan", "features", "rate-limit", "token"];
/// Where among them the signed token is.
pub(super) const TOKEN: usize = 5;
/// Ends of the names under the key prefix that every allow sets or removes.
pub(super) const KEY_NAMES: [&str; 3] = ["id", "owner", "scopes"];
/// Before the name of a metadata entry, under the tenant prefix.
pub(super) const METADATA: &str = "meta-";

/// The names of the reserved headers, made once.
#[derive(Clone, Debug)]
pub struct ReservedHeaders {
    tenant_prefix: String,
    key_prefix: String,
    tenant: [String; TENANT_NAMES.len()],
    key: [String; KEY_NAMES.len()],
    aliases: Vec<String>,
}

impl ReservedHeaders {
    /// The headers under these prefixes, which end in a dash.
    pub fn new(tenant_prefix: &str, key_prefix: &str) -> Self {
        let tenant = TENANT_NAMES.map(|name| format!("{tenant_prefix}{name}"));
        let key = KEY_NAMES.map(|name| format!("{key_prefix}{name}"));
        let aliases = tenant
            .iter()
            .chain(&key)
            .flat_map(|name| [underscored(name), with_other_signs(name)].concat())
            .collect();
        Self {
            tenant_prefix: tenant_prefix.into(),
            key_prefix: key_prefix.into(),
            tenant,
            key,
            aliases,
        }
    }

    pub(super) fn tenant(&self) -> &[String; TENANT_NAMES.len()] {
        &self.tenant
    }

    /// Whether it is the header of the signed context, spelled as we spell it.
    pub(super) fn is_token(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.tenant[TOKEN].as_bytes())
    }

    pub(super) fn key(&self) -> &[String; KEY_NAMES.len()] {
        &self.key
    }

    pub(super) fn metadata(&self, name: &str) -> String {
        format!("{}{METADATA}{name}", self.tenant_prefix)
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
}
