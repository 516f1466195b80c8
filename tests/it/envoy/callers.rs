//! Callers that speak something else than plain HTTP (DESIGN 3.2).

#[test]
fn a_grpc_caller_gets_a_grpc_answer() {
    super::check(TABLE);
}

const TABLE: &str = r#"
a gRPC caller with a key                                 | default | GRPC /shop.Orders/List ; x-api-key: {live}                    | grpc 0 ; up x-tenant-id: acme ; up no x-api-key
a gRPC caller with a bearer key                          | default | GRPC /shop.Orders/List ; authorization: Bearer {live}         | grpc 0 ; up x-tenant-id: acme ; up no authorization
a gRPC caller without a key is unauthenticated           | default | GRPC /shop.Orders/List                                        | grpc 16
a gRPC caller with a bad key is unauthenticated          | default | GRPC /shop.Orders/List ; x-api-key: nonsense                  | grpc 16
a gRPC caller with an expired key is unauthenticated     | default | GRPC /shop.Orders/List ; x-api-key: {expired}                 | grpc 16
a gRPC caller of a suspended tenant has no permission    | default | GRPC /shop.Orders/List ; x-api-key: {frozen}                  | grpc 7
a gRPC caller without the feature has no permission      | default | GRPC /export.Jobs/Start ; x-api-key: {live}                   | grpc 7 ; says export
a gRPC caller with two keys sent a bad argument          | default | GRPC /shop.Orders/List ; x-api-key: {live} ; x-api-key: {second} | grpc 3
a gRPC caller while nobody can decide                    | outage-deny | GRPC /shop.Orders/List ; x-api-key: {unreadable}                | grpc 14
a gRPC caller, raw headers                               | raw     | GRPC /shop.Orders/List                                        | grpc 16
a gRPC caller where Envoy would let errors pass          | open    | GRPC /shop.Orders/List                                        | grpc 16
a gRPC caller's reason is in the log                     | default | GRPC /shop.Orders/Log                                         | grpc 16 ; meta reason: missing_api_key
a gRPC-web caller reads HTTP                             | default | POST /shop.Orders/List ; content-type: application/grpc-web+proto ; body 5 | 401 missing_api_key
a gRPC-web text caller reads HTTP                        | default | POST /shop.Orders/List ; content-type: application/grpc-web-text ; x-api-key: nonsense ; body 5 | 401 invalid_api_key
a Connect caller reads HTTP                              | default | POST /shop.Orders/List ; content-type: application/connect+json ; body 5 | 401 missing_api_key
"#;
