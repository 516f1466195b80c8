//! The store is gone and the key is not cached (DESIGN 3.2, `failure_policy`).

#[test]
fn an_outage_is_answered_as_the_policy_says() {
    super::check(TABLE);
}

const TABLE: &str = r#"
deny: a key that cannot be looked up                     | outage-deny       | GET /orders ; x-api-key: {live}                     | 503 authorization_unavailable ; client retry-after: *
deny: also where Envoy would let errors pass             | outage-deny-open  | GET /orders ; x-api-key: {live}                     | 503 authorization_unavailable ; client retry-after: *
deny: the log says why                                   | outage-deny       | GET /orders?log ; x-api-key: {live}                 | 503 authorization_unavailable ; meta reason: authorization_unavailable ; meta no tenant_id
deny: no key needs no store                              | outage-deny       | GET /orders                                         | 401 missing_api_key
deny: a typo needs no store                              | outage-deny       | GET /orders ; x-api-key: {typo}                     | 401 invalid_api_key
deny: an optional route without a key needs no store     | outage-deny       | GET /optional ; x-tenant-id: evil                   | 200 ; anonymous
deny: an optional route with a key is not anonymous      | outage-deny       | GET /optional ; x-api-key: {live}                   | 503 authorization_unavailable
deny: a route that is off needs no store                 | outage-deny       | GET /off ; x-api-key: {live}                        | 200 ; anonymous ; up no x-api-key
defer: Envoy fails closed                                | outage-defer      | GET /orders ; x-api-key: {live}                     | refused
defer: Envoy fails open when it was told to              | outage-defer-open | GET /orders ; x-api-key: {live}                    | 200
defer: no key is refused all the same                    | outage-defer-open | GET /orders                                         | 401 missing_api_key
defer: a typo is refused all the same                    | outage-defer-open | GET /orders ; x-api-key: {typo}                     | 401 invalid_api_key
defer: a mode with a typo is no outage                   | outage-defer-open | GET /mode-typo                                                | refused
defer: an ambiguous request is refused all the same      | outage-defer-open | GET /orders ; x-api-key: {live},{second}                      | 400 ambiguous_request
"#;
