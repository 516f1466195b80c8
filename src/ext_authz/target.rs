//! What a request asks for.

/// Method, host and path of a request, as the upstream gets them unless a route rewrites them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) method: &'a [u8],
    pub(super) authority: &'a [u8],
    /// With its query; empty for CONNECT.
    pub(super) path: &'a [u8],
}
