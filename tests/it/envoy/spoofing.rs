//! Nothing that a client writes under a reserved name reaches the upstream (DESIGN 3.3).

#[test]
fn a_forged_tenant_header_never_reaches_the_upstream() {
    super::check(TABLE);
}

const TABLE: &str = r#"
a forged tenant is overwritten                           | default | GET /orders ; x-api-key: {live} ; x-tenant-id: evil           | 200 ; up x-tenant-id: acme
a forged tenant before the key                           | default | GET /orders ; x-tenant-id: evil ; x-api-key: {live}           | 200 ; up x-tenant-id: acme
a forged tenant in mixed case                            | default | GET /orders ; x-api-key: {live} ; X-Tenant-ID: evil           | 200 ; up x-tenant-id: acme
a forged tenant twice                                    | default | GET /orders ; x-api-key: {live} ; x-tenant-id: evil ; x-tenant-id: evil2 | 200 ; up x-tenant-id: acme
a forged tenant twice, raw                               | raw     | GET /orders ; x-api-key: {live} ; x-tenant-id: evil ; x-tenant-id: evil2 | 200 ; up x-tenant-id: acme
a forged tenant, validated                               | strict  | GET /orders ; x-api-key: {live} ; x-tenant-id: evil           | 200 ; up x-tenant-id: acme
a forged tenant, few headers seen                        | few     | GET /orders ; x-api-key: {live} ; x-tenant-id: evil           | 200 ; up x-tenant-id: acme
a forged tenant over the Unix socket                     | socket  | GET /orders ; x-api-key: {live} ; x-tenant-id: evil           | 200 ; up x-tenant-id: acme
a forged empty tenant                                    | default | GET /orders ; x-api-key: {live} ; x-tenant-id:                | 200 ; up x-tenant-id: acme
a forged plan for a tenant without one is removed        | default | GET /orders ; x-api-key: {bare} ; x-tenant-plan: evil         | 200 ; up x-tenant-id: bare ; up no x-tenant-plan
forged features for a tenant without any are removed     | default | GET /orders ; x-api-key: {bare} ; x-tenant-features: evil     | 200 ; up no x-tenant-features
forged scopes for a key without any are removed          | default | GET /orders ; x-api-key: {second} ; x-api-key-scopes: evil    | 200 ; up no x-api-key-scopes
a forged plan unseen by Keystile is removed as well      | few     | GET /orders ; x-api-key: {bare} ; x-tenant-plan: evil         | 200 ; up no x-tenant-plan
a forged name is overwritten                             | default | GET /orders ; x-api-key: {live} ; x-tenant-name: evil         | 200 ; up x-tenant-name: Acme
a forged owner is overwritten                            | default | GET /orders ; x-api-key: {live} ; x-api-key-owner: evil       | 200 ; up x-api-key-owner: alice
a forged key id is overwritten                           | default | GET /orders ; x-api-key: {live} ; x-api-key-id: evil          | 200 ; up x-api-key-id: {live.id}
a forged rate limit is removed                           | default | GET /orders ; x-api-key: {live} ; x-tenant-rate-limit: evil   | 200 ; up no x-tenant-rate-limit
forged metadata is removed                               | default | GET /orders ; x-api-key: {live} ; x-tenant-meta-foo: evil     | 200 ; up no x-tenant-meta-foo
forged metadata twice is removed                         | default | GET /orders ; x-api-key: {live} ; x-tenant-meta-foo: evil ; x-tenant-meta-foo: evil | 200 ; up no x-tenant-meta-foo
a name nobody knows under the prefix is removed          | default | GET /orders ; x-api-key: {live} ; x-tenant-evil: evil         | 200 ; up no x-tenant-evil
a name nobody knows under the key prefix is removed      | default | GET /orders ; x-api-key: {live} ; x-api-key-evil: evil        | 200 ; up no x-api-key-evil
a name nobody knows under the prefix is removed, raw     | raw     | GET /orders ; x-api-key: {live} ; x-tenant-evil: evil         | 200 ; up no x-tenant-evil
a name nobody knows is removed, few headers seen         | few     | GET /orders ; x-api-key: {live} ; x-tenant-evil: evil         | 200 ; up no x-tenant-evil
a forged signed context is removed                       | default | GET /orders ; x-api-key: {live} ; x-tenant-token: evil        | 200 ; up no x-tenant-token
underscores do not hide a name                           | default | GET /orders ; x-api-key: {live} ; x_tenant_id: evil           | 200 ; up x-tenant-id: acme ; up no x_tenant_id
underscores in part do not hide a name                   | default | GET /orders ; x-api-key: {live} ; x_tenant-id: evil           | 200 ; up no x_tenant-id
one underscore does not hide a name                      | default | GET /orders ; x-api-key: {live} ; x-tenant_id: evil           | 200 ; up no x-tenant_id
underscores in capitals do not hide a name               | default | GET /orders ; x-api-key: {live} ; X_TENANT_PLAN: evil         | 200 ; up no x_tenant_plan
underscores do not hide a key name                       | default | GET /orders ; x-api-key: {live} ; x_api_key_owner: evil       | 200 ; up no x_api_key_owner
underscores do not hide a name nobody knows              | default | GET /orders ; x-api-key: {live} ; x_tenant_evil: evil         | 200 ; up no x_tenant_evil
underscores do not hide metadata                         | default | GET /orders ; x-api-key: {live} ; x_tenant_meta_foo: evil     | 200 ; up no x_tenant_meta_foo
underscores do not hide a name, raw                      | raw     | GET /orders ; x-api-key: {live} ; x_tenant_id: evil           | 200 ; up x-tenant-id: acme ; up no x_tenant_id
dots do not hide a name                                  | default | GET /orders ; x-api-key: {live} ; x.tenant.id: evil           | 200 ; up x-tenant-id: acme ; up no x.tenant.id
bangs do not hide a name                                 | default | GET /orders ; x-api-key: {live} ; x!tenant!id: evil           | 200 ; up x-tenant-id: acme ; up no x!tenant!id
tildes do not hide a name                                | default | GET /orders ; x-api-key: {live} ; x~tenant~plan: evil         | 200 ; up no x~tenant~plan
signs of many kinds do not hide a name                   | default | GET /orders ; x-api-key: {live} ; X^api`key*owner: evil ; x+tenant'meta&x: evil ; x#tenant$name: evil ; x%api.key_id: evil | 200 ; up x-api-key-owner: alice ; up no x^api`key*owner ; up no x+tenant'meta&x
dots do not hide a name, raw                             | raw     | GET /orders ; x-api-key: {live} ; x.tenant.id: evil           | 200 ; up no x.tenant.id
dots do not hide a name, validated                       | strict  | GET /orders ; x-api-key: {live} ; x.tenant.id: evil ; x!tenant!evil: evil | 200 ; up x-tenant-id: acme ; up no x.tenant.id
dots do not hide a name on a route that is off           | default | GET /off ; x.tenant.id: evil ; x~api~key~id: evil             | 200 ; anonymous
dots do not hide a name that Keystile cannot see         | blind   | GET /orders ; x-api-key: {live} ; x.tenant.id: evil ; x!tenant!plan: evil ; x~api~key~owner: evil | 200 ; up no x.tenant.id ; up no x!tenant!plan
dots do not hide a connection's nominee                  | default | GET /orders ; x-api-key: {live} ; connection: upgrade, x.tenant.id ; upgrade: websocket | 400 ambiguous_request
another sign in the key's header goes no further         | default | GET /orders ; x-api-key: {live} ; x.api.key: {second}         | 200 ; up no x.api.key
underscores do not hide a name that Keystile cannot see  | few     | GET /orders ; x-api-key: {live} ; x_tenant_id: evil           | 200 ; up x-tenant-id: acme ; up no x_tenant_id
a forged tenant that Keystile cannot see                 | blind   | GET /orders ; x-api-key: {live} ; x-tenant-id: evil           | 200 ; up x-tenant-id: acme
a forged plan that Keystile cannot see                   | blind   | GET /orders ; x-api-key: {bare} ; x-tenant-plan: evil         | 200 ; up no x-tenant-plan
forged scopes that Keystile cannot see                   | blind   | GET /orders ; x-api-key: {second} ; x-api-key-scopes: evil    | 200 ; up no x-api-key-scopes
a forged alias of a plan that Keystile cannot see        | blind   | GET /orders ; x-api-key: {bare} ; x_tenant-plan: evil         | 200 ; up no x_tenant-plan
a forged signed context that Keystile cannot see         | blind   | GET /orders ; x-api-key: {live} ; x-tenant-token: evil        | 200 ; up no x-tenant-token
forged names on an optional route that Keystile cannot see | blind   | GET /optional ; x-tenant-id: evil ; x_tenant_name: evil ; x-api-key-owner: evil | 200 ; anonymous
bytes that are no text in a forged name's value          | default | GET /orders ; x-api-key: {live} ; x-tenant-meta-x: evil\xff   | 200 ; up no x-tenant-meta-x
bytes that are no text in a forged value, raw            | raw     | GET /orders ; x-api-key: {live} ; x-tenant-id: evil\xff       | 200 ; up x-tenant-id: acme
thirty thousand bytes of forged tenant                   | default | GET /orders ; x-api-key: {live} ; x-tenant-id: {evil*7500}    | 200 ; up x-tenant-id: acme
a name that only looks alike is the client's own         | default | GET /orders ; x-api-key: {live} ; x-tenantry: mine ; x-api-keys: mine | 200 ; up x-tenantry: mine ; up x-api-keys: mine
a forged tenant on an optional route without a key       | default | GET /optional ; x-tenant-id: evil ; x-tenant-meta-foo: evil ; x_tenant_plan: evil | 200 ; anonymous
a forged tenant on a route that is off                   | default | GET /off ; x-tenant-id: evil ; x-tenant-id: evil ; x-api-key-id: evil ; x_api_key_owner: evil | 200 ; anonymous
a forged tenant on a route that is off, raw              | raw     | GET /off ; x-tenant-id: evil ; x-tenant-evil: evil            | 200 ; anonymous
a forged tenant on an optional route, few headers seen   | few     | GET /optional ; x-tenant-id: evil ; x_tenant_id: evil ; x-tenant-evil: evil | 200 ; anonymous
a forged tenant on an optional route, validated          | strict  | GET /optional ; x-tenant-id: evil ; x-tenant-evil: evil       | 200 ; anonymous
a forged tenant from a gRPC caller                       | default | GRPC /shop.Orders/List ; x-api-key: {live} ; x-tenant-id: evil ; x-tenant-evil: evil | grpc 0 ; up x-tenant-id: acme
configured prefixes are the reserved ones                | renamed | GET /orders ; x-acme-auth: {live} ; x-acme-tenant-id: evil ; x_acme_tenant_evil: evil ; x-acme-key-id: evil | 200 ; up x-acme-tenant-id: acme ; up x-acme-key-id: {live.id}
with other prefixes the usual ones mean nothing          | renamed | GET /orders ; x-acme-auth: {live} ; x-tenant-id: mine         | 200 ; up x-tenant-id: mine ; up x-acme-tenant-id: acme
"#;
