//! What a device says of its trouble, completed by what only the connection or the configuration
//! knows: why nobody answers, and that there is no key to be refused.

use andon_adapters::protocol::Login;

use super::wire::News;
use crate::config::plan::{Credentials, DevicePlan};

/// The trouble `said` after `news`, with its cause.
pub(super) fn completed(plan: &DevicePlan, news: &News, said: String) -> String {
    match news {
        News::NoResponse(_, cause) if !said.contains(cause.as_str()) => format!("{said}: {cause}"),
        News::Response { status: status @ (401 | 403), .. } => {
            let unset = unset(plan.protocol.login, &plan.credentials);
            unset.map_or(said, |words| format!("{status}: {words}"))
        }
        _ => said,
    }
}

/// What is not configured although the protocol has a place for it, and what to write.
fn unset(login: Login, credentials: &Credentials) -> Option<&'static str> {
    if credentials.key.is_some() || credentials.password.is_some() {
        return None;
    }
    match login {
        Login::None | Login::InBand(_) => None,
        Login::Header(_) => Some("no key is set; write key_file = \"…\" into its source"),
        Login::DigestOrHeader(..) => {
            Some("neither key nor password is set; write key_file = \"…\" into its source")
        }
        Login::Digest(_) | Login::Basic | Login::Mqtt(_) => {
            Some("no password is set; write password_file = \"…\" into its source")
        }
    }
}
