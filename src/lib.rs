//! Keystile: an API-key authorization sidecar for service meshes.
//!
//! Modules in reading order: vocabulary, pure mechanisms, state, use cases, protocols, wiring.
//! `docs/ARCHITECTURE.md` has the map and what may depend on what.

pub mod clock;
pub mod domain;

pub mod crypto;

pub mod store;

pub mod registry;

pub mod admin;
pub mod proto;
pub mod status;

pub mod cli;
pub mod config;
pub mod keyfile;
