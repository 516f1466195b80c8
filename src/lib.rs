//! Keystile: an API-key authorization sidecar for service meshes.
