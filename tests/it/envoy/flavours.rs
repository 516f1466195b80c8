//! What differs with how `ext_authz` is configured, and when nobody answers (ENVOY 1.4).

#[test]
fn each_way_to_configure_ext_authz_fails_closed() {
    super::check(TABLE);
}

const TABLE: &str = r#"
nobody answers: refused                                  | dead      | GET /orders                                                 | 403 by envoy
nobody answers: refused with a key                       | dead      | GET /orders ; x-api-key: {live}                             | 403 by envoy
nobody answers: refused on an optional route             | dead      | GET /optional                                               | 403 by envoy
nobody answers: a gRPC caller has no permission          | dead      | GRPC /shop.Orders/List ; x-api-key: {live}                  | refused
nobody answers, the operator chose open: allowed         | dead-open | GET /orders                                                 | 200
a good key where Envoy would let errors pass             | open      | GET /orders ; x-api-key: {live} ; x-tenant-id: evil         | 200 ; up x-tenant-id: acme ; up no x-envoy-auth-failure-mode-allowed
an ambiguous request where Envoy would let errors pass   | open      | GET /orders ; x-api-key: {live},{second}                    | 400 ambiguous_request
a suspended tenant where Envoy would let errors pass     | open      | GET /orders ; x-api-key: {frozen}                           | 403 tenant_suspended
a body that is sent along                                | body      | POST /orders ; x-api-key: {live} ; body 64KiB               | 200 ; up x-tenant-id: acme ; up body 64KiB
a body that is sent along without a key                  | body      | POST /orders ; body 64KiB                                   | 401 missing_api_key
a body too big for one check is refused, not let pass    | body      | POST /orders ; x-api-key: {live} ; body 5MiB                | 400 ambiguous_request ; unread
a body too big for one check without a key               | body      | POST /orders ; body 5MiB                                    | 400 ambiguous_request ; unread
a body too big for one check on an optional route        | body      | POST /optional ; body 5MiB                                  | 400 ambiguous_request ; unread
a body too big for Envoy                                 | body      | POST /orders ; x-api-key: {live} ; body 9MiB                | 413 by envoy
a bearer key with few headers seen                       | few       | GET /orders ; authorization: Bearer {live}                  | 200 ; up x-tenant-id: acme ; up no authorization
a bearer key with raw headers                            | raw       | GET /orders ; authorization: Bearer {live}                  | 200 ; up x-tenant-id: acme ; up no authorization
a bearer key where Envoy validates                       | strict    | GET /orders ; authorization: Bearer {live}                  | 200 ; up x-tenant-id: acme ; up no authorization
two keys in two places with raw headers                  | raw       | GET /orders ; x-api-key: {live} ; authorization: Bearer {second} | 400 ambiguous_request
an optional route with raw headers                       | raw       | GET /optional                                               | 200 ; anonymous
a route that is off where Envoy validates                | strict    | GET /off ; x-api-key: {live}                                | 200 ; anonymous ; up no x-api-key
sixty forged names are all removed                       | default   | GET /orders ; x-api-key: {live}{\r\nx-tenant-evil-%: evil*60} | 200 ; up x-tenant-id: acme ; up no x-tenant-evil-7
"#;
