//! The limits on keys that follow from a configuration, before those that are set at run time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Form, with_sources};
use crate::config::Loaded;
use crate::domain::governance::{EffectiveKeyLimit, KeyLimits, KeyRules, limit_field};
use crate::domain::name::TenantId;
use crate::domain::role::Role;

/// What the tenants are called that have no limits of their own.
const OTHERS: &str = "all others";
/// Between two columns.
const GAP: usize = 2;

/// Prints the configuration with its sources and what follows from it.
pub(super) fn show(loaded: &Loaded, form: Form, out: &mut impl Write) -> io::Result<()> {
    let rules = loaded.config.key_rules();
    let rows = rows(&rules);
    match form {
        Form::Yaml => {
            write!(out, "{}", loaded.effective.to_yaml(true))?;
            write!(out, "{}", comment(&rules, &rows))
        }
        Form::Json => {
            let mut all = with_sources(loaded);
            all["key_limits"] = rows
                .iter()
                .map(|(tenant, limits)| json_of(tenant, limits))
                .collect();
            writeln!(out, "{all:#}")
        }
    }
}

/// A tenant, or those that have nothing of their own, and its limits in the order of the roles.
type Row = (String, [EffectiveKeyLimit; 3]);

fn rows(rules: &KeyRules) -> Vec<Row> {
    let row = |rules: &KeyRules, tenant: &TenantId| {
        Role::ALL.map(|role| rules.limit(tenant, &KeyLimits::default(), role))
    };
    let tenants = rules.tenants.keys();
    let mut rows: Vec<Row> = tenants
        .map(|tenant| (tenant.to_string(), row(rules, tenant)))
        .collect();
    let of_nobody = KeyRules {
        tenants: BTreeMap::new(),
        ..rules.clone()
    };
    let anybody = TenantId::parse("anybody").expect("seven letters are a tenant id");
    rows.push((OTHERS.to_owned(), row(&of_nobody, &anybody)));
    rows
}

fn json_of(tenant: &str, limits: &[EffectiveKeyLimit; 3]) -> Value {
    let tenant = (tenant != OTHERS).then_some(tenant);
    let mut row = json!({"tenant_id": tenant});
    for (role, limit) in Role::ALL.into_iter().zip(limits) {
        row[limit_field(role)] = json!({"value": limit.max, "source": limit.source.as_str()});
    }
    row
}

fn comment(rules: &KeyRules, rows: &[Row]) -> String {
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|(tenant, [user, tenant_admin, global_admin])| {
            let cell =
                |limit: &EffectiveKeyLimit| format!("{} ({})", limit.max, limit.source.as_str());
            [
                tenant.clone(),
                cell(user),
                cell(tenant_admin),
                cell(global_admin),
            ]
        })
        .collect();
    let head = ["tenant", "user", "tenant_admin", "global_admin"].map(str::to_owned);
    let all = || std::iter::once(&head).chain(&cells);
    let width = |column: usize| all().map(|row| row[column].len()).max().unwrap_or(0) + GAP;
    let widths = [0, 1, 2, 3].map(width);
    let mut text = "# Keys that an owner may have, by the role of the next one:\n".to_owned();
    for row in all() {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(&format!("#   {}\n", line.trim_end()));
    }
    if let Some(total) = rules.max_total() {
        text.push_str(&format!(
            "# All tenants together: {total} (global_override)\n"
        ));
    }
    text
}
