//! The nouns of the product: plain data with its rules, no I/O, no async, no stored or wire form.
//!
//! A value of these types is valid by construction: whoever parses input at an edge gets either the
//! value or an [`name::InvalidName`] that says which rule was broken.
#![warn(missing_docs)]

pub mod access;
pub mod block;
pub mod change;
pub mod decision;
pub mod governance;
pub mod key;
pub mod limit;
pub mod name;
pub mod network;
pub mod pause;
pub mod plan;
pub mod request;
pub mod role;
pub mod route;
pub mod san;
pub mod tenant;
pub mod text;
pub mod version;
