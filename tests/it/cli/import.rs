//! `keystile key import` and `keystile tenant import`.

use std::time::Duration;

use super::world::Account;
use crate::harness::keystile::{Keystile, Settings};
use crate::harness::{ALONE, Stopwatch};

#[test]
fn a_token_of_another_system_works_as_it_is() {
    let account = Account::admin();
    account.done("tenant create legacy");
    account.file("old.txt", "token-of-the-old-system\n");
    let line = "key import legacy --name old --token-file old.txt --scope read -o json";
    let key = account.run(line).json();
    assert_eq!(key["kind"], "KEY_KIND_IMPORTED");
    account.done("key verify --token-file old.txt");
    let again = account.run(line);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("of a key already"), "{again:?}");
}

#[test]
fn a_table_is_imported_with_progress_and_again_without_harm() {
    let account = Account::admin();
    account.done("tenant create table-a");
    account.done("tenant create table-b");
    let mut table = "token,tenant,name,owner,role,scopes,networks,expires_at\n".to_owned();
    for at in 0..600 {
        let tenant = ["table-a", "table-b"][at % 2];
        let role = ["", "tenant_admin"][usize::from(at == 7)];
        table += &format!(
            "imported-token-{at:05},{tenant},key {at},o{at}@example.com,{role},read write,,2999-01-01T00:00:00Z\n"
        );
    }
    account.file("keys.csv", &table);
    let first = account.run("key import --csv keys.csv");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.out, "600 imported, 0 there already, 0 refused\n");
    assert_eq!(first.err, "imported: 500 of 600\nimported: 600 of 600\n");
    // As after a connection that was lost half way: some are there.
    account.file(
        "more.csv",
        &(table + "imported-token-new01,table-a,new,,,,10.0.0.0/8,\n"),
    );
    let second = account.run("key import --csv more.csv -o json").json();
    assert_eq!(second["keys"].as_array().unwrap().len(), 1);
    assert_eq!(second["keys"][0]["allow_cidrs"][0], "10.0.0.0/8");
    assert_eq!(second["existing_lines"].as_array().unwrap().len(), 600);
    let list = account
        .run("key list table-b --filter 'role = TENANT_ADMIN' -o json")
        .json();
    assert_eq!(list["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        list["keys"][0]["scopes"],
        serde_json::json!(["read", "write"])
    );
}

#[test]
fn every_mistake_of_a_table_is_named_and_nothing_is_sent() {
    let account = Account::admin();
    account.done("tenant create careful");
    for (table, expected) in [
        (
            "name,owner,token,scopes,networks,expires_at,role,tenant\n\
             ,,short,\"a,b\",10.0.0.0/99,2020-01-01T00:00:00Z,root,other\n\
             good,,aaaaaaaaaaaaaaaaaaaa,,,,,\n\
             good,no blanks,aaaaaaaaaaaaaaaaaaaa,,,soon,,careful\n",
            "error: keys.csv: 10 mistakes; nothing was sent\n  \
             line 2: tenant is not careful, which the command names\n  \
             line 2: name must be 1 to 128 characters without control, text-direction or invisible characters, no space at either end\n  \
             line 2: role must be user, tenant_admin or global_admin\n  \
             line 2: scopes must be 1 to 64 visible ASCII characters except \" \\ and comma\n  \
             line 2: networks must be a network such as 10.0.0.0/8 or 2001:db8::/32, or one address\n  \
             line 2: expires_at must be in the future\n  \
             line 2: token must be 16 to 512 characters of A-Z a-z 0-9 - . _ ~ + / with = at its end, and one of ours must be whole\n  \
             line 4: owner must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ @ : + / = - |\n  \
             line 4: expires_at must be a time such as 2027-01-31T00:00:00Z\n  \
             line 4: token is that of line 3\n",
        ),
        (
            "name,token,scope\n",
            "error: keys.csv: column 3 has a name that is not known; did you mean scopes?\nhint: the first line names the columns, of tenant, name, owner, role, admin_access, token, scopes, features, networks, description, expires_at, rate, quota\n",
        ),
        (
            "name,token,colour\n",
            "error: keys.csv: column 3 has a name that is not known\nhint: the first line names the columns, of tenant, name, owner, role, admin_access, token, scopes, features, networks, description, expires_at, rate, quota\n",
        ),
        (
            "name\n",
            "error: keys.csv: there is no column token\nhint: the first line names the columns, of tenant, name, owner, role, admin_access, token, scopes, features, networks, description, expires_at, rate, quota\n",
        ),
    ] {
        account.file("keys.csv", table);
        let ended = account.run("key import careful --csv keys.csv");
        assert_eq!((ended.code, ended.err.as_str()), (Some(1), expected));
    }
    account.file("keys.csv", "name,token\na,b,c\n");
    let uneven = account.run("key import careful --csv keys.csv");
    assert!(uneven.err.contains("line 2: has 3 cells"), "{uneven:?}");
    assert_eq!(account.done("key list careful"), "no keys\n");
}

#[test]
fn a_table_of_new_keys_is_made_with_progress_and_gone_on_with_after_an_interruption() {
    let account = Account::admin();
    account.done("tenant create many-a");
    account.done("tenant create many-b");
    let mut table = "tenant,name,owner,scopes\n".to_owned();
    for at in 0..600 {
        let tenant = ["many-a", "many-b"][at % 2];
        table += &format!("{tenant},key {at},o{at}@example.com,read write\n");
    }
    account.file("keys.csv", &table);
    let nowhere = account.run("key create --csv keys.csv");
    assert_eq!(nowhere.code, Some(2), "{nowhere:?}");
    let first = account.run("key create --csv keys.csv --tokens-file tokens.csv");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(
        first.out,
        "600 made, 0 refused\ntokens: 600 in tokens.csv\n"
    );
    assert_eq!(first.err, "made: 500 of 600\nmade: 600 of 600\n");
    let tokens = std::fs::read_to_string(account.dir().join("tokens.csv")).unwrap();
    let token = tokens.lines().nth(1).unwrap().rsplit(',').next().unwrap();
    account.file("token", token);
    account.done("key verify --token-file token");

    // Again, with one more: what is there is given again, and nothing is made twice.
    account.file("more.csv", &(table + "many-a,one more,,\nnobody,x,,\n"));
    let again = account.run("key create --csv more.csv -o json");
    assert_eq!(again.code, Some(1), "{again:?}");
    let again: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(again["keys"].as_array().unwrap().len(), 601);
    assert_eq!(again["keys"][0]["plaintext"], token);
    assert_eq!(again["refused"][0]["line"], 603);
    let list = account.run("key list many-a -o json").json();
    assert_eq!(list["keys"].as_array().unwrap().len(), 301);

    account.file("twice.csv", "name,owner\nci,alice\nci,bob\nci,alice\n");
    let twice = account.run("key create many-a --csv twice.csv -o json");
    assert!(
        twice
            .err
            .contains("line 4: name and owner are those of line 2"),
        "{twice:?}"
    );
}

#[test]
fn a_table_of_tenants_is_made_with_first_keys_and_gone_on_with_after_an_interruption() {
    let account = Account::admin();
    account.file(
        "tenants.csv",
        "tenant,display_name,plan,features,denied_features,metadata,key_name,key_owner,key_scopes\n\
         bulk-a,\"Bulk, A\",pro,export audio,images,region=eu tier=gold,,,\n\
         bulk-b,,,,,,ci,alice,read write\n",
    );
    let begun = account.run("tenant import --csv tenants.csv --tokens-file 1.csv");
    let said =
        "tenants: 2 made, 0 there already\nkeys: 1 made, 0 there already\ntokens: 1 in 1.csv\n";
    assert_eq!(
        (begun.out.as_str(), begun.code),
        (said, Some(0)),
        "{begun:?}"
    );
    assert_eq!(begun.err, "onboarded: 2 of 2\n");
    let tenant = account.run("tenant get bulk-a -o json").json();
    assert_eq!(tenant["display_name"], "Bulk, A");
    assert_eq!(tenant["features"], serde_json::json!(["audio", "export"]));
    assert_eq!(tenant["denied_features"], serde_json::json!(["images"]));
    let metadata = serde_json::json!({"region": "eu", "tier": "gold"});
    assert_eq!(tenant["metadata"], metadata);
    let path = account.dir().join("1.csv");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let first = std::fs::read_to_string(path).unwrap();
    let (header, row) = first.split_once('\n').unwrap();
    assert_eq!(header, "tenant,key_id,name,owner,token");
    let token = row.trim().rsplit(',').next().unwrap();
    account.file("token", token);
    account.done("key verify --token-file token");

    // Again, with a key for each now: what is there stays, and its token is given again.
    let line = "tenant import --csv tenants.csv --key first -o json";
    let again = account.run(line).json();
    assert_eq!(again["tenants"], serde_json::json!([]));
    assert_eq!(again["existing_tenant_lines"], serde_json::json!([2, 3]));
    assert_eq!(again["existing_key_lines"], serde_json::json!([3]));
    let keys = again["keys"].as_array().unwrap();
    assert_eq!(
        (&keys[0]["key"]["display_name"], keys.len()),
        (&"first".into(), 2)
    );
    assert_eq!(keys[1]["plaintext"], token);
    let exists = account.run("tenant import --csv tenants.csv --tokens-file 1.csv");
    assert!(exists.err.contains("1.csv exists already"), "{exists:?}");
    assert_eq!(
        first,
        std::fs::read_to_string(account.dir().join("1.csv")).unwrap()
    );

    // Another caller's request is another request: no second key is left behind.
    let other =
        account.run("key create platform --name other --owner other --role global_admin -o json");
    let other = other.json()["plaintext"].as_str().unwrap().to_owned();
    let account = account.with("KEYSTILE_API_KEY", &other);
    let ended = account.run("tenant import --csv tenants.csv --tokens-file 2.csv");
    assert!(
        ended.out.contains("keys: 0 made, 1 there already"),
        "{ended:?}"
    );
    assert!(ended.err.contains("1 keys were there already"), "{ended:?}");
    assert!(!account.dir().join("2.csv").exists());
    let active = "key list bulk-b --filter 'state = ACTIVE' -o json";
    assert_eq!(
        account.run(active).json()["keys"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn every_mistake_of_a_table_of_tenants_is_named_and_nothing_is_sent() {
    let account = Account::admin();
    for (table, expected) in [
        (
            "tenant,plan,features,metadata,key_name,key_owner,key_role\n\
             Acme,PRO,a b/c,x,,alice,\n\
             careless,,,UP=1,ci,al ice,root\n\
             careless,,,a=1,,,\n",
            "error: t.csv: 9 mistakes; nothing was sent\n  \
             line 2: tenant must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit\n  \
             line 2: plan must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit\n  \
             line 2: features must be 1 to 64 characters of A-Z, a-z, 0-9 and . _ : -, starting with a letter or digit\n  \
             line 2: metadata must be NAME=VALUE\n  \
             line 2: key_owner is of a key, and key_name is empty\n  \
             line 3: metadata names must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit\n  \
             line 3: key_owner must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ @ : + / = - |\n  \
             line 3: key_role must be user, tenant_admin or global_admin\n  \
             line 4: tenant is that of line 3\n",
        ),
        (
            "tenant,feature\n",
            "error: t.csv: column 2 has a name that is not known; did you mean features?\n",
        ),
        ("plan\n", "error: t.csv: there is no column tenant\n"),
    ] {
        account.file("t.csv", table);
        let ended = account.run("tenant import --csv t.csv -o json");
        assert_eq!(ended.code, Some(1));
        assert!(ended.err.starts_with(expected), "{}", ended.err);
    }
    account.file("t.csv", "tenant\ncareless\n");
    let nowhere = account.run("tenant import --csv t.csv --key first");
    assert_eq!(nowhere.code, Some(2));
    assert!(
        nowhere.err.contains("add --tokens-file FILE"),
        "{nowhere:?}"
    );
    let none = account.run("tenant get careless");
    assert!(none.err.contains("tenant not found"), "{none:?}");
}

/// The bound is for a quiet machine and an optimised build; this one is neither, and keeps it.
#[test]
fn ten_thousand_tenants_with_a_key_each_are_made_by_one_command_within_a_minute() {
    let _alone = ALONE.blocking_lock();
    let server = Keystile::start(Settings::default());
    let rows: String = (0..10_000).map(|at| format!("t{at}\n")).collect();
    std::fs::write(server.dir().join("tenants.csv"), format!("tenant\n{rows}")).unwrap();
    let begun = Stopwatch::start(&[server.pid()]);
    let line = "tenant import --csv tenants.csv --key first --tokens-file tokens.csv";
    let said = server.cli(&line.split(' ').collect::<Vec<_>>());
    let took = begun.unhurried();
    assert!(
        said.contains("tenants: 10000 made") && said.contains("keys: 10000 made"),
        "{said}"
    );
    let tokens = std::fs::read_to_string(server.dir().join("tokens.csv")).unwrap();
    assert_eq!(tokens.lines().count(), 10_001);
    assert!(took < Duration::from_secs(60), "{took:?}");
}
