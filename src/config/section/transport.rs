//! How a listener is reached and by whom, as written: TLS, certificates with a role, Unix sockets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::text::{FilePath, Group, SocketMode};
use crate::config::{ClientRole, TlsVersion};
use crate::domain::name::TenantId;
use crate::domain::san::SanPattern;

section! {
    Tls {
        /// The certificate and its chain in PEM, the server's own certificate first. Read again when it changes,
        /// and on SIGHUP; so are the other two files.
        pub cert_file: FilePath,
        /// The certificate's private key in PEM. Only its owner may be able to read the file.
        pub key_file: FilePath,
        /// Certificates in PEM that sign the clients'. When it is there, a client without a certificate is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub client_ca_file: Option<FilePath>,
        /// Names of which a client's certificate must have one: `dns:envoy.mesh` or
        /// `uri:spiffe://mesh/ns/*/sa/envoy`. A `*` stands for exactly one label of a DNS name or one segment of a
        /// URI's path. Empty: every client of the CA.
        #[serde(default)]
        #[schemars(length(max = 1024), extend("uniqueItems" = true))]
        pub client_sans: Vec<SanPattern>,
        /// The oldest version of TLS that is spoken.
        #[serde(default)]
        pub min_version: TlsVersion,
    }
}

section! {
    ClientEntry {
        /// A certificate's name, written as in `tls.client_sans`.
        pub san: SanPattern,
        /// What its holder may do.
        #[schemars(extend("x-refused" = json!({
            "user": "a `user` reaches the keys of one owner, and a certificate has none; write `tenant_admin` or `global_admin`, or give its holder an API key"
        })))]
        pub role: ClientRole,
        /// The tenant that a `tenant_admin` administers. Not for a `global_admin`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<TenantId>,
    }
}

section! {
    #[serde(default)]
    UnixSocket {
        /// Permission bits, as octal text in quotes.
        pub mode: SocketMode,
        /// Group that owns the socket, by name or number. Absent: the group of the process.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub group: Option<Group>,
    }
}
