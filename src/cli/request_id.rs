//! Ids for creates: a create that is sent again because the answer was lost must not make a second thing.

use rand::Rng as _;
use sha2::{Digest as _, Sha256};

/// A UUID of version 4.
pub(super) fn new() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    of(bytes)
}

/// The same UUID for the same words, whoever asks and whenever: what was begun can be gone on with by another run.
pub(super) fn of_words(words: &[&str]) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.len().to_be_bytes());
        hash.update(word);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    of(bytes)
}

fn of(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let cut = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    cut.join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_a_uuid_of_version_4() {
        assert_eq!(
            super::of([0xff; 16]),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
        assert_ne!(super::new(), super::new());
    }

    #[test]
    fn the_same_words_give_the_same_id() {
        let id = super::of_words;
        assert_eq!(id(&["a", "b"]), id(&["a", "b"]));
        assert_ne!(id(&["a", "b"]), id(&["ab", ""]));
    }
}
