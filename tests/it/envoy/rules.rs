//! What a route asks for by its context extensions (DESIGN 3.4).

use super::world::World;

#[test]
fn a_route_gets_what_its_context_extensions_ask_for() {
    super::check(TABLE);
    let log = World::get().instance("default").keystile.log();
    for part in [
        "context extensions are not understood",
        "the mode is off and keystile.",
    ] {
        assert!(log.contains(part), "{part} is not in the log:\n{log}");
    }
}

const TABLE: &str = r#"
an optional route without a key                          | default | GET /optional                                                 | 200 ; anonymous
an optional route with a key                             | default | GET /optional ; x-api-key: {live}                             | 200 ; up x-tenant-id: acme ; up no x-api-key
an optional route with an empty key                      | default | GET /optional ; x-api-key:                                    | 200 ; anonymous
an optional route with a bad key                         | default | GET /optional ; x-api-key: nonsense                           | 401 invalid_api_key
an optional route with an unknown key                    | default | GET /optional ; x-api-key: {stranger}                         | 401 invalid_api_key
an optional route with two keys                          | default | GET /optional ; x-api-key: {live} ; x-api-key: {second}       | 400 ambiguous_request
an optional route with an expired key                    | default | GET /optional ; x-api-key: {expired}                          | 401 api_key_expired
an optional route with the key of a suspended tenant     | default | GET /optional ; x-api-key: {frozen}                           | 403 tenant_suspended
an optional route that asks for a feature, with no key   | default | GET /optional-export                                          | 401 missing_api_key
an optional route that asks for a feature, without it    | default | GET /optional-export ; x-api-key: {live}                      | 403 feature_not_enabled
a route that is off without a key                        | default | GET /off                                                      | 200 ; anonymous
a route that is off with a key keeps it to itself        | default | GET /off ; x-api-key: {live}                                  | 200 ; anonymous ; up no x-api-key
a route that is off with a bad key                       | default | GET /off ; x-api-key: nonsense                                | 200 ; anonymous ; up no x-api-key
a route that is off does not judge a suspended tenant    | default | GET /off ; x-api-key: {frozen}                                | 200 ; anonymous ; up no x-api-key
a mode with a typo protects                              | default | GET /mode-typo                                                | 503 authorization_unavailable
a mode with a typo protects where Envoy lets errors pass | open    | GET /mode-typo                                                | 503 authorization_unavailable
a demand with a typo is not a demand dropped             | default | GET /rule-typo ; x-api-key: {live}                            | 503 authorization_unavailable
another installation's bearer token stays on an off route | default | GET /off ; authorization: Bearer a.b.c                        | 200 ; up authorization: Bearer a.b.c
a bearer key on a route that is off goes no further      | default | GET /off ; authorization: Bearer {live}                       | 200 ; anonymous ; up no authorization
basic credentials on a route that is off stay            | default | GET /off ; authorization: Basic dTpw                          | 200 ; up authorization: Basic dTpw
a feature of the plan                                    | default | GET /images ; x-api-key: {live}                               | 200 ; up x-tenant-id: acme
a feature of the tenant's own                            | default | GET /reports ; x-api-key: {live}                              | 200 ; up x-tenant-id: acme
two features, both there                                 | default | GET /both ; x-api-key: {live}                                 | 200 ; up x-tenant-id: acme
two features, one missing                                | default | GET /half ; x-api-key: {live}                                 | 403 feature_not_enabled ; says export
a plan's feature for a tenant without a plan             | default | GET /images ; x-api-key: {bare}                               | 403 feature_not_enabled ; says images
a feature is asked after the key                         | default | GET /export                                                   | 401 missing_api_key
a client cannot claim a feature                          | default | GET /export ; x-api-key: {live} ; x-tenant-features: export   | 403 feature_not_enabled
a scope that the key has                                 | default | GET /read ; x-api-key: {reader}                               | 200 ; up x-api-key-scopes: read
two scopes, both there                                   | default | GET /change ; x-api-key: {live}                               | 200 ; up x-api-key-scopes: read,write
a scope for a key without any                            | default | GET /read ; x-api-key: {second}                               | 403 scope_not_granted ; says read
a virtual host that is off, a route that asks for a scope | default | GET /read ; host: off.test                                    | 503 authorization_unavailable
the same where Envoy lets errors pass                    | open    | GET /read ; host: off.test                                    | 503 authorization_unavailable
the same with a key that has the scope                   | default | GET /read ; host: off.test ; x-api-key: {reader}              | 503 authorization_unavailable
a virtual host that is off, a route that asks for a feature | default | GET /images ; host: off.test                                | 503 authorization_unavailable
a route that is off and has its price                    | default | GET /contradiction                                            | 503 authorization_unavailable
a virtual host that is off, a route without a price      | default | GET /free ; host: off.test                                    | 200 ; anonymous
a virtual host that is off                               | default | GET /other ; host: off.test                                   | 200 ; anonymous
a virtual host that is off, a route that has its own mode | default | GET /optional-export ; host: off.test                        | 401 missing_api_key
extensions of another product mean nothing here          | default | GET /other ; x-api-key: {live}                                | 200 ; up x-tenant-id: acme
extensions of another product do not open a route        | default | GET /other                                                    | 401 missing_api_key
a feature over the Unix socket                           | socket  | GET /export ; x-api-key: {live}                               | 403 feature_not_enabled
a feature with raw headers                               | raw     | GET /export ; x-api-key: {live}                               | 403 feature_not_enabled
a key inside its networks                                | default | GET /orders ; x-api-key: {home}                               | 200 ; up x-tenant-id: acme
a client cannot claim an address                         | default | GET /orders ; x-api-key: {away} ; x-forwarded-for: 10.1.2.3   | 403 network_not_allowed
nor by another header                                    | default | GET /orders ; x-api-key: {away} ; x-real-ip: 10.1.2.3 ; forwarded: for=10.1.2.3 ; x-envoy-external-address: 10.1.2.3 | 403 network_not_allowed
behind a proxy Envoy names the proxy as the caller       | proxied | GET /orders ; x-api-key: {away} ; x-forwarded-for: 10.1.2.3   | 403 network_not_allowed
behind a proxy inside the networks a key is good         | proxied | GET /orders ; x-api-key: {home} ; x-forwarded-for: 192.0.2.9  | 200 ; up x-tenant-id: acme
behind a proxy a forged list of addresses is no help     | proxied | GET /orders ; x-api-key: {away} ; x-forwarded-for: 10.1.2.3, 192.0.2.9 | 403 network_not_allowed
"#;
