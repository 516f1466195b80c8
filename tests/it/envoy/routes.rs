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
a route that names a cost alone keeps the rule's scopes  | routed  | GET /costly ; x-api-key: {live}                               | 403 scope_not_granted ; says admin
a route that is free keeps the rule's scopes             | routed  | GET /free ; x-api-key: {live}                                 | 403 scope_not_granted ; says admin
a route that asks for a feature where the rule is off    | routed  | GET /export                                                   | 503 authorization_unavailable
the same with a key                                      | routed  | GET /export/x ; x-api-key: {live}                             | 503 authorization_unavailable
a method in small letters, over HTTP/2                   | routed  | H2:post /v1/images/7 ; x-api-key: {live}                      | 400 ambiguous_request ; says method
a method in small letters does not open GET              | routed  | H2:get /v1/images/7 ; x-api-key: {live}                       | 400 ambiguous_request ; says method
a method in mixed letters                                | routed  | H2:Post /public/x                                             | 400 ambiguous_request ; says method
a method that nobody has registered                      | routed  | H2:JEFF /public/x                                             | 400 ambiguous_request ; says method
a registered method over HTTP/2                          | routed  | H2:PROPFIND /public/x                                         | 200 ; anonymous
a header that asks for another method                    | routed  | POST /v1/images/7 ; x-api-key: {live} ; x-http-method-override: GET | 400 ambiguous_request ; says another method
the same in small letters                                | routed  | GET /v1/images/7 ; x-api-key: {live} ; x-http-method-override: post | 400 ambiguous_request ; says another method
the same by another header                               | routed  | GET /v1/images/7 ; x-api-key: {live} ; X-Method-Override: PUT | 400 ambiguous_request
the same by a third                                      | routed  | GET /v1/images/7 ; x-api-key: {live} ; x-http-method: DELETE  | 400 ambiguous_request
underscores do not hide an override                      | routed  | GET /v1/images/7 ; x-api-key: {live} ; x_http_method_override: POST | 400 ambiguous_request
an override twice, raw                                   | routed-raw | GET /v1/images/7 ; x-api-key: {live} ; x-http-method: GET ; x-http-method: POST | 400 ambiguous_request
a query that asks for another method                     | routed  | GET /v1/images/7?_method=POST ; x-api-key: {live}             | 400 ambiguous_request ; says another method
an encoded query that asks for another method            | routed  | GET /v1/images/7?%5Fmethod=post ; x-api-key: {live}           | 400 ambiguous_request
an override on an open route                             | routed  | GET /public/x ; x-http-method-override: POST                  | 400 ambiguous_request
an override that asks for the same method                | routed  | GET /v1/images/7 ; x-api-key: {live} ; x-http-method-override: GET | 200 ; up x-tenant-id: acme
an override where no rule names methods                  | default | GET /orders ; x-api-key: {live} ; x-http-method-override: POST | 200 ; up x-tenant-id: acme
a header that asks for another path                      | routed  | GET /public/x ; x-original-url: /v1/orders                    | 400 ambiguous_request ; says another path
another header that asks for another path               | routed  | GET /public/x ; x-rewrite-url: /v1/orders                     | 400 ambiguous_request ; says another path
a header that names the same path                        | routed  | GET /public/x ; x-original-url: https://api.test/public/x?a   | 200 ; anonymous

the path of a stricter rule in capitals                  | wary    | GET /v1/ADMIN/1                                               | 400 ambiguous_request ; says another spelling
the path of a stricter rule with a dot                   | wary    | GET /v1/admin./1                                              | 400 ambiguous_request ; says another spelling
the path of a stricter rule with a blank                 | wary    | GET /v1/admin%20/1                                            | 400 ambiguous_request ; says another spelling
the path of a stricter rule with both                    | wary    | GET /v1/Admin.%20.                                            | 400 ambiguous_request ; says another spelling
the path of a stricter rule with another letter form     | wary    | GET /v1/%EF%BC%A1dmin/1                                       | 400 ambiguous_request ; says another spelling
the path of a stricter rule with a long s                | wary    | POST /v1/report%C5%BF                                         | 400 ambiguous_request ; says another spelling
the path of a stricter rule with an invisible letter     | wary    | GET /v1/ad%E2%80%8Bmin/1                                      | 400 ambiguous_request ; says another spelling
the path of a stricter rule with an extension            | wary    | POST /v1/reports.json                                         | 400 ambiguous_request ; says another spelling
the path of a stricter rule before an encoded query      | wary    | POST /v1/reports%3Fx                                          | 400 ambiguous_request ; says another spelling
the path of a stricter rule before a stream's name       | wary    | GET /v1/admin::$DATA/1                                        | 400 ambiguous_request ; says another spelling
another form of a slash                                  | wary    | GET /public%EF%BC%8F..%EF%BC%8Fv1                             | 400 ambiguous_request ; says another spelling
another form of two dots                                 | wary    | GET /v1/x/%E2%80%A5/admin                                     | 400 ambiguous_request ; says another spelling
a letter that turns the others round                     | wary    | GET /v1/ad%E2%80%AEmin/1                                      | 400 ambiguous_request ; says another spelling
a blank as a segment                                     | wary    | GET /v1/%20/admin/1                                           | 400 ambiguous_request ; says another spelling
another spelling that opens a public path is odd too     | wary    | GET /PUBLIC/x ; x-api-key: {live}                             | 200 ; up x-tenant-id: acme
another spelling of a rule that asks for less            | wary    | GET /V1/other                                                 | 401 missing_api_key
a name in capitals where a rule has none                 | wary    | GET /v1/images/Logo.PNG                                       | 200 ; anonymous
the stricter rule itself                                 | wary    | GET /v1/admin/1 ; x-api-key: {live}                           | 403 scope_not_granted ; says admin
an earlier rule for the same path                        | wary    | GET /v1/reports                                               | 200 ; anonymous
another spelling where nobody minds                      | routed  | GET /v1/Images/7 ; x-api-key: {live}                          | 200 ; up x-tenant-id: acme
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
