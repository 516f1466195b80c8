//! What a request asks for.

/// What is asked for, as it will reach the upstream unless a route rewrites it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) method: &'a [u8],
    pub(super) authority: &'a [u8],
    /// With its query; empty for CONNECT.
    pub(super) path: &'a [u8],
}
