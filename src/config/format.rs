//! The `format` names of the schema and the rule behind each.

use super::kubernetes::{Amount, EntryName, ImageName, ObjectName};
use super::listen::ListenAddr;
use super::quantity::{ByteSize, HumanDuration};
use super::text::{
    ClaimName, ClaimValue, CookieName, FilePath, Group, HeaderName, HeaderPrefix, Method,
    QueryName, RedisPrefix, RedisUser, ServiceName, SocketMode, Text, TokenParty, TokenPrefix,
    VariableName,
};
use super::url::{JwksUrl, RedisNode, RedisUrl};
use crate::domain::block::nat64::Nat64Prefix;
use crate::domain::limit::{Quota, Rate};
use crate::domain::name::{Feature, PlanName, Scope, TenantId};
use crate::domain::route::{HostPattern, PathTemplate};
use crate::domain::san::SanPattern;

pub(super) struct Format {
    pub name: &'static str,
    /// What to write, for a value of the wrong type.
    pub example: &'static str,
    pub check: fn(&str) -> Result<(), String>,
}

const fn of<T: Text>() -> Format {
    Format {
        name: T::FORMAT,
        example: T::EXAMPLE,
        check: |text| T::read(text).map(drop),
    }
}

pub(super) const FORMATS: &[Format] = &[
    of::<HumanDuration>(),
    of::<ByteSize>(),
    of::<ListenAddr>(),
    of::<HeaderName>(),
    of::<HeaderPrefix>(),
    of::<QueryName>(),
    of::<CookieName>(),
    of::<TokenPrefix>(),
    of::<TokenParty>(),
    of::<ClaimName>(),
    of::<ClaimValue>(),
    of::<JwksUrl>(),
    of::<VariableName>(),
    of::<Group>(),
    of::<Feature>(),
    of::<Scope>(),
    of::<Method>(),
    of::<HostPattern>(),
    of::<PathTemplate>(),
    of::<Rate>(),
    of::<Quota>(),
    of::<PlanName>(),
    of::<TenantId>(),
    of::<FilePath>(),
    of::<SanPattern>(),
    of::<Nat64Prefix>(),
    of::<RedisUrl>(),
    of::<RedisNode>(),
    of::<RedisUser>(),
    of::<RedisPrefix>(),
    of::<ServiceName>(),
    of::<SocketMode>(),
    of::<ImageName>(),
    of::<ObjectName>(),
    of::<EntryName>(),
    of::<Amount>(),
];

pub(super) fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
