//! `keystile key import`.

use super::world::Account;

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
    for at in 0..250 {
        let tenant = ["table-a", "table-b"][at % 2];
        let role = ["", "tenant_admin"][usize::from(at == 7)];
        table += &format!(
            "imported-token-{at:05},{tenant},key {at},o{at}@example.com,{role},read write,,2999-01-01T00:00:00Z\n"
        );
    }
    account.file("keys.csv", &table);
    let first = account.run("key import --csv keys.csv");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.out, "250 imported, 0 there already, 0 refused\n");
    assert_eq!(first.err, "imported: 200 of 250\nimported: 250 of 250\n");
    // As after a connection that was lost half way: some are there.
    account.file(
        "more.csv",
        &(table + "imported-token-new01,table-a,new,,,,10.0.0.0/8,\n"),
    );
    let second = account.run("key import --csv more.csv -o json").json();
    assert_eq!(second["keys"].as_array().unwrap().len(), 1);
    assert_eq!(second["keys"][0]["allow_cidrs"][0], "10.0.0.0/8");
    assert_eq!(second["existing_lines"].as_array().unwrap().len(), 250);
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
             line 2: name must be 1 to 128 characters without control or text-direction characters, no space at either end\n  \
             line 2: scopes must be 1 to 64 visible ASCII characters except \" \\ and comma\n  \
             line 2: networks must be networks such as 10.0.0.0/8\n  \
             line 2: token must be 16 to 512 characters of A-Z a-z 0-9 - . _ ~ + / with = at its end, and one of ours must be whole\n  \
             line 2: role must be user, tenant_admin or global_admin\n  \
             line 2: expires_at must be in the future\n  \
             line 4: owner must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ @ : + / = - |\n  \
             line 4: expires_at must be a time such as 2027-01-31T00:00:00Z\n  \
             line 4: token is that of line 3\n",
        ),
        (
            "name,token,colour\n",
            "error: keys.csv: column 3 has a name that is not known\nhint: the first line names the columns, of tenant, name, owner, role, token, scopes, features, networks, description, expires_at\n",
        ),
        (
            "name\n",
            "error: keys.csv: there is no column token\nhint: the first line names the columns, of tenant, name, owner, role, token, scopes, features, networks, description, expires_at\n",
        ),
    ] {
        account.file("keys.csv", table);
        let ended = account.run("key import careful --csv keys.csv");
        assert_eq!((ended.code, ended.err.as_str()), (Some(1), expected));
    }
    account.file("keys.csv", "name,token\na,b,c\n");
    let uneven = account.run("key import careful --csv keys.csv");
    assert!(uneven.err.contains("line: 2"), "{uneven:?}");
    assert_eq!(account.done("key list careful"), "no keys\n");
}
