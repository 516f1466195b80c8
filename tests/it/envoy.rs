//! A real Envoy 1.40 asks the real Keystile; tables say what the upstream and the client receive.
//!
//! `row.rs` explains how a row is written.

mod ambiguity;
mod answers;
mod broken;
mod callers;
mod changes;
mod checker;
mod credentials;
mod expect;
mod flavours;
mod limits;
mod outage;
mod paths;
mod routes;
mod row;
mod rules;
mod spoofing;
mod tenants;
mod world;

use row::Row;
use world::World;

/// Sends every row of the table and reports all those that came out otherwise.
#[track_caller]
fn check(table: &str) {
    let world = World::get();
    let rows: Vec<Row> = row::parse(table);
    world.claim(&rows);
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let problems = expect::problems(world, row);
            (!problems.is_empty())
                .then(|| format!("✗ {}\n      {}", row.text, problems.join("\n      ")))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} rows came out otherwise:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}
