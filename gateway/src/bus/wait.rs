//! How long an answer is waited for: in any case, while nothing is urgent, and while another's
//! question holds the gateway. It reads nothing and asks nobody; `transaction` does.
//!
//! A gateway of Modbus TCP serves one request at a time, and one for a dead unit until it gives up
//! itself, after a second as a rule. So a question that was given up earlier *holds* the stream:
//! those after it are waited for until its answer, late and kept back by `sieve`, or their own shows
//! that the gateway is free, and for [`HOLD_MAX`] after it was sent at most.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::transport::Tap;

/// How long a question that was given up may hold a gateway; a stream on which nothing is heard for
/// as long is opened anew. Gateways give up after 1 s as a rule, and after 3 s at the most.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(3);

/// How long an answer is waited for, beyond wire time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// In any case.
    pub(super) allowance: Duration,
    /// When nothing else is urgent; no less.
    pub(super) longest: Duration,
}

impl Wait {
    /// As long whatever is urgent.
    pub(super) const fn of(allowance: Duration) -> Self {
        Self { allowance, longest: allowance }
    }
}

/// The time in which an answer counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) sent: Instant,
    pub(super) wait: Wait,
    pub(super) exchange: Duration,
    /// What held the gateway when it was sent: whose question, and since when.
    pub(super) hold: Option<(usize, Instant)>,
}

impl Window {
    /// Until when it is waited for in any case.
    pub(super) fn own(&self) -> Instant {
        self.sent + self.exchange + self.wait.allowance
    }

    /// Until when it is waited for while nothing is urgent: a gateway that is held has not begun.
    fn ends(&self, tap: &Tap) -> Instant {
        let least = self.exchange + self.wait.longest;
        match self.hold {
            None => self.sent + least,
            Some(hold) => match tap.late_of(hold) {
                Some(freed) => freed.max(self.sent) + least,
                None => (hold.1 + HOLD_MAX).max(self.sent + least),
            },
        }
    }

    /// What `exchange` results in; `alarm` is only there to be set. `None` when it did not come within the window, or not before
    /// something was urgent.
    pub(super) async fn over<T>(
        &self,
        tap: &Tap,
        mut alarm: Pin<&mut Sleep>,
        exchange: impl Future<Output = T>,
        urgent: impl Future<Output = ()>,
    ) -> Option<T> {
        let own = self.own();
        alarm.as_mut().reset(own);
        let (mut exchange, mut urgent) = (pin!(exchange), pin!(urgent));
        poll_fn(|cx| {
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                return Poll::Ready(Some(reply));
            }
            loop {
                if alarm.as_mut().poll(cx).is_pending() && alarm.deadline() == own {
                    return Poll::Pending;
                }
                let ends = self.ends(tap);
                if Instant::now() >= ends || urgent.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if alarm.deadline() == ends {
                    return Poll::Pending;
                }
                alarm.as_mut().reset(ends);
            }
        })
        .await
    }
}
