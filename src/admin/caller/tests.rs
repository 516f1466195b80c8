use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

fn caller(role: Role) -> Identity {
    Identity {
        role,
        credential: Credential::Key {
            tenant: TenantId::parse("acme").unwrap(),
            key: KeyId::parse("key00001").unwrap(),
            generation: 1,
            owner: Owner::parse("alice").unwrap(),
        },
    }
}

#[test]
fn each_role_reaches_what_the_design_gives_it_and_other_tenants_do_not_exist() {
    use Permission::{Global, OwnKeys, OwnTenant};
    use Role::{GlobalAdmin, TenantAdmin, User};
    let own = TenantId::parse("acme").unwrap();
    let other = TenantId::parse("evil").unwrap();
    let (ok, denied, hidden) = (None, Some(Code::PermissionDenied), Some(Code::NotFound));
    for (role, permission, on_own, on_other, on_none) in [
        (User, OwnKeys, ok, hidden, ok),
        (User, OwnTenant, denied, hidden, denied),
        (User, Global, denied, hidden, denied),
        (TenantAdmin, OwnKeys, ok, hidden, ok),
        (TenantAdmin, OwnTenant, ok, hidden, ok),
        (TenantAdmin, Global, denied, hidden, denied),
        (GlobalAdmin, OwnKeys, ok, ok, ok),
        (GlobalAdmin, OwnTenant, ok, ok, ok),
        (GlobalAdmin, Global, ok, ok, ok),
    ] {
        for (tenant, expected) in [
            (Some(&own), on_own),
            (Some(&other), on_other),
            (None, on_none),
        ] {
            let code = require(&caller(role), permission, tenant)
                .err()
                .map(|status| status.code());
            assert_eq!(code, expected, "{role:?} {permission:?} {tenant:?}");
        }
    }
}

#[test]
fn a_hidden_tenant_reads_like_one_that_does_not_exist() {
    let other = TenantId::parse("evil").unwrap();
    let hidden = require(&caller(Role::User), Permission::OwnKeys, Some(&other)).unwrap_err();
    let absent =
        status::from_registry("key")(crate::registry::RegistryError::NotFound { what: "tenant" });
    assert_eq!(
        (hidden.code(), hidden.message(), hidden.details()),
        (absent.code(), absent.message(), absent.details())
    );
}

#[test]
fn at_most_one_credential_is_taken() {
    let invalid = Err("INVALID_API_KEY");
    let ambiguous = Err("AMBIGUOUS_REQUEST");
    for (pairs, expected) in [
        (&[][..], Ok("")),
        (&[("authorization", "Bearer k1")], Ok("k1")),
        (&[("authorization", "bEaReR  k1")], Ok("k1")),
        (&[("x-api-key", "k1")], Ok("k1")),
        (&[("authorization", "Basic k1")], invalid),
        (&[("authorization", "k1")], invalid),
        (&[("authorization", "Bearer")], invalid),
        (
            &[("authorization", "Bearer k1"), ("x-api-key", "k1")],
            ambiguous,
        ),
        (
            &[
                ("authorization", "Bearer k1"),
                ("authorization", "Bearer k1"),
            ],
            ambiguous,
        ),
        (&[("x-api-key", "k1"), ("x-api-key", "k2")], ambiguous),
    ] {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.append(*name, value.parse().unwrap());
        }
        let found = credential(&metadata).map(|token| {
            std::str::from_utf8(token.unwrap_or_default())
                .unwrap()
                .to_owned()
        });
        let found = found.map_err(|status| {
            status
                .get_error_details()
                .error_info()
                .unwrap()
                .reason
                .clone()
        });
        assert_eq!(
            found.as_ref().map(String::as_str).map_err(String::as_str),
            expected,
            "{pairs:?}"
        );
    }
}
