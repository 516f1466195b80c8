//! A key that cannot be looked up or opened (DESIGN 3.2, `failure_policy`).

#[test]
fn an_outage_is_answered_as_the_policy_says() {
    super::check(TABLE);
}

const TABLE: &str = r#"
deny: a key whose record cannot be opened                 | outage-deny       | GET /orders ; x-api-key: {unreadable}                     | 503 authorization_unavailable ; client retry-after: *
deny: also where Envoy would let errors pass             | outage-deny-open  | GET /orders ; x-api-key: {unreadable}                     | 503 authorization_unavailable ; client retry-after: *
deny: the log says why                                   | outage-deny       | GET /orders?log ; x-api-key: {unreadable}                 | 503 authorization_unavailable ; meta reason: authorization_unavailable ; meta no tenant_id
deny: no key needs no store                              | outage-deny       | GET /orders                                         | 401 missing_api_key
deny: a typo needs no store                              | outage-deny       | GET /orders ; x-api-key: {typo}                     | 401 invalid_api_key
deny: an optional route without a key needs no store     | outage-deny       | GET /optional ; x-tenant-id: evil                   | 200 ; anonymous
deny: an optional route with a key is not anonymous      | outage-deny       | GET /optional ; x-api-key: {unreadable}                   | 503 authorization_unavailable
deny: a route that is off needs no store                 | outage-deny       | GET /off ; x-api-key: {unreadable}                        | 200 ; anonymous ; up no x-api-key
defer: a record that cannot be used is no outage         | outage-defer      | GET /orders ; x-api-key: {unreadable}                     | 503 authorization_unavailable
defer: not even where Envoy would let errors pass        | outage-defer-open | GET /orders ; x-api-key: {unreadable}                    | 503 authorization_unavailable
defer: no key is refused all the same                    | outage-defer-open | GET /orders                                         | 401 missing_api_key
defer: a typo is refused all the same                    | outage-defer-open | GET /orders ; x-api-key: {typo}                     | 401 invalid_api_key
defer: a mode with a typo is no outage                   | outage-defer-open | GET /mode-typo                                                | 503 authorization_unavailable
defer: an ambiguous request is refused all the same      | outage-defer-open | GET /orders ; x-api-key: {live},{second}                      | 400 ambiguous_request
store down, deny: 503 even where errors may pass         | broken-deny-open  | GET /orders ; x-api-key: {live}                               | 503 authorization_unavailable ; client retry-after: *
store down, deny: no key needs no store                  | broken-deny-open  | GET /orders                                                   | 401 missing_api_key
store down, defer: Envoy fails closed                    | broken-defer      | GET /orders ; x-api-key: {live}                               | refused
store down, defer: Envoy fails open when it was told to  | broken-defer-open | GET /orders ; x-api-key: a-token-of-another-system            | 200
store down, defer: a typo is refused all the same        | broken-defer-open | GET /orders ; x-api-key: {typo}                               | 401 invalid_api_key
store down, defer: no key is refused all the same        | broken-defer-open | GET /orders                                                   | 401 missing_api_key
"#;
