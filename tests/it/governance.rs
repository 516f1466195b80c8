//! Limits on keys in real processes: what the command line says of them, how they hold when many ask at once, and how a
//! new configuration is taken.

mod audit;
mod commands;
mod contention;
mod reload;
mod storm;
