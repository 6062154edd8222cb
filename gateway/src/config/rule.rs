//! `[rule.ID]`: hands each rule's words to the engine's language and brings what is wrong back
//! to the file and line of the key.

use andon_engine::plan::Plan;
use andon_engine::rules::Rule;

use super::machine::Machine;
use super::named::Named;
use super::output::Output;
use super::plan::RuleFace;
use super::section::Section;

pub(super) fn rules(
    _root: &Section<'_>,
    _machines: &Named<'_, Machine>,
    _outputs: &Named<'_, Output>,
    _engine: &Plan,
) -> (Vec<RuleFace>, Vec<Rule>) {
    (Vec::new(), Vec::new())
}
