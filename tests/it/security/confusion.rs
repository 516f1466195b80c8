//! A tenant has one name. What looks like it, or becomes it for a careless reader, is another's or nobody's.

use keystile::proto::admin as pb;
use tonic::Code;

use super::{keys, make, root, tenants};
use crate::rest::{KEYS, LIMITS, PLACE, ask, check_refused, send};

/// Spellings of `acme`, as UTF-8.
const ALIKE: &[&str] = &[
    "ACME",
    "Acme",
    "acmE",
    "acme.",
    "acme..",
    ".acme",
    "acme/",
    "/acme",
    "acme ",
    " acme",
    "\u{a0}acme",
    "acme\0",
    "acme\t",
    "acme\n",
    "acme%00",
    "%61cme",
    "acme%20",
    "acme%2e",
    "acme?",
    "acme#",
    "acme;",
    "acme:443",
    "acme@globex",
    "acme,globex",
    "acme\\",
    "./acme",
    "../acme",
    "globex/../acme",
    "tenants/acme",
    // Cyrillic, Greek, fullwidth, mathematical, with a mark, with a soft hyphen, a joiner, a direction mark.
    "\u{430}cme",
    "\u{430}\u{441}m\u{435}",
    "ａｃｍｅ",
    "𝐚𝐜𝐦𝐞",
    "ac\u{301}me",
    "a\u{ad}cme",
    "ac\u{200d}me",
    "\u{202e}emca",
    "acme\u{feff}",
    "acmé",
    "ⓐⓒⓜⓔ",
    "acme\u{3002}",
    "acme\u{ff0e}",
    "-",
    "*",
    "%",
    "_",
    "",
    "acme*",
    "acm_",
    "acm?",
    "null",
    "undefined",
    "0",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn rest_knows_a_tenant_by_its_one_name() {
    for alike in ALIKE {
        for spelled in [encoded(alike), encoded(alike).to_uppercase()] {
            for endpoint in [KEYS, LIMITS] {
                let path = format!("{endpoint}?tenant_id={spelled}");
                for token in [&PLACE.admin, root()] {
                    check_refused(ask("GET", &path, token, None), 404, "TENANT_NOT_FOUND");
                }
            }
        }
    }
    for query in [
        "tenant_id=acme&tenant_id=globex",
        "tenant_id=globex&tenant_id=acme",
        "tenant_id=acme&tenant%5fid=globex",
        "tenant_id[]=globex",
        "tenantId=globex",
        "TENANT_ID=globex",
        "tenant_id=acme;tenant_id=globex&x",
    ] {
        let path = format!("{KEYS}?{query}");
        check_refused(
            ask("GET", &path, &PLACE.admin, None),
            400,
            "MALFORMED_REQUEST",
        );
    }
    for same in ["acme", &encoded("acme")] {
        let path = format!("{KEYS}?tenant_id={same}");
        assert_eq!(ask("GET", &path, &PLACE.admin, None).0.status, 200);
    }
    // And no header says which.
    let (token, other) = (&PLACE.admin, "x-tenant-id: globex\r\nhost: globex.example");
    let bytes = format!(
        "GET {KEYS} HTTP/1.1\r\n{other}\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(send(bytes.as_bytes()).1, ask("GET", KEYS, token, None).1);
}

/// Never what the right name gets; and nobody can take a name that could be mistaken for another.
#[tokio::test]
async fn an_rpc_knows_a_tenant_by_its_one_name() {
    let right = "tenants/acme".to_owned();
    let (key, _) = make("acme", "confused", pb::Role::User).await;
    for alike in ALIKE {
        for token in [&PLACE.admin, root()] {
            for name in [
                format!("tenants/{alike}"),
                (*alike).to_owned(),
                format!("TENANTS/{alike}"),
            ] {
                if name == right {
                    continue;
                }
                let get = pb::GetTenantRequest { name: name.clone() };
                let code = tenants(token).get_tenant(get).await.unwrap_err().code();
                let expected = matches!(code, Code::InvalidArgument | Code::NotFound);
                assert!(expected, "{name:?}: {code:?}");
                let get = pb::GetKeyRequest {
                    name: format!("{name}/keys/{}", key.key_id),
                };
                let code = keys(token).get_key(get).await.unwrap_err().code();
                let expected = matches!(code, Code::InvalidArgument | Code::NotFound);
                assert!(expected, "{name:?}: {code:?}");
            }
        }
        let request = pb::CreateTenantRequest {
            tenant_id: (*alike).into(),
            ..pb::CreateTenantRequest::default()
        };
        // These are names like any other.
        let plain = ["null", "undefined", "0"].contains(alike);
        let made = tenants(root()).create_tenant(request).await;
        let code = made.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = if plain {
            Code::Ok
        } else {
            Code::InvalidArgument
        };
        assert_eq!(code, expected, "{alike:?}");
        if plain {
            super::delete(alike).await;
        }
    }
    let get = pb::GetTenantRequest { name: right };
    let found = tenants(root()).get_tenant(get).await.unwrap();
    assert_eq!(found.into_inner().tenant_id, "acme");
}

/// The key of one tenant is not found under the name of another, even by who may see both.
#[tokio::test]
async fn a_key_is_found_in_its_own_tenant_alone() {
    let (key, _) = make("acme", "here", pb::Role::User).await;
    let name = |tenant: &str| format!("tenants/{tenant}/keys/{}", key.key_id);
    for tenant in ["globex", "platform"] {
        let get = pb::GetKeyRequest { name: name(tenant) };
        let status = keys(root()).get_key(get).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{tenant}");
        let revoke = pb::RevokeKeyRequest {
            name: name(tenant),
            ..pb::RevokeKeyRequest::default()
        };
        let status = keys(root()).revoke_key(revoke).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{tenant}");
    }
    let get = pb::GetKeyRequest { name: name("acme") };
    let found = keys(root()).get_key(get).await.unwrap().into_inner();
    assert_eq!(found.state(), pb::KeyState::Active);
}
