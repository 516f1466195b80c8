//! Rules from `authz.routes`, behind an Envoy whose routes say nothing, with path normalisation off and on.

#[test]
fn a_request_gets_what_the_first_matching_rule_asks_for() {
    super::check(TABLE);
}

const TABLE: &str = r#"
a configured rule that is off                            | routed  | GET /public/logo.png                                          | 200 ; anonymous ; meta no shadow_reason
the base of an open template                             | routed  | GET /public                                                   | 200 ; anonymous
the same with a slash at the end                         | routed  | GET /public/                                                  | 200 ; anonymous
a longer name is another path                            | routed  | GET /publicly                                                 | 401 missing_api_key
no rule matches: a valid key is enough                   | routed  | GET /elsewhere ; x-api-key: {live}                            | 200 ; up x-tenant-id: acme
no rule matches: and nothing less                        | routed  | GET /elsewhere                                                | 401 missing_api_key
a configured feature that the key has                    | routed  | GET /v1/images/7?size=2 ; x-api-key: {live}                   | 200 ; up x-tenant-id: acme
the next rule for another method                         | routed  | POST /v1/images/7 ; x-api-key: {live}                         | 403 feature_not_enabled ; says export
HEAD is not GET                                          | routed  | HEAD /v1/images/7 ; x-api-key: {live}                         | 403 any
a configured scope that the key has                      | routed  | GET /v1/images/7/thumb ; x-api-key: {live}                    | 200 ; up x-tenant-id: acme
a rule in shadow reports what it would refuse            | routed  | GET /v1/images/7/x ; x-api-key: {reader}                      | 200 ; meta reason: allowed ; meta shadow_reason: scope_not_granted
a rule in shadow reports nothing of what is refused      | routed  | GET /v1/orders/9 ; x-api-key: {second}                        | 403 scope_not_granted ; meta no shadow_reason
a rule in shadow misses a key where none is needed       | routed  | GET /v1/orders ; host: b.open.test                            | 200 ; anonymous ; meta shadow_reason: missing_api_key
a configured scope that the key lacks                    | routed  | GET /v1/orders ; x-api-key: {second}                          | 403 scope_not_granted ; says read
a rule for hosts stands before a rule for paths          | routed  | GET /v1/orders ; host: A.open.test:8080                       | 200 ; anonymous
a host that is no name                                   | routed  | GET /v1/orders ; host: a@b.open.test ; x-api-key: {live}      | 400 ambiguous_request ; says host
what a route says of its own replaces the rules          | routed  | GET /off                                                      | 200 ; anonymous
dots with path rules                                     | routed  | GET /public/../v1/orders                                      | 400 ambiguous_request ; says dot segment
encoded dots with path rules                             | routed  | GET /public/%2e%2e/v1/orders                                  | 400 ambiguous_request
an encoded slash with path rules                         | routed  | GET /public/..%2fv1/orders ; x-api-key: {live}                | 400 ambiguous_request ; says encoded slash
a backslash with path rules                              | routed  | GET /public/..\v1                                             | 400 ambiguous_request
an encoded backslash with path rules                     | routed  | GET /public%5c..%5cv1                                         | 400 ambiguous_request
two slashes with path rules                              | routed  | GET //v1/orders ; x-api-key: {second}                         | 400 ambiguous_request ; says two slashes
a semicolon with path rules                              | routed  | GET /public;x/v1                                              | 400 ambiguous_request
a NUL with path rules                                    | routed  | GET /v1%00/orders ; x-api-key: {live}                         | 400 ambiguous_request
an encoded letter with path rules                        | routed  | GET /%761/orders ; x-api-key: {second}                        | 400 ambiguous_request
an ambiguous path on a route that speaks for itself      | routed  | GET /off//x                                                   | 400 ambiguous_request
an absolute target with path rules is a path to Envoy    | routed  | GET http://other.example/v1/orders ; x-api-key: {second}      | 403 scope_not_granted
CONNECT with path rules                                  | routed  | CONNECT other.example:443 ; host: other.example:443           | 401 missing_api_key
an encoded at-sign in a segment is opaque                | routed  | GET /public/alice%40example.com                               | 200 ; anonymous ; up target /public/alice%40example.com
normalised dots lead to the rule of the clean path       | routed-normal | GET /public/../v1/orders ; x-api-key: {second}          | 403 scope_not_granted
normalised encoded dots lead there too                   | routed-normal | GET /public/%2e%2e/v1/orders                            | 401 missing_api_key
merged slashes lead to the rule of the clean path        | routed-normal | GET //v1/orders ; x-api-key: {second}                   | 403 scope_not_granted
an encoded slash is redirected by Envoy                  | routed-normal | GET /public/..%2fv1/orders                              | 307 by envoy
a backslash is turned by Envoy                           | routed-normal | GET /public/..\v1/orders                                | 401 missing_api_key
a semicolon is refused behind normalisation too          | routed-normal | GET /v1/orders;x ; x-api-key: {live}                    | 400 ambiguous_request
"#;
