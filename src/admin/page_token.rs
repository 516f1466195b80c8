//! Page tokens: opaque, authenticated, bound to the query that they continue.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tonic::Status;
use tonic_types::FieldViolation;

use crate::admin::convert::bad;
use crate::domain::name::InvalidName;
use crate::status;

const MAC_LEN: usize = 16;
/// The longest position is a tenant id of 63 characters: a longer token cannot be ours.
const TOKEN_LEN_MAX: usize = 128;

/// Page size when a request names none.
pub(super) const PAGE_SIZE_DEFAULT: usize = 50;
/// The largest page.
pub(super) const PAGE_SIZE_MAX: usize = 1000;

/// Makes and checks page tokens.
#[derive(Clone)]
pub(super) struct PageTokens(Hmac<Sha256>);

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTokens(..)")
    }
}

impl PageTokens {
    /// Tokens under a key; every replica needs the same.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)"))
    }

    /// The token that continues `query` after `position`.
    pub(super) fn seal(&self, query: &str, position: &str) -> String {
        let mut bytes = self.mac(query, position).to_vec();
        bytes.extend_from_slice(position.as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The position of a token that was made for the same query.
    pub(super) fn open(&self, query: &str, token: &str) -> Result<String, FieldViolation> {
        let refused = || {
            FieldViolation::new(
                "page_token",
                "must be the `next_page_token` of the same query, unchanged",
            )
        };
        if token.len() > TOKEN_LEN_MAX {
            return Err(refused());
        }
        let bytes = BASE64URL_NOPAD
            .decode(token.as_bytes())
            .map_err(|_| refused())?;
        let (mac, position) = bytes.split_first_chunk::<MAC_LEN>().ok_or_else(refused)?;
        let position = std::str::from_utf8(position).map_err(|_| refused())?;
        let same = subtle::ConstantTimeEq::ct_eq(&mac[..], &self.mac(query, position)[..]);
        if same.into() {
            Ok(position.to_owned())
        } else {
            Err(refused())
        }
    }

    /// The position as an id; none at the start of a list.
    pub(super) fn position<Id>(
        &self,
        query: &str,
        token: &str,
        parse: impl Fn(&str) -> Result<Id, InvalidName>,
    ) -> Result<Option<Id>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = self.open(query, token);
        let position = position.map_err(|refused| status::invalid(vec![refused]))?;
        let id = parse(&position);
        id.map(Some)
            .map_err(|error| bad("page_token", error.to_string()))
    }

    fn mac(&self, query: &str, position: &str) -> [u8; MAC_LEN] {
        let mut mac = self.0.clone();
        // The length first, so that query and position cannot run into each other.
        mac.update(&(query.len() as u64).to_be_bytes());
        mac.update(query.as_bytes());
        mac.update(position.as_bytes());
        let mut half = [0; MAC_LEN];
        half.copy_from_slice(&mac.finalize().into_bytes()[..MAC_LEN]);
        half
    }
}

/// The size of the page that a request asks for.
pub(super) fn page_size(asked: i32) -> Result<usize, FieldViolation> {
    match usize::try_from(asked) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(FieldViolation::new("page_size", "must not be negative")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> PageTokens {
        PageTokens::new(&[7; 32])
    }

    #[test]
    fn a_token_continues_its_own_query_and_no_other() {
        let token = tokens().seal("tenants/acme/keys", "k1");
        assert_eq!(tokens().open("tenants/acme/keys", &token).unwrap(), "k1");
        for other in [
            "tenants/evil/keys",
            "tenants/acme/key",
            "tenants/acme/keysk",
            "",
        ] {
            assert!(tokens().open(other, &token).is_err(), "{other}");
        }
        let foreign = PageTokens::new(&[8; 32]);
        assert!(foreign.open("tenants/acme/keys", &token).is_err());
    }

    #[test]
    fn a_forged_token_is_refused_and_names_its_field() {
        let good = tokens().seal("tenants", "acme");
        let mut bytes = BASE64URL_NOPAD.decode(good.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let forged = BASE64URL_NOPAD.encode(&bytes);
            assert!(tokens().open("tenants", &forged).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
        let huge = "A".repeat(1 << 20);
        for bad in ["", "x", "!!!", "YWNtZQ", "acme", huge.as_str()] {
            let refused = tokens().open("tenants", bad).unwrap_err();
            assert_eq!(refused.field, "page_token");
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        for (asked, size) in [
            (0, 50),
            (1, 1),
            (1000, 1000),
            (1001, 1000),
            (i32::MAX, 1000),
        ] {
            assert_eq!(page_size(asked).unwrap(), size);
        }
        assert_eq!(page_size(-1).unwrap_err().field, "page_size");
        assert!(page_size(i32::MIN).is_err());
    }
}
