//! What the tests of the service share: a store that does as it is told, and a small world on top of it.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod fault_store;
pub(crate) mod program;
pub(crate) mod world;
