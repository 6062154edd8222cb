//! How long an answer is waited for: in any case, while nothing is urgent, and while another's
//! question holds the gateway. It reads nothing and asks nobody; `transaction` does.
//!
//! A gateway of Modbus TCP serves one request at a time, and one for a dead unit until it gives up
//! itself, after a second as a rule. So a question that was given up earlier *holds* the stream:
//! those after it are waited for until its answer, late and kept back by `sieve`, or their own shows
//! that the gateway is free, and for [`HOLD_MAX`] after the gateway came to it at most.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::transport::Tap;

/// How long a question that was given up may hold a gateway; a stream on which nothing is heard for
/// as long is opened anew. Gateways give up after 1 s as a rule, and after 3 s at the most.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(3);

/// A question that was given up and may hold the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) whose: usize,
    /// When it was sent.
    sent: Instant,
    /// Until when a gateway may be busy with it.
    until: Instant,
    /// Who owes what it costs the others: whoever held the gateway when it was sent, or `whose`.
    pub(super) debtor: usize,
}

impl Hold {
    /// Of a question of `whose` that was sent at an instant, and that the gateway came to at once or
    /// after the one `before`.
    pub(super) fn after(before: Option<Self>, whose: usize, sent: Instant) -> Self {
        // A gateway that does not come to it for as long will not answer it either.
        let begun = before.map_or(sent, |before| before.until.clamp(sent, sent + HOLD_MAX));
        let debtor = before.map_or(whose, |before| before.debtor);
        Self { whose, sent, until: begun + HOLD_MAX, debtor }
    }

    /// Whether the gateway may still be busy with it.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Until when that is at most.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// Which question it is.
    pub(super) const fn question(&self) -> (usize, Instant) {
        (self.whose, self.sent)
    }
}

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
    /// What held the gateway when it was sent.
    pub(super) hold: Option<Hold>,
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
            Some(hold) => match tap.late_of(hold.question()) {
                Some(freed) => freed.max(self.sent) + least,
                None => {
                    // A stream on which nothing is heard for so long is opened anew.
                    let deaf = tap.unheard().map_or(hold.until, |since| since + HOLD_MAX);
                    hold.until.min(deaf).max(self.sent + least)
                }
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
