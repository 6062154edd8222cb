//! A protective stop in the picture: where it stands, and the alarm that it is while it has failed.
//! Pure, like the picture. That alarm is nobody's rule: no person ends it, only the stop itself.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use andon_engine::event::{TripPhase, TripState};
use andon_engine::time::BootTime;

use super::picture::millis;
use super::view::{AlarmView, PhaseView, Severity, StopView};
use crate::config::plan::Name;

/// What happened and what to do when a protective stop has failed.
static STOP_FAILED: LazyLock<Name> = LazyLock::new(|| Name {
    en: "The protective stop FAILED: stop the machine by hand, at its own emergency stop or main \
         switch."
        .into(),
    zh: "保护停机失败：请立即用机器自身的急停按钮或总开关手动停机。".into(),
});

/// One stop of a machine.
#[derive(Debug)]
pub(super) struct Stop {
    output: Arc<str>,
    state: Option<TripState>,
    /// Since when it is failed, if it is.
    failed: Option<BootTime>,
}

impl Stop {
    /// One that nobody has spoken of yet.
    pub(super) const fn new(output: Arc<str>) -> Self {
        Self { output, state: None, failed: None }
    }

    pub(super) fn output(&self) -> &str {
        &self.output
    }

    /// Takes what the engine says of it at `at`.
    pub(super) fn take(&mut self, at: BootTime, state: &TripState) {
        let failed = state.phase == TripPhase::Failed;
        self.failed = failed.then(|| self.failed.unwrap_or(at));
        self.state = Some(state.clone());
    }

    /// The alarm that it is while it has failed.
    pub(super) fn alarm<'a>(&'a self, machine: &'a str, now: BootTime) -> Option<AlarmView<'a>> {
        let since = self.failed?;
        let state = self.state.as_ref()?;
        Some(AlarmView {
            id: Cow::Owned(format!("stop:{}", self.output)),
            stop: Some(&self.output),
            machine,
            severity: Severity::Critical,
            active: Some(true),
            acked: false,
            latched: true,
            for_ms: Some(millis(now.since(since))),
            cause: state.trouble.as_deref().unwrap_or_default(),
            message: Some(&*STOP_FAILED),
        })
    }

    pub(super) fn view(&self) -> StopView<'_> {
        let state = self.state.as_ref();
        StopView {
            output: &self.output,
            phase: match state.map(|state| state.phase) {
                None => PhaseView::Unknown,
                Some(TripPhase::Armed) => PhaseView::Armed,
                Some(TripPhase::Tripping) => PhaseView::Tripping,
                Some(TripPhase::Latched) => PhaseView::Latched,
                Some(TripPhase::Failed) => PhaseView::Failed,
            },
            level: state.and_then(|state| state.level),
            cause: state.and_then(|state| state.cause.as_deref()),
            trouble: state.and_then(|state| state.trouble.as_deref()),
        }
    }
}

/// Which of several stops a person should see first.
pub(super) const fn worry(phase: PhaseView) -> u8 {
    match phase {
        PhaseView::Armed => 0,
        PhaseView::Latched => 1,
        PhaseView::Unknown => 2,
        PhaseView::Tripping => 3,
        PhaseView::Failed => 4,
    }
}
