//! Requests that two readers could read differently are refused, never split (DESIGN 3.1).

#[test]
fn a_request_with_two_readings_is_refused() {
    super::check(TABLE);
}

const TABLE: &str = r#"
the key header twice                                     | default | GET /orders ; x-api-key: {live} ; x-api-key: {live}           | 400 ambiguous_request
the key header twice with two keys                       | default | GET /orders ; x-api-key: {live} ; x-api-key: {second}         | 400 ambiguous_request
a good key behind a bad one                              | default | GET /orders ; x-api-key: nonsense ; x-api-key: {live}         | 400 ambiguous_request
a good key before a bad one                              | default | GET /orders ; x-api-key: {live} ; x-api-key: nonsense         | 400 ambiguous_request
the key header twice, raw                                | raw     | GET /orders ; x-api-key: {live} ; x-api-key: {live}           | 400 ambiguous_request
the key header twice with two keys, raw                  | raw     | GET /orders ; x-api-key: {live} ; x-api-key: {second}         | 400 ambiguous_request
the key header twice, few headers seen                   | few     | GET /orders ; x-api-key: {live} ; x-api-key: {second}         | 400 ambiguous_request
the bearer twice                                         | default | GET /orders ; authorization: Bearer {live} ; authorization: Bearer {second} | 400 ambiguous_request
the bearer twice, raw                                    | raw     | GET /orders ; authorization: Bearer {live} ; authorization: Bearer {second} | 400 ambiguous_request
basic before bearer in two headers                       | default | GET /orders ; authorization: Basic dTpw ; authorization: Bearer {live} | 400 ambiguous_request
basic after bearer in two headers                        | default | GET /orders ; authorization: Bearer {live} ; authorization: Basic dTpw | 400 ambiguous_request
basic after bearer in two headers, raw                   | raw     | GET /orders ; authorization: Bearer {live} ; authorization: Basic dTpw | 400 ambiguous_request
two keys in two places                                   | default | GET /orders ; x-api-key: {live} ; authorization: Bearer {second} | 400 ambiguous_request
a key and another bearer token                           | default | GET /orders ; x-api-key: {live} ; authorization: Bearer a.b.c  | 400 ambiguous_request
a bad key and a good bearer                              | default | GET /orders ; x-api-key: nonsense ; authorization: Bearer {live} | 400 ambiguous_request
two keys in header and query                             | places  | GET /orders?api_key={second} ; x-api-key: {live}              | 400 ambiguous_request
two keys in header and cookie                            | places  | GET /orders ; cookie: api_key={second} ; x-api-key: {live}    | 400 ambiguous_request
two keys in the query                                    | places  | GET /orders?api_key={live}&api_key={second}                   | 400 ambiguous_request
two keys in two spellings in the query                   | places  | GET /orders?api_key={live}&api%5fkey={second}                 | 400 ambiguous_request
two keys in the cookies                                  | places  | GET /orders ; cookie: api_key={live}; api_key={second}        | 400 ambiguous_request
a comma in a key                                         | default | GET /orders ; x-api-key: a,b                                  | 400 ambiguous_request
a comma in a bearer token                                | default | GET /orders ; authorization: Bearer {live},{live}             | 400 ambiguous_request
a comma alone                                            | default | GET /orders ; x-api-key: ,                                    | 400 ambiguous_request
a key and a trailing comma                               | default | GET /orders ; x-api-key: {live},                              | 400 ambiguous_request
a blank inside a key                                     | default | GET /orders ; x-api-key: {live} {live}                        | 401 invalid_api_key
a tab inside a key                                       | default | GET /orders ; x-api-key: {live}\t{live}                       | 401 invalid_api_key
a bang in a key                                          | default | GET /orders ; x-api-key: {live}!                              | 401 invalid_api_key
a key in quotes                                          | default | GET /orders ; x-api-key: "{live}"                             | 401 invalid_api_key
a byte that is no text in a key                          | default | GET /orders ; x-api-key: {live}\xff                           | 401 invalid_api_key
a byte that is no text in a key, raw                     | raw     | GET /orders ; x-api-key: {live}\xff                           | 401 invalid_api_key
UTF-8 in a key                                           | default | GET /orders ; x-api-key: {live}é                              | 401 invalid_api_key
UTF-8 in a key, raw                                      | raw     | GET /orders ; x-api-key: {live}é                              | 401 invalid_api_key
a key folded over two lines                              | default | GET /orders ; x-api-key: {live}\r\n folded                    | 401 invalid_api_key
bytes that are no text elsewhere hurt nobody             | default | GET /orders ; x-api-key: {live} ; x-mine: a\xffb              | 200 ; up x-mine: *
bytes that are no text elsewhere hurt nobody, raw        | raw     | GET /orders ; x-api-key: {live} ; x-mine: a\xffb              | 200 ; up x-mine: *
a connection header that would strip the tenant          | default | GET /orders ; x-api-key: {live} ; connection: upgrade, x-tenant-id ; upgrade: websocket | 400 ambiguous_request
the same, in capitals                                    | default | GET /orders ; x-api-key: {live} ; connection: Upgrade, X-Tenant-Plan ; upgrade: websocket | 400 ambiguous_request
the same, with a key header                              | default | GET /orders ; x-api-key: {live} ; connection: x-api-key-id, upgrade ; upgrade: websocket | 400 ambiguous_request
the same, raw                                            | raw     | GET /orders ; x-api-key: {live} ; connection: upgrade,x-tenant-id ; upgrade: websocket | 400 ambiguous_request
an upgrade that nominates nothing of ours                | default | GET /orders ; x-api-key: {live} ; connection: upgrade ; upgrade: websocket | 200 ; up x-tenant-id: acme
a connection header that Envoy itself drops              | default | GET /orders ; x-api-key: {live} ; connection: x-tenant-id     | 200 ; up x-tenant-id: acme ; up no connection
"#;
