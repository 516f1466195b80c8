//! Targets in unusual forms, with path normalisation off and on (ENVOY 2.1).

#[test]
fn a_target_in_an_unusual_form_opens_nothing() {
    super::check(TABLE);
}

const TABLE: &str = r#"
dots into an unchecked route are Envoy's to resolve      | default | GET /open/../orders                                           | 200 ; up target /open/../orders
with normalisation dots lead to a check                  | normal  | GET /open/../orders                                           | 401 missing_api_key
with normalisation encoded dots lead to a check          | normal  | GET /open/%2e%2e/orders                                       | 401 missing_api_key
with normalisation and a key the path is the clean one   | normal  | GET /open/../orders ; x-api-key: {live}                       | 200 ; up target /orders ; up x-tenant-id: acme
with normalisation slashes merge before the rules        | normal  | GET //export ; x-api-key: {live}                              | 403 feature_not_enabled
without it two slashes are another route, still checked  | default | GET //off                                                     | 401 missing_api_key
an encoded slash is no slash                             | default | GET /off%2f..%2forders                                        | 200 ; anonymous
dots inside a checked route do not open it               | default | GET /orders/../off                                            | 401 missing_api_key
a semicolon does not open a route                        | default | GET /orders;/off                                              | 401 missing_api_key
capitals are another route, still checked                | default | GET /OFF                                                      | 401 missing_api_key
an encoded letter is another route, still checked        | default | GET /%6fff                                                    | 401 missing_api_key
a NUL in the path does not open a route                  | default | GET /orders%00/off                                            | 401 missing_api_key
a backslash does not open a route                        | default | GET /orders\off                                               | 401 missing_api_key
an absolute target is checked like another               | default | GET http://other.example/orders                               | 401 missing_api_key
an absolute target with a key                            | default | GET http://other.example/orders ; x-api-key: {live}           | 200 ; up target /orders ; up host: other.example ; up x-tenant-id: acme
a target with an unusual host                            | default | GET /orders ; host: a@API.test.:80                            | 401 missing_api_key
a very long path                                         | default | GET /{a/*9000}                                                | 401 missing_api_key
a query full of question marks                           | default | GET /orders??x=?&y=/off ; x-api-key: {live}                   | 200 ; up target /orders??x=?&y=/off
a fragment is refused before the check                   | default | GET /off#/orders                                              | 400 by envoy
CONNECT has no path and still needs a key                | default | CONNECT other.example:443 ; host: other.example:443           | 401 missing_api_key
CONNECT with a bad key                                   | default | CONNECT other.example:443 ; host: other.example:443 ; x-api-key: nonsense | 401 invalid_api_key
CONNECT with a key                                       | default | CONNECT other.example:443 ; host: other.example:443 ; x-api-key: {live} | 200 ; up x-tenant-id: acme ; up no x-api-key
CONNECT where Envoy would let errors pass                | open    | CONNECT other.example:443 ; host: other.example:443           | 401 missing_api_key
CONNECT with raw headers                                 | raw     | CONNECT other.example:443 ; host: other.example:443           | 401 missing_api_key
OPTIONS is a request like another                        | default | OPTIONS /orders                                               | 401 missing_api_key
a method nobody knows is refused before the check        | default | BREW /orders                                                  | 400 by envoy
a blank before a header's colon                          | default | GET /orders ; x-api-key : {live}                              | 400 by envoy
"#;
