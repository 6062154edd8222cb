//! `bench [PART …]` measures and prints one table; `bench serve PORTS` is the server of registers that it
//! starts for itself. Run it through `tests/bench`.

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            let ports = arguments.get(1).context("how many ports?")?;
            andon_tests::bench::registers::serve(ports.parse()?)
        }
        _ => andon_tests::bench::run(&arguments),
    }
}
