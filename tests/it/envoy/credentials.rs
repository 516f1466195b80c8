//! Where a key may be (DESIGN 3.1), and that it goes no further.

#[test]
fn a_key_is_found_where_it_may_be_and_goes_no_further() {
    super::check(TABLE);
}

const TABLE: &str = r#"
a key in x-api-key lets the request through              | default | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-id: acme ; up no x-api-key
a key as bearer lets the request through                 | default | GET /orders ; authorization: Bearer {live}                    | 200 ; up x-tenant-id: acme ; up no authorization
the header name in capitals is the same header           | default | GET /orders ; X-API-KEY: {live}                               | 200 ; up x-tenant-id: acme ; up no x-api-key
the bearer scheme in lower case is the same scheme       | default | GET /orders ; authorization: bearer {live}                    | 200 ; up x-tenant-id: acme ; up no authorization
the bearer scheme in capitals is the same scheme         | default | GET /orders ; Authorization: BEARER {live}                    | 200 ; up x-tenant-id: acme ; up no authorization
the key goes, the rest of the request stays              | default | POST /orders?b=2&a=1&b ; x-api-key: {live} ; x-mine: 1 ; body 9 | 200 ; up target /orders?b=2&a=1&b ; up x-mine: 1 ; up body 9
basic credentials beside a key stay as they are          | default | GET /orders ; x-api-key: {live} ; authorization: Basic dTpw    | 200 ; up authorization: Basic dTpw ; up no x-api-key
the same key in both places is one credential            | default | GET /orders ; x-api-key: {live} ; authorization: Bearer {live} | 200 ; up no x-api-key ; up no authorization
an empty x-api-key is no credential, the bearer counts   | default | GET /orders ; x-api-key: ; authorization: Bearer {live}        | 200 ; up x-tenant-id: acme ; up no authorization
an underscore spelling of the header is no credential    | default | GET /orders ; x_api_key: {live}                               | 401 missing_api_key
an underscore spelling of the header goes no further     | default | GET /orders ; x-api-key: {live} ; x_api_key: {second}         | 200 ; up no x_api_key
a query parameter is no credential unless configured     | default | GET /orders?api_key=whatever                                  | 401 missing_api_key
a cookie is no credential unless configured              | default | GET /orders ; cookie: api_key=whatever                        | 401 missing_api_key
a query parameter of that name stays unless configured   | default | GET /orders?api_key=whatever ; x-api-key: {live}              | 200 ; up target /orders?api_key=whatever
a key over the Unix socket is the same                   | socket  | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-id: acme ; up no x-api-key
a key in a HEAD request is the same                      | default | HEAD /orders ; x-api-key: {live}                              | 200 ; up x-tenant-id: acme

a configured header still counts                         | places  | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-id: acme ; up no x-api-key
a key in the query is taken out of it                    | places  | GET /orders?api_key={live}&x=1                                | 200 ; up x-tenant-id: acme ; up target /orders?x=1
a key alone in the query leaves no query                 | places  | GET /orders?api_key={live}                                    | 200 ; up target /orders
an encoded underscore in the name hides nothing          | places  | GET /orders?api%5fkey={live}&x=1                              | 200 ; up x-tenant-id: acme ; up target /orders?x=1
an encoded underscore in capitals hides nothing          | places  | GET /orders?api%5Fkey={live}&x=1                              | 200 ; up x-tenant-id: acme ; up target /orders?x=1
an encoded letter in the name hides nothing              | places  | GET /orders?%61pi_key={live}&x=1                              | 200 ; up x-tenant-id: acme ; up target /orders?x=1
the same key twice in the query never goes on            | places  | GET /orders?api_key={live}&x=1&api_key={live}                 | 400 ambiguous_request
the same key in two spellings never goes on              | places  | GET /orders?api_key={live}&api%5fkey={live}&x=1               | 400 ambiguous_request
another case is another parameter                        | places  | GET /orders?API_KEY=whatever                                  | 401 missing_api_key
an empty parameter is no credential                      | places  | GET /orders?api_key=&x=1                                      | 401 missing_api_key
a parameter without a value is no credential             | places  | GET /orders?api_key                                           | 401 missing_api_key
a longer parameter name is another parameter             | places  | GET /orders?api_key2=whatever                                 | 401 missing_api_key
a parameter in the path part is none                     | places  | GET /orders/api_key=whatever                                  | 401 missing_api_key
a bad key in the query is refused                        | places  | GET /orders?api_key=nonsense                                  | 401 invalid_api_key
a key in the query is refused when unknown               | places  | GET /orders?api_key={stranger}                                | 401 invalid_api_key
a key in a cookie is taken out, other cookies stay       | places  | GET /orders ; cookie: a=1; api_key={live}; b=2                | 200 ; up x-tenant-id: acme ; up cookie: a=1; b=2
a key as the only cookie leaves no cookie                | places  | GET /orders ; cookie: api_key={live}                          | 200 ; up x-tenant-id: acme ; up no cookie
the first cookie may be the key                          | places  | GET /orders ; cookie: api_key={live}; b=2                     | 200 ; up cookie: b=2
a cookie whose name only ends alike is another cookie    | places  | GET /orders ; cookie: my_api_key=whatever                     | 401 missing_api_key
a cookie header of its own does not hide the key         | places  | GET /orders ; cookie: a=1 ; cookie: api_key={live}            | safe
a key in a second cookie header never goes on            | places  | GET /orders ; x-api-key: {live} ; cookie: a=1 ; cookie: api_key={live} | safe
another key in a second cookie header never goes on      | places  | GET /orders ; x-api-key: {live} ; cookie: a=1 ; cookie: api_key={second} | safe
nor does it on an optional route                         | places  | GET /optional ; cookie: a=1 ; cookie: api_key={live}          | safe
nor does it on a route that is off                       | places  | GET /off ; cookie: a=1 ; cookie: api_key={live}               | safe
two cookie headers seen apart are one list of cookies    | places-raw | GET /orders ; cookie: a=1 ; cookie: api_key={live} ; cookie: b=2 | 200 ; up x-tenant-id: acme ; up cookie: a=1; b=2
a key in a cookie over HTTP/2, where cookies come apart  | places  | GRPC /shop.Orders/List ; cookie: a=1 ; cookie: api_key={live} | grpc 0 ; up x-tenant-id: acme ; up cookie: a=1
a key in the query with raw headers                      | places-raw | GET /orders?api%5fkey={live}&x=1                            | 200 ; up x-tenant-id: acme ; up target /orders?x=1
a bad key in a cookie is refused                         | places  | GET /orders ; cookie: api_key=nonsense; b=2                   | 401 invalid_api_key
query and header with one key are one credential         | places  | GET /orders?api_key={live}&x=1 ; x-api-key: {live}            | 200 ; up target /orders?x=1 ; up no x-api-key
query, cookie, header and bearer with one key are one    | places  | GET /orders?api_key={live} ; cookie: api_key={live} ; x-api-key: {live} ; authorization: Bearer {live} | 200 ; up target /orders ; up no cookie ; up no x-api-key ; up no authorization

forward_key hands the key on                             | renamed | GET /orders ; x-acme-auth: {live}                             | 200 ; up x-acme-auth: {live} ; up x-acme-tenant-id: acme ; up x-acme-key-id: {live.id}
a header that is no longer configured is no credential   | renamed | GET /orders ; x-api-key: {live}                               | 401 missing_api_key
"#;
