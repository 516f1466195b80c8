use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn keyring(ring: Ring) -> Keyring {
    Keyring::generate(ring, NOW, &mut rand::rng())
}

#[test]
fn a_keyring_survives_its_file() {
    let mut made = keyring(Ring::Data);
    made.rotate(NOW, &mut rand::rng());
    let dek = DataKey::generate(&mut rand::rng());
    let wrapped = made.wrap("acme", &dek, &mut rand::rng());
    let read = Keyring::parse(&made.to_text(), Ring::Data).unwrap();
    assert_eq!((read.id(), read.versions()), (made.id(), made.versions()));
    assert!(
        read.unwrap("acme", &wrapped)
            .unwrap()
            .secret()
            .same_as(dek.secret())
    );
    let digest = made.lookup_key().unwrap().digest("token");
    assert!(
        read.lookup_key()
            .unwrap()
            .digest("token")
            .matches(digest.as_bytes())
    );
}

#[test]
fn a_rotated_keyring_still_opens_what_the_old_version_wrapped() {
    let mut keyring = keyring(Ring::Vault);
    let dek = DataKey::generate(&mut rand::rng());
    let old = keyring.wrap("acme", &dek, &mut rand::rng());
    assert_eq!(keyring.rotate(NOW, &mut rand::rng()), 2);
    let new = keyring.wrap("acme", &dek, &mut rand::rng());
    for wrapped in [old, new] {
        assert!(
            keyring
                .unwrap("acme", &wrapped)
                .unwrap()
                .secret()
                .same_as(dek.secret())
        );
    }
}

#[test]
fn a_data_key_is_bound_to_its_tenant_and_ring() {
    let data = keyring(Ring::Data);
    let wrapped = data.wrap(
        "acme",
        &DataKey::generate(&mut rand::rng()),
        &mut rand::rng(),
    );
    assert_eq!(
        data.unwrap("evil", &wrapped).unwrap_err(),
        UnwrapError::Broken(OpenError::Broken)
    );
    assert_eq!(
        keyring(Ring::Data).unwrap("acme", &wrapped).unwrap_err(),
        UnwrapError::Broken(OpenError::Broken)
    );
    let mut newer = wrapped.clone();
    newer[4] = 9;
    assert_eq!(
        data.unwrap("acme", &newer).unwrap_err(),
        UnwrapError::UnknownVersion(9)
    );
    for at in 0..wrapped.len() {
        let mut flipped = wrapped.clone();
        flipped[at] ^= 1;
        assert!(data.unwrap("acme", &flipped).is_err(), "byte {at}");
        assert!(data.unwrap("acme", &wrapped[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn each_kind_of_bad_file_has_its_own_message() {
    let good = keyring(Ring::Data).to_text();
    let parse = |text: &str| Keyring::parse(text, Ring::Data).unwrap_err();
    assert_eq!(parse(""), KeyringError::NotAKeyring);
    assert_eq!(parse("{}"), KeyringError::NotAKeyring);
    assert_eq!(parse(&good[..good.len() / 2]), KeyringError::CutShort);
    assert_eq!(parse(&good[..good.len() - 9]), KeyringError::CutShort);
    assert_eq!(
        parse(&good.replace("kek 1", "kek 2")),
        KeyringError::Damaged
    );
    let vault = keyring(Ring::Vault).to_text();
    assert_eq!(
        parse(&vault),
        KeyringError::OtherRing {
            found: "vault",
            wanted: "data"
        }
    );
}

#[test]
fn a_single_key_makes_the_same_keyring_each_time() {
    let text = BASE64.encode(&[5; 32]);
    let make = || Keyring::from_single_key(Ring::Data, &text).unwrap();
    assert_eq!(make().id(), make().id());
    let digest = make().lookup_key().unwrap().digest("token");
    assert!(
        make()
            .lookup_key()
            .unwrap()
            .digest("token")
            .matches(digest.as_bytes())
    );
    assert_eq!(
        Keyring::from_single_key(Ring::Data, "c2hvcnQ=").unwrap_err(),
        KeyringError::NotASingleKey
    );
}

#[test]
fn nothing_secret_shows_in_debug() {
    let keyring = keyring(Ring::Data);
    let shown = format!("{keyring:#?}");
    assert_eq!(
        shown,
        format!("Keyring(data {}, active version 1)", keyring.id())
    );
}
