//! An item of `authz.credentials`, as written.

use crate::config::text::{CookieName, HeaderName, QueryName};
use crate::ext_authz::credential::CredentialSource;

one_of!(CredentialSource {
    /// A header that holds the key and nothing else.
    "header" = Header(HeaderName),
    /// A header that holds `Bearer` and the key.
    "bearer" = Bearer(HeaderName),
    /// A query parameter.
    "query" = Query(QueryName),
    /// A cookie.
    "cookie" = Cookie(CookieName),
});
