//! Compiles the schemas we own with protox, so that no protoc has to be installed.

use std::path::{Path, PathBuf};

use prost::Message as _;
use protox::Compiler;
use protox::file::{
    ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver,
};

const SCHEMAS: [&str; 6] = [
    "keystile/admin/v1/tenant.proto",
    "keystile/admin/v1/key.proto",
    "keystile/admin/v1/limit.proto",
    "keystile/admin/v1/fleet.proto",
    "keystile/admin/v1/block.proto",
    // From tonic-types: what the details of an error are, so that clients that know only the descriptors can read them.
    "google/rpc/error_details.proto",
];

/// Messages that carry a token: a derived `Debug` would print it, so theirs is written by hand in `src/proto.rs`.
const SECRET_MESSAGES: [&str; 6] = [
    "keystile.admin.v1.CreateKeyResponse",
    "keystile.admin.v1.ClaimKeyResponse",
    "keystile.admin.v1.RotateKeyResponse",
    "keystile.admin.v1.RevealKeyResponse",
    "keystile.admin.v1.ImportKeyRequest",
    "keystile.admin.v1.VerifyKeyRequest",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.join("build.rs").display());
    for schema in SCHEMAS
        .iter()
        .filter(|schema| schema.starts_with("keystile"))
    {
        println!("cargo:rerun-if-changed={}", root.join(schema).display());
    }
    let descriptors = compile(root)?;
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

/// Our schemas from their files, the rest from the crates that know them.
fn compile(root: &Path) -> Result<prost_types::FileDescriptorSet, Box<dyn std::error::Error>> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(root.to_owned()));
    let mut known = prost_types::FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    for file in &mut known.file {
        // The crate names them from its own folder; everybody else from the root of all schemas.
        file.name = file.name.take().map(full_name);
        file.dependency = file.dependency.drain(..).map(full_name).collect();
    }
    resolver.add(DescriptorSetFileResolver::new(known));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(SCHEMAS)?;
    Ok(compiler.file_descriptor_set())
}

fn full_name(name: String) -> String {
    if name.contains('/') {
        name
    } else {
        format!("google/rpc/{name}")
    }
}
