//! Compiles the schemas we own with protox, so that no protoc has to be installed.

use std::path::{Path, PathBuf};

use prost::Message as _;

const SCHEMAS: [&str; 3] = [
    "keystile/admin/v1/tenant.proto",
    "keystile/admin/v1/key.proto",
    // What the details of an error are: clients that know only the descriptors can read them too.
    "google/rpc/error_details.proto",
];

/// Messages that carry a token: a derived `Debug` would print it, so theirs is written by hand in `src/proto.rs`.
const SECRET_MESSAGES: [&str; 3] = [
    "keystile.admin.v1.CreateKeyResponse",
    "keystile.admin.v1.ImportKeyRequest",
    "keystile.admin.v1.VerifyKeyRequest",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.join("build.rs").display());
    for schema in SCHEMAS {
        println!("cargo:rerun-if-changed={}", root.join(schema).display());
    }
    let descriptors = protox::compile(SCHEMAS, [root])?;
    // The command line and reflection read the descriptors at run time.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("keystile.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".keystile")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .skip_debug(SECRET_MESSAGES)
        .compile_fds(descriptors)?;
    Ok(())
}
