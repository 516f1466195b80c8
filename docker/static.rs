//! The program of `src/main.rs`. `tests/it/image.rs` links it statically from what the other tests are built of, which
//! a second target would take minutes for: `cargo rustc --example keystile-static -- -C target-feature=+crt-static`.

#[path = "../src/main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
