use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER
        .decode(text.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

/// The Galois/Counter Mode of Operation (McGrew, Viega; the vectors of SP 800-38D's submission), test cases 13 to 16.
#[test]
fn aes_256_gcm_gives_the_published_vectors() {
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    let cases = [
        (
            &*"0".repeat(64),
            "000000000000000000000000",
            "",
            "",
            "",
            "530f8afbc74536b9a963b4f1c4cb738b",
        ),
        (
            &*"0".repeat(64),
            "000000000000000000000000",
            "",
            "00000000000000000000000000000000",
            "cea7403d4d606b6e074ec5d3baf39d18",
            "d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            key,
            "cafebabefacedbaddecaf888",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            plain,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (key, nonce, aad, plain, sealed, tag) in cases {
        let cipher = Aes256Gcm::new(&hex::<32>(key).into());
        let body: Vec<u8> = HEXLOWER
            .decode(format!("{nonce}{sealed}{tag}").as_bytes())
            .unwrap();
        let opened = open_body(&cipher, &HEXLOWER.decode(aad.as_bytes()).unwrap(), &body).unwrap();
        assert_eq!(HEXLOWER.encode(&opened), plain);
    }
}

fn key(id: u64) -> DataKey {
    DataKey::new(id, SecretBytes::take(&mut [3; 32]))
}

const PLACE: Place<'static> = Place {
    kind: Kind::Index,
    tenant: "acme",
    key: "k1234567",
    generation: 2,
    lookup_id: Some(LookupId([9; 16])),
};

#[test]
fn what_was_sealed_opens_at_its_place_and_its_header_tells_where() {
    let sealed = seal(&key(7), &PLACE, b"content", &mut rand::rng());
    assert_eq!(*open(&key(7), &PLACE, &sealed).unwrap(), b"content");
    let (header, _) = header(&sealed).unwrap();
    assert_eq!(
        (header.tenant, header.key, header.generation, header.dek_id),
        ("acme", "k1234567", 2, 7)
    );
}

#[test]
fn a_record_does_not_open_at_any_other_place() {
    let sealed = seal(&key(7), &PLACE, b"content", &mut rand::rng());
    let others = [
        Place {
            kind: Kind::Key,
            ..PLACE
        },
        Place {
            tenant: "acmf",
            ..PLACE
        },
        Place {
            key: "k1234568",
            ..PLACE
        },
        Place {
            generation: 3,
            ..PLACE
        },
        Place {
            lookup_id: Some(LookupId([8; 16])),
            ..PLACE
        },
        Place {
            lookup_id: None,
            ..PLACE
        },
        // Moving a character from one part to the next must not give the same AAD.
        Place {
            tenant: "acmek",
            key: "1234567",
            ..PLACE
        },
    ];
    for other in others {
        assert_eq!(
            open(&key(7), &other, &sealed).unwrap_err(),
            OpenError::Broken,
            "{other:?}"
        );
        // An attacker who rewrites the clear header to match gains nothing: the AAD still differs.
        let mut forged = seal(&key(7), &other, b"content", &mut rand::rng());
        let (_, body) = header(&sealed).unwrap();
        let head = forged.len() - body.len();
        forged.truncate(head);
        forged.extend_from_slice(body);
        assert_eq!(
            open(&key(7), &other, &forged).unwrap_err(),
            OpenError::Broken,
            "{other:?}"
        );
    }
}

#[test]
fn another_data_key_is_told_apart_from_a_broken_seal() {
    let sealed = seal(&key(7), &PLACE, b"content", &mut rand::rng());
    assert_eq!(
        open(&key(8), &PLACE, &sealed).unwrap_err(),
        OpenError::OtherDataKey
    );
    let other = DataKey::new(7, SecretBytes::take(&mut [4; 32]));
    assert_eq!(
        open(&other, &PLACE, &sealed).unwrap_err(),
        OpenError::Broken
    );
}

#[test]
fn two_seals_of_one_content_differ() {
    let seal = || seal(&key(7), &PLACE, b"content", &mut rand::rng());
    assert_ne!(seal(), seal());
}

proptest! {
    #[test]
    fn no_flipped_bit_and_no_cut_opens(plain: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
        let sealed = seal(&key(7), &PLACE, &plain, &mut rand::rng());
        prop_assert_eq!(&*open(&key(7), &PLACE, &sealed).unwrap(), &plain);
        let at = at.index(sealed.len());
        let mut flipped = sealed.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(open(&key(7), &PLACE, &flipped).is_err());
        prop_assert!(open(&key(7), &PLACE, &sealed[..at]).is_err());
    }

    #[test]
    fn no_input_makes_the_opener_panic(bytes: Vec<u8>) {
        prop_assert!(open(&key(7), &PLACE, &bytes).is_err());
    }
}
