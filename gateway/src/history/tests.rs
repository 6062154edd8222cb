use super::file::Trouble;
pub(super) fn step(_: &'static str) -> Result<(), Trouble> { Ok(()) }
