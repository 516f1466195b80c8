//! Generated types of the schemas in `proto/`, one module a package.

use std::fmt;

/// `keystile.admin.v1`: the admin API.
pub mod admin {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::use_self,
        missing_debug_implementations,
        unreachable_pub,
        reason = "generated from proto/keystile/admin/v1"
    )]
    tonic::include_proto!("keystile.admin.v1");
}

/// The descriptors of every schema, encoded: for proto3 JSON and for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keystile.bin"));

// By hand, so that the token never reaches a log.
impl fmt::Debug for admin::CreateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key_with_token(f, "CreateKeyResponse", self.key.as_ref())
    }
}

impl fmt::Debug for admin::RotateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key_with_token(f, "RotateKeyResponse", self.key.as_ref())
    }
}

impl fmt::Debug for admin::RevealKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key_with_token(f, "RevealKeyResponse", self.key.as_ref())
    }
}

impl fmt::Debug for admin::ClaimKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key_with_token(f, "ClaimKeyResponse", self.key.as_ref())
    }
}

fn key_with_token(f: &mut fmt::Formatter<'_>, name: &str, key: Option<&admin::Key>) -> fmt::Result {
    f.debug_struct(name)
        .field("key", &key)
        .field("plaintext", &"..")
        .finish()
}

impl fmt::Debug for admin::ImportKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportKeyRequest")
            .field("parent", &self.parent)
            .field("key", &self.key)
            .field("token", &"..")
            .field("request_id", &self.request_id)
            .finish()
    }
}

impl fmt::Debug for admin::VerifyKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKeyRequest")
            .field("token", &"..")
            .field("source_ip", &self.source_ip)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::admin as pb;

    #[test]
    fn a_token_does_not_show_in_debug() {
        let token = "ks_live_secret";
        let answer = pb::CreateKeyResponse {
            key: None,
            plaintext: token.into(),
        };
        let batch = pb::BatchCreateKeysResult {
            result: Some(pb::batch_create_keys_result::Result::Created(
                answer.clone(),
            )),
        };
        let import = pb::ImportKeyRequest {
            token: token.into(),
            ..pb::ImportKeyRequest::default()
        };
        let verify = pb::VerifyKeyRequest {
            token: token.into(),
            ..pb::VerifyKeyRequest::default()
        };
        let rotated = pb::RotateKeyResponse {
            key: None,
            plaintext: token.into(),
        };
        let revealed = pb::RevealKeyResponse {
            key: None,
            plaintext: token.into(),
        };
        let claimed = pb::ClaimKeyResponse {
            key: None,
            plaintext: token.into(),
        };
        assert!(!format!("{claimed:?}").contains("secret"));
        let shown = format!(
            "{revealed:?} {rotated:?} {answer:?} {answer:#?} {batch:?} {import:?} {verify:?}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
