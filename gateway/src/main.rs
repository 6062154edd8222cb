//! The binary: nothing but the door to [`andon::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    andon::memory::share_one_heap();
    andon::cli::main()
}
