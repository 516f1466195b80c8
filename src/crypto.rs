//! What is protected, from whom, and with which algorithms.
//!
//! | what | how | who can open it |
//! |---|---|---|
//! | a token at rest | HMAC-SHA-256 under the lookup key ([`digest`]) | nobody; it can only be recognised |
//! | a token kept for `RevealKey` | AES-256-GCM under the tenant's vault data key ([`envelope`]) | who has the `vault` keyring |
//! | every record | AES-256-GCM under the tenant's data key ([`envelope`]) | who has the `data` keyring |
//! | the context that upstreams get | Ed25519 ([`signing`]) | everybody; only who has the `signing` keyring can make it |
//! | a data key | AES-256-GCM under a key-encryption key ([`keyring`]) | who has that keyring |
//!
//! Nothing here reads a clock, a file or the environment; randomness is passed in.
#![warn(missing_docs)]

pub mod digest;
pub mod envelope;
pub mod keyring;
pub mod secret;
pub mod signing;
pub mod token;
