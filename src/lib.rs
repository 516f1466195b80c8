//! Keystile: an API-key authorization sidecar for service meshes.
//!
//! Modules in reading order: vocabulary, pure mechanisms, state, use cases, protocols, wiring.
//! `docs/ARCHITECTURE.md` has the map and what may depend on what.

// vocabulary
pub mod clock;
pub mod domain;

// mechanisms
pub mod crypto;
pub mod file_access;
pub mod oidc;
pub mod sharded;

// state
pub mod cache;
pub mod limiter;
pub mod store;
pub mod telemetry;

// use cases
pub mod authorizer;
pub mod check;
pub mod migrate;
pub mod registry;

// protocols
pub mod abuse;
pub mod admin;
pub mod ext_authz;
pub mod grpc;
pub mod proto;
pub mod status;

// wiring
pub mod cli;
pub mod config;
pub mod injector;
pub mod keyfile;
pub mod server;
