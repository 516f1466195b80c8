//! The Lua scripts: each changes one slot, as a whole or not at all. Their headers say what KEYS and ARGV are.
//!
//! They are sent by hash; a server that does not know one (a new primary, after `SCRIPT FLUSH`) is sent the text. A
//! sidecar may not do that under the rules of [`super::acl`]: what it runs, control planes keep loaded on every primary.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($name:ident = [$($file:literal),+];)*) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+)));
    )*};
}

scripts! {
    CLAIM_ROOT = ["claim_root"];
    BEGIN = ["begin"];
    END = ["end"];
    FORGET = ["forget"];
    CLAIM = ["claim"];
    UNCLAIM = ["unclaim"];
    WRITE_INDEX = ["write_index"];
    MARK_REVOKED = ["mark_revoked"];
    REMOVE_INDEX = ["remove_index"];
    DROP_INDEX = ["drop_index"];
    COMMIT_KEY = ["common", "keys", "commit_key"];
    FINISH_REVOKE = ["common", "keys", "finish_revoke"];
    CONFIRM = ["common", "confirm"];
    COMMIT_TENANT = ["common", "commit_tenant"];
    APPEND_AUDIT = ["common", "append_audit"];
    DELETE_TENANT = ["common", "delete_tenant"];
    MEND = ["mend"];
    LOOK = ["seen", "look"];
    PUT = ["seen", "put"];
    PUT_KEY = ["put_key"];
    FORBID = ["forbid"];
    COUNTED = ["common", "counted"];
    RECOUNT = ["common", "recount"];
    RETELL = ["retell"];
    SUM = ["sum"];
    LISTS = ["lists"];
    UNLIST = ["unlist"];
    REMEMBER = ["remember"];
    LEASE = ["lease"];
    PENDING = ["common", "pending"];
    STATE = ["common", "state"];
    PAGE = ["page"];
    PAGE_OF_OWNER = ["page_of_owner"];
    MISSING_OWNERS = ["missing_owners"];
    REMOVE_OWNERS = ["remove_owners"];
    SETTLE = ["settle"];
}

/// What sidecars run.
pub(super) fn of_sidecars() -> [&'static Script; 1] {
    [&SETTLE]
}
