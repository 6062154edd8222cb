//! How credentials are shown over HTTP: a key in a header, basic, or digest (RFC 7616).
//!
//! Digest answers a challenge as long as the device accepts it, counting `nc`; a new challenge is
//! answered once per request. SHA-256 goes before MD5 where a device offers both. Credentials are
//! never logged.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use andon_adapters::device::{Method, Request};
use andon_adapters::protocol::Login;
use digest_auth::{AlgorithmType, AuthContext, HttpMethod, Qop, WwwAuthenticateHeader};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};

use crate::config::plan::{Credentials, Secret};

/// Longest challenge that is looked at; usual ones have 200 bytes.
const CHALLENGE_BYTES_MAX: usize = 4096;

/// What is shown with every request.
pub(super) enum Shown {
    /// Nothing.
    Nothing,
    /// A key in a header.
    Header(HeaderName, HeaderValue),
    /// User and password, as they are.
    Basic(String, Secret),
    /// User and password, hashed with what the device asks for.
    Digest(Digest),
}

impl Shown {
    /// What `login` makes of these credentials; nothing where they are not configured.
    ///
    /// # Errors
    /// When a key cannot stand in a header.
    pub(super) fn of(login: Login, credentials: &Credentials) -> io::Result<Self> {
        let key = credentials.key.as_ref();
        let header = match login {
            Login::Header(header) | Login::DigestOrHeader(_, header) => {
                key.map(|key| (header, key))
            }
            _ => None,
        };
        if let Some((header, key)) = header {
            let name = HeaderName::from_bytes(header.as_bytes()).map_err(io::Error::other)?;
            let odd = |_| io::Error::other("the key has characters that no header may have");
            let mut value = HeaderValue::from_str(&key.0).map_err(odd)?;
            value.set_sensitive(true);
            return Ok(Self::Header(name, value));
        }
        let Some(password) = credentials.password.clone() else { return Ok(Self::Nothing) };
        let user = credentials.user.clone();
        Ok(match login {
            Login::Basic => Self::Basic(user.unwrap_or_default(), password),
            Login::Digest(usual) | Login::DigestOrHeader(usual, _) => {
                Self::Digest(Digest::new(user.unwrap_or_else(|| usual.to_owned()), password))
            }
            _ => Self::Nothing,
        })
    }
}

/// A digest login and the challenge that it answers.
pub(super) struct Digest {
    user: String,
    password: Secret,
    challenge: Mutex<Option<WwwAuthenticateHeader>>,
}

impl Digest {
    fn new(user: String, password: Secret) -> Self {
        Self { user, password, challenge: Mutex::new(None) }
    }

    fn challenge(&self) -> MutexGuard<'_, Option<WwwAuthenticateHeader>> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` of `request`, once the device has asked for one.
    pub(super) fn answer(&self, request: &Request) -> Option<String> {
        self.answer_with(request, None)
    }

    fn answer_with(&self, request: &Request, cnonce: Option<&str>) -> Option<String> {
        let mut challenge = self.challenge();
        let challenge = challenge.as_mut()?;
        let plain = challenge.qop.as_ref().is_none_or(|offered| offered.contains(&Qop::AUTH));
        let body = request.body.as_ref().map(String::as_bytes).filter(|_| !plain);
        let method = HttpMethod::from(match request.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        });
        let (user, password) = (self.user.as_str(), self.password.0.as_str());
        let mut context =
            AuthContext::new_with_method(user, password, request.path.as_str(), body, method);
        if let Some(cnonce) = cnonce {
            context.set_custom_cnonce(cnonce);
        }
        challenge.respond(&context).ok().map(|answer| answer.to_header_string())
    }

    /// Takes the challenge of a 401. Whether it is worth answering, given that `answered` was sent:
    /// not when the same nonce comes again, for then the password is wrong.
    pub(super) fn challenged(&self, headers: &HeaderMap, answered: bool) -> bool {
        let offered = headers.get_all(WWW_AUTHENTICATE).into_iter();
        let offered = offered.filter_map(|value| value.to_str().ok());
        let is_digest = |text: &&str| {
            text.len() <= CHALLENGE_BYTES_MAX
                && text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("digest"))
        };
        let parsed = offered.filter(is_digest).filter_map(|text| digest_auth::parse(text).ok());
        let strength = |challenge: &WwwAuthenticateHeader| match challenge.algorithm.algo {
            AlgorithmType::MD5 => 0,
            AlgorithmType::SHA2_512_256 => 1,
            AlgorithmType::SHA2_256 => 2,
        };
        let Some(fresh) = parsed.max_by_key(strength) else { return false };
        let mut known = self.challenge();
        let same = known.as_ref().is_some_and(|known| known.nonce == fresh.nonce);
        let worth = !answered || fresh.stale || !same;
        if !same {
            *known = Some(fresh);
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616, section 3.9.1.
    #[test]
    fn the_answers_are_those_of_the_standard() {
        let challenge = |algorithm: &str| {
            let text = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            HeaderValue::from_str(&text).unwrap()
        };
        let request = Request::get("/dir/index.html");
        let cnonce = Some("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
        let digest = || Digest::new("Mufasa".to_owned(), Secret("Circle of Life".to_owned()));

        let (both, mut headers) = (digest(), HeaderMap::new());
        headers.append(WWW_AUTHENTICATE, challenge("MD5"));
        assert!(both.challenged(&headers, false));
        let answer = both.answer_with(&request, cnonce).unwrap();
        assert!(answer.contains("response=\"8ca523f5e9506fed4657c9700eebdbec\""), "{answer}");
        assert!(answer.contains("nc=00000001"), "{answer}");
        assert!(both.answer(&request).unwrap().contains("nc=00000002"), "a nonce is counted");
        assert!(!both.challenged(&headers, true), "the password is wrong: no second try");

        headers.append(WWW_AUTHENTICATE, challenge("SHA-256"));
        let strong = digest();
        assert!(strong.challenged(&headers, false));
        let answer = strong.answer_with(&request, cnonce).unwrap();
        let sha = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(answer.contains(sha), "{answer}");
    }

    #[test]
    fn challenges_of_all_kinds_are_survived() {
        let odd =
            ["Digest", "digest =", "Digest realm", "Digest a=\"", "Basic realm=x", "Digest ,=,="];
        for text in odd {
            let digest = Digest::new("a".to_owned(), Secret("b".to_owned()));
            let mut headers = HeaderMap::new();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
            assert!(!digest.challenged(&headers, false), "{text}");
        }
    }
}
