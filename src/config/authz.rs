//! What the section `authz` says.

use std::time::Duration;

use super::{
    ListenAddr, MethodOverride, PathOverride, PathVariants, RouteConfig, SignedContextConfig,
    TlsConfig, TrustedHopConfig, UnixSocketConfig,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthzConfig {
    pub listen: Vec<ListenAddr>,
    pub unix_socket: UnixSocketConfig,
    pub tls: Option<TlsConfig>,
    /// Whether plain text may leave the machine.
    pub insecure: bool,
    /// On all addresses together.
    pub max_connections: usize,
    /// After which a connection on which nothing is asked is closed.
    pub idle_timeout: Duration,
    /// Threads that serve checks; 0 is one per CPU.
    pub workers: usize,
    /// In the order they are tried; names of headers are in lower case.
    pub credentials: Vec<CredentialSource>,
    pub forward_key: bool,
    pub tenant_header_prefix: String,
    pub key_header_prefix: String,
    pub max_message_bytes: usize,
    pub store_timeout: Duration,
    /// The first that matches decides.
    pub routes: Vec<RouteConfig>,
    /// `None`: refused as soon as a rule names methods.
    pub method_override: Option<MethodOverride>,
    /// `None`: refused as soon as a rule has a path.
    pub path_override: Option<PathOverride>,
    pub path_variants: PathVariants,
    /// `None`: upstreams get no signed token.
    pub signed_context: Option<SignedContextConfig>,
    /// `None`: no signed context proves a request.
    pub trusted_hop: Option<TrustedHopConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    Header(String),
    Bearer(String),
    Query(String),
    Cookie(String),
}
