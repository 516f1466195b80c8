//! What the upstream learns of the tenant (DESIGN 3.3).

#[test]
fn the_upstream_learns_who_asks() {
    super::check(TABLE);
}

const TABLE: &str = r#"
everything about a key with everything                   | default | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-id: acme ; up x-tenant-name: Acme ; up x-tenant-plan: pro ; up x-tenant-features: images,reports ; up x-api-key-id: {live.id} ; up x-api-key-owner: alice ; up x-api-key-scopes: read,write
metadata travels under its own prefix                    | default | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-meta-region: eu-1
metadata is percent-encoded where it must be             | default | GET /orders ; x-api-key: {live} ; x-tenant-meta-note: evil    | 200 ; up x-tenant-meta-note: ~Zo%C3%AB
forged metadata is overwritten by the tenant's           | default | GET /orders ; x-api-key: {live} ; x-tenant-meta-region: evil  | 200 ; up x-tenant-meta-region: eu-1
metadata of one tenant is not another's                  | default | GET /orders ; x-api-key: {bare} ; x-tenant-meta-region: evil  | 200 ; up no x-tenant-meta-region
what is not there is not sent                            | default | GET /orders ; x-api-key: {bare}                               | 200 ; up x-tenant-id: bare ; up no x-tenant-plan ; up no x-tenant-features ; up no x-api-key-scopes ; up no x-tenant-rate-limit ; up no x-tenant-token
a name in UTF-8 travels percent-encoded                  | default | GET /orders ; x-api-key: {cafe}                               | 200 ; up x-tenant-name: ~Caf%C3%A9
a sign in a name travels percent-encoded                 | default | GET /orders ; x-api-key: {cafe} ; x-2: 2                      | 200 ; up x-tenant-name: ~%E2%98%95
a name in UTF-8 passes Envoy's own validation            | strict  | GET /orders ; x-api-key: {cafe}                               | 200 ; up x-tenant-name: ~Caf%C3%A9
the same over the Unix socket                            | socket  | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-plan: pro ; up x-tenant-features: images,reports
the same with raw headers                                | raw     | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-plan: pro ; up x-tenant-features: images,reports
the same with few headers seen                           | few     | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-plan: pro ; up x-tenant-features: images,reports
the same where Envoy validates                           | strict  | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-plan: pro ; up x-tenant-features: images,reports
the log says who was let in                              | default | GET /orders?log ; x-api-key: {live}                           | 200 ; meta tenant_id: acme ; meta key_id: {live.id} ; meta plan: pro ; meta features: ["images","reports"]
the log says so with few headers seen                    | few     | GET /orders?log ; x-api-key: {live}                           | 200 ; meta tenant_id: acme ; meta key_id: {live.id}
the log names no tenant for an anonymous request         | default | GET /optional?log                                             | 200 ; meta no tenant_id ; meta no key_id
the log names no tenant where Keystile is off            | default | GET /off?log ; x-api-key: {live}                              | 200 ; meta no tenant_id ; meta no key_id
the upstream's answer comes back as it is                | default | GET /orders ; x-api-key: {live} ; x-3: 3                      | 200 ; says upstream ; client no x-api-key-id
"#;
