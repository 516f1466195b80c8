//! Keystile: an API-key authorization sidecar for service meshes.

pub mod config;
