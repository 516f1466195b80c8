//! What a refused caller reads (DESIGN 3.2), over HTTP.

#[test]
fn a_refusal_says_what_is_wrong_and_never_reaches_the_upstream() {
    super::check(TABLE);
}

const TABLE: &str = r#"
no key                                                   | default | GET /orders                                                   | 401 missing_api_key ; client www-authenticate: *
no key, and where one may be                             | default | GET /orders?where                                             | 401 missing_api_key ; says in the header x-api-key or as a bearer token in authorization
no key, and where one may be as configured               | places  | GET /orders?where                                             | 401 missing_api_key ; says in the query parameter api_key or in the cookie api_key
no key, and where one may be, for gRPC                   | renamed | GRPC /shop.Orders/List                                        | grpc 16 ; says in the header x-acme-auth
an empty key is no key                                   | default | GET /orders ; x-api-key:                                      | 401 missing_api_key
basic credentials are no key                             | default | GET /orders ; authorization: Basic dTpw                       | 401 missing_api_key ; client www-authenticate: *
bearer without a token is refused                        | default | GET /orders ; authorization: Bearer                           | 401 missing_api_key
a word is not a key                                      | default | GET /orders ; x-api-key: nonsense                             | 401 invalid_api_key ; client www-authenticate: *
a typo in a key                                          | default | GET /orders ; x-api-key: {typo}                               | 401 invalid_api_key
a key of another installation                            | default | GET /orders ; x-api-key: {stranger}                           | 401 invalid_api_key
a key of another installation as bearer                  | default | GET /orders ; authorization: Bearer {stranger}                | 401 invalid_api_key ; client www-authenticate: *
a key with one letter more                               | default | GET /orders ; x-api-key: {live}x                              | 401 invalid_api_key
a bare prefix                                            | default | GET /orders ; x-api-key: ks_live_                             | 401 invalid_api_key
a revoked key                                            | default | GET /orders ; x-api-key: {revoked}                            | 401 invalid_api_key
a key of a deleted tenant                                | default | GET /orders ; x-api-key: {gone}                               | 401 invalid_api_key
an expired key                                           | default | GET /orders ; x-api-key: {expired}                            | 401 api_key_expired ; client www-authenticate: *
a key of a suspended tenant                              | default | GET /orders ; x-api-key: {frozen}                             | 403 tenant_suspended ; client no www-authenticate
a route's feature that nobody gave                       | default | GET /export ; x-api-key: {live}                               | 403 feature_not_enabled ; says export
a scope that the key lacks                               | default | GET /change ; x-api-key: {reader}                             | 403 scope_not_granted ; says write
a key used from outside its networks                     | default | GET /orders ; x-api-key: {away}                               | 403 network_not_allowed
two keys in one header                                   | default | GET /orders ; x-api-key: {live},{second}                      | 400 ambiguous_request
a very long word is not a key                            | default | GET /orders ; x-api-key: {a*8000}                             | 401 invalid_api_key
a very long bearer word is not a key                     | default | GET /orders ; authorization: Bearer {a*20000}                 | 401 invalid_api_key
a refusal to HEAD has the headers                        | default | HEAD /orders                                                  | 401 missing_api_key
a refusal to POST with a body                            | default | POST /orders ; body 64KiB                                     | 401 missing_api_key
a refusal after 100-continue                             | default | POST /orders ; expect: 100-continue ; body 10                 | 401 missing_api_key
a refusal over the Unix socket                           | socket  | GET /orders                                                   | 401 missing_api_key
a refusal with only some headers seen                    | few     | GET /orders                                                   | 401 missing_api_key
a refusal with raw headers                               | raw     | GET /orders                                                   | 401 missing_api_key
a refusal that Envoy validates                           | strict  | GET /export ; x-api-key: {live}                               | 403 feature_not_enabled ; says export
a refusal where Envoy would let errors pass              | open    | GET /orders                                                   | 401 missing_api_key
a bad key where Envoy would let errors pass              | open    | GET /orders ; x-api-key: {stranger}                           | 401 invalid_api_key
a missing feature where Envoy would let errors pass      | open    | GET /export ; x-api-key: {live}                               | 403 feature_not_enabled

the log says why there was no key                        | default | GET /orders?log                                               | 401 missing_api_key ; meta reason: missing_api_key ; meta no tenant_id
the log says that a key was unknown, and no tenant       | default | GET /orders?log ; x-api-key: {stranger}                       | 401 invalid_api_key ; meta reason: invalid_api_key ; meta no tenant_id
the log says whose feature is missing                    | default | GET /export?log ; x-api-key: {live}                           | 403 feature_not_enabled ; meta reason: feature_not_enabled ; meta tenant_id: acme ; meta key_id: {live.id}
the log says who is suspended                            | default | GET /orders?log ; x-api-key: {frozen}                         | 403 tenant_suspended ; meta reason: tenant_suspended ; meta tenant_id: frozen
"#;
