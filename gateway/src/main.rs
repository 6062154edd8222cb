//! The binary: nothing but the door to [`andon::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    andon::cli::main()
}
