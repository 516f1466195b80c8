//! The one integration-test binary: what a caller of the real product sees.
#![allow(
    clippy::disallowed_methods,
    reason = "tests own their runtime, their environment and their patience"
)]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper of a test fails as a test does"
)]

mod envoy;
mod harness;
mod tour;
