//! The integration tests: one binary, one module a subject.
#![allow(
    clippy::disallowed_methods,
    reason = "tests own their runtime, their environment and their patience"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod abuse;
mod admin;
mod any_request;
mod bad_input;
mod cache;
mod cli;
mod crash;
mod envoy;
mod examples;
mod governance;
mod harness;
mod image;
mod kubernetes;
mod limiter;
mod model;
mod oidc;
mod outage;
mod redis;
mod redis_store;
mod rest;
mod secrets_never_leak;
mod security;
mod server;
mod signed_context;
mod store_contract;
mod support;
mod tidy;
mod tls;
mod tour;
mod two_hops;
