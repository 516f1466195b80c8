//! The tables are only worth something if a row that is wrong is reported: each of these is.

use super::world::World;
use super::{expect, row};

#[test]
fn a_row_that_comes_out_otherwise_is_reported() {
    let world = World::get();
    let rows = row::parse(WRONG);
    world.claim(&rows);
    let unnoticed: Vec<&str> = rows
        .iter()
        .filter(|row| expect::problems(world, row).is_empty())
        .map(|row| row.text.as_str())
        .collect();
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:#?}");
}

const WRONG: &str = r#"
wrong: allowed without a key                             | default | GET /orders                                                   | 200
wrong: refused by Envoy itself                           | default | GET /orders                                                   | 401 by envoy
wrong: another status                                    | default | GET /orders                                                   | 403 missing_api_key
wrong: another code                                      | default | GET /orders                                                   | 401 invalid_api_key
wrong: refused with a key                                | default | GET /orders ; x-api-key: {live}                               | refused
wrong: refused by Keystile with a key                    | default | GET /orders ; x-api-key: {live}                               | 401 any
wrong: another tenant                                    | default | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-id: other
wrong: a part of a value that is not in it               | default | GET /orders ; x-api-key: {live}                               | 200 ; up x-tenant-id: ~other
wrong: a header that is there                            | default | GET /orders ; x-api-key: {live}                               | 200 ; up no x-tenant-id
wrong: a header that is not there                        | default | GET /orders ; x-api-key: {live}                               | 200 ; up x-none: *
wrong: another target                                    | default | GET /orders ; x-api-key: {live}                               | 200 ; up target /order
wrong: another length                                    | default | POST /orders ; x-api-key: {live} ; body 9                     | 200 ; up body 8
wrong: anonymous with a key                              | default | GET /orders ; x-api-key: {live}                               | 200 ; anonymous
wrong: a client header that is not there                 | default | GET /orders ; x-api-key: {live}                               | 200 ; client x-none: *
wrong: a client header that is there                     | default | GET /orders ; x-api-key: {live}                               | 200 ; client no x-from
wrong: words that nobody said                            | default | GET /orders                                                   | 401 missing_api_key ; says good morning
wrong: other metadata                                    | default | GET /orders ; x-api-key: {live}                               | 200 ; meta tenant_id: other
wrong: metadata that is there                            | default | GET /orders ; x-api-key: {live}                               | 200 ; meta no tenant_id
wrong: another grpc-status                               | default | GRPC /shop.Orders/List                                        | grpc 7
wrong: a gRPC call that passes                           | default | GRPC /shop.Orders/List                                        | grpc 0
wrong: a gRPC call that is refused                       | default | GRPC /shop.Orders/List ; x-api-key: {live}                    | refused
wrong: a forged header where nobody checks               | default | GET /open ; x-tenant-id: evil                                 | safe
wrong: a forged alias where nobody checks                | default | GET /open ; x_tenant_id: evil                                 | safe
wrong: a token where nobody checks                       | default | GET /open ; x-api-key: {live}                                 | safe
wrong: a token in the path where nobody checks           | default | GET /open?api_key={live}                                      | safe
"#;
