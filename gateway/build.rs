//! Relocations of the binary are packed: half a megabyte less on the card. Any linker of the last
//! years can, and so can the loader of every Debian since 12.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
