//! What each role may call, on its own tenant and on another.

/// Expected outcomes, short enough for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Outcome {
    Allowed,
    Denied,
    Hidden,
}

use Outcome::{Allowed, Denied, Hidden};

pub(in crate::admin) type Row = (&'static str, [Outcome; 2], [Outcome; 2], [Outcome; 2]);

/// RPC; then for each role the outcome on its own tenant and on another. A key belongs to another owner.
#[rustfmt::skip]
pub(in crate::admin) const TABLE: &[Row] = &[
    //                  user               tenant_admin       global_admin
    ("CreateTenant",  [Denied,  Denied],  [Denied,  Denied],  [Allowed, Allowed]),
    ("BatchCreateTenants", [Denied, Denied], [Denied, Denied], [Allowed, Allowed]),
    ("GetTenant",     [Denied,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("ListTenants",   [Denied,  Denied],  [Denied,  Denied],  [Allowed, Allowed]),
    ("UpdateTenant",  [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("SuspendTenant", [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("ResumeTenant",  [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("CreateKey",     [Denied,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("CreateAdmin",   [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("BatchCreateKeys", [Denied, Hidden], [Allowed, Hidden],  [Allowed, Allowed]),
    ("BatchOfMany",   [Denied,  Denied],  [Denied,  Denied],  [Allowed, Allowed]),
    ("ImportKeys",    [Denied,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("ImportAdmin",   [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("GetKey",        [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("ListKeys",      [Allowed, Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("UpdateKey",     [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("UpdateAdmin",   [Hidden,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("RotateKey",     [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RotateAdmin",   [Hidden,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    // The tokens of this table are nobody's in truth.
    ("ClaimKey",      [Hidden,  Hidden],  [Hidden,  Hidden],  [Hidden,  Hidden]),
    ("RevealKey",     [Denied,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RevealAdmin",   [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("RenewKey",      [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RenewAdmin",    [Hidden,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("PauseKey",      [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("PauseAdmin",    [Hidden,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("ResumeKey",     [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("ResumeAdmin",   [Hidden,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    ("RevokeKey",     [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RevokeAdmin",   [Hidden,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
    // By keys of other owners: each revokes what it was called with.
    ("RevokeSelf",    [Allowed, Allowed], [Allowed, Allowed], [Allowed, Allowed]),
    ("RevokeAllKeys", [Denied,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RevokeAllOfOne", [Denied, Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RevokeAllOfMine", [Allowed, Hidden], [Allowed, Hidden], [Allowed, Allowed]),
    ("RevokeToken",   [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("RevokeAtLookupId", [Denied, Denied], [Denied, Denied],  [Hidden,  Hidden]),
    ("VerifyKey",     [Hidden,  Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("ListSidecars",  [Denied,  Denied],  [Denied,  Denied],  [Allowed, Allowed]),
    ("ListBlocks",    [Denied,  Denied],  [Denied,  Denied],  [Allowed, Allowed]),
    ("ClearBlocks",   [Denied,  Denied],  [Denied,  Denied],  [Allowed, Allowed]),
    ("GetKeyLimits",  [Allowed, Hidden],  [Allowed, Hidden],  [Allowed, Allowed]),
    ("UpdateKeyLimits", [Denied, Hidden], [Allowed, Hidden],  [Allowed, Allowed]),
    ("GetSystemConfig", [Denied, Denied], [Denied,  Denied],  [Allowed, Allowed]),
    ("DeleteTenant",  [Denied,  Hidden],  [Denied,  Hidden],  [Allowed, Allowed]),
];
