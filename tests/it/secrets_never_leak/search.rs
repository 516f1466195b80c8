//! Looks for a secret in whatever form it may have got out.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// What nobody may find.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

impl Secret {
    /// A token: its secret part is as secret as the whole, which contains it.
    pub(crate) fn token(name: &'static str, token: &str) -> Self {
        let text = match token.strip_prefix("ks_live_") {
            Some(rest) => rest.chars().take(43).collect(),
            None => token.to_owned(),
        };
        Self { name, text }
    }

    /// Every spelling to look for.
    fn spellings(&self) -> Vec<(&'static str, String)> {
        let bytes = self.text.as_bytes();
        let list = format!("{bytes:?}");
        let mut all = vec![
            ("plain", self.text.clone()),
            ("lower case", self.text.to_ascii_lowercase()),
            ("hex", HEXLOWER.encode(bytes)),
            ("HEX", HEXUPPER.encode(bytes)),
            ("list of bytes", list[1..list.len() - 1].to_owned()),
            ("backwards", self.text.chars().rev().collect()),
        ];
        // Base64 of something longer that holds the secret: it may begin at any of three offsets.
        for offset in 0..3 {
            let shifted = [&vec![0; offset], bytes].concat();
            let inner = |text: String| {
                let end = shifted.len() / 3 * 4;
                text[(offset * 8).div_ceil(6)..end].to_owned()
            };
            all.push(("base64", inner(BASE64_NOPAD.encode(&shifted))));
            all.push(("base64url", inner(BASE64URL_NOPAD.encode(&shifted))));
        }
        all
    }
}

/// Where the secrets are found: the name of the haystack, of the secret, and its form.
pub(crate) fn leaks(haystacks: &[(String, Vec<u8>)], secrets: &[Secret]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, bytes) in haystacks {
        // Secrets and their spellings are ASCII, which stays as it is; the search of texts is fast.
        let text = String::from_utf8_lossy(bytes);
        for secret in secrets {
            for (form, spelling) in secret.spellings() {
                if text.contains(&spelling) {
                    found.push(format!("{} ({form}) in {place}", secret.name));
                }
            }
        }
    }
    found
}

#[test]
fn a_secret_is_found_in_every_form_that_it_may_have() {
    let token = "ks_live_4Yk0Qm5Zr8tVb2Nc7Xd1Lf6Hg9Jp3Ws5Ea0Ui8Oy2Tq4RzAbCdEf";
    let secret = Secret::token("canary", token);
    assert_eq!(secret.text.len(), 43);
    let around = |text: String| (String::new(), format!("a{text}z").into_bytes());
    let json = format!("{{\"key\":\"{token}\"}}").into_bytes();
    let planted = [
        around(token.to_owned()),
        around(format!("Bearer {token}")),
        around(HEXLOWER.encode(token.as_bytes())),
        around(HEXUPPER.encode(token.as_bytes())),
        around(BASE64_NOPAD.encode(token.as_bytes())),
        around(BASE64_NOPAD.encode(&json)),
        around(BASE64URL_NOPAD.encode(&[&b"x"[..], &json].concat())),
        around(BASE64URL_NOPAD.encode(&[&b"xy"[..], &json].concat())),
        around(format!("{:?}", token.as_bytes())),
        around(format!("{:?}", bytes::Bytes::from(token))),
    ];
    for haystack in planted {
        let text = String::from_utf8_lossy(&haystack.1).into_owned();
        assert!(
            !leaks(&[haystack], std::slice::from_ref(&secret)).is_empty(),
            "{text}"
        );
    }
    let harmless = around("ks_live_4Yk0".to_owned());
    assert_eq!(leaks(&[harmless], &[secret]), [""; 0], "a hint is no leak");
}
