//! What tests of several modules share.

/// Says in one line that a test is skipped, and counts it for the test command; a failure where
/// `CI=true`.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI: {why}");
    eprintln!("skipped: {why}");
    if let Some(path) = std::env::var_os("ANDON_SKIPPED") {
        use std::io::Write as _;
        let file = std::fs::File::options().append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{why}")).expect("the list of skipped tests");
    }
}
