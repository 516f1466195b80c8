//! The integration tests: one binary, one module a subject.
#![allow(clippy::disallowed_methods, reason = "tests own their runtime")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admin;
mod cli;
mod crash;
mod store_contract;
