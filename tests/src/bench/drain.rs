//! placeholder
use super::Pace;
use super::table::Table;
pub(super) fn measure(_: &std::path::Path, _: Pace, _: &mut Table) -> anyhow::Result<()> { Ok(()) }
