//! An answer that goes on (`multipart/x-mixed-replace`): each part is a response of its own, for as
//! long as the device keeps it up. Knows nothing of what is in a part.
//!
//! A part must say its length, or it could not be told whole before the next one begins. Bounds:
//! [`HEAD_BYTES_MAX`] before a part, [`BODY_BYTES_MAX`] of it. Facts: RFC 2045, section 5.1 (names of
//! parameters), RFC 2046, section 5.1, and what the reference agent of MTConnect sends.

use andon_adapters::device::BODY_BYTES_MAX;
use andon_engine::value::Unavailable;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use super::http::{Failure, failure};

/// Most bytes from the end of a part to the beginning of the next one's body.
const HEAD_BYTES_MAX: usize = 4096;

/// An answer in parts.
pub(super) struct Parts {
    response: Response,
    delimiter: Vec<u8>,
    held: Vec<u8>,
}

impl Parts {
    /// The parts of an answer between which `delimiter` stands.
    pub(super) const fn of(response: Response, delimiter: Vec<u8>) -> Self {
        Self { response, delimiter, held: Vec::new() }
    }

    /// The status code of all of them.
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The next part's body.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(body) = take(&mut self.held, &self.delimiter)? {
                return Ok(body);
            }
            match self.response.chunk().await.map_err(|error| failure(&error))? {
                Some(bytes) => self.held.extend_from_slice(&bytes),
                None => {
                    let words = "the device has ended its answer in parts".to_owned();
                    return Err(Failure(Unavailable::Disconnected, words));
                }
            }
        }
    }
}

/// What stands between the parts of an answer, when it comes in parts.
pub(super) fn delimiter(response: &Response) -> Option<Vec<u8>> {
    let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(format!("--{}", boundary(kind)?).into_bytes())
}

/// The same, as the header names it.
fn boundary(kind: &str) -> Option<&str> {
    let mut fields = kind.split(';').map(str::trim);
    let essence = fields.next()?;
    if !essence.eq_ignore_ascii_case("multipart/x-mixed-replace") {
        return None;
    }
    // Names are the same in either case; the boundary itself is not.
    let boundary = fields.find_map(|field| {
        let (name, value) = field.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value.trim_matches('"'))
    })?;
    (!boundary.is_empty()).then_some(boundary)
}

/// Takes the first part off what is held, when it is there as a whole.
fn take(held: &mut Vec<u8>, delimiter: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let garbled = |words: &str| Err(Failure(Unavailable::Garbled, words.to_owned()));
    let begins = find(held, delimiter).map(|at| at + delimiter.len());
    let ends = begins.and_then(|at| Some(at + find(held.get(at..)?, b"\r\n\r\n")?));
    let (Some(begins), Some(ends)) = (begins, ends) else {
        return match held.len() > HEAD_BYTES_MAX {
            true => garbled("no part where one should begin"),
            false => Ok(None),
        };
    };
    let head = String::from_utf8_lossy(&held[begins..ends]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let Some(length) = length.and_then(|length| length.trim().parse::<usize>().ok()) else {
        return garbled("a part does not say its length");
    };
    if length > BODY_BYTES_MAX {
        return garbled("a part is too long");
    }
    let body = ends + 4;
    if held.len() < body + length {
        return Ok(None);
    }
    let rest = held.split_off(body + length);
    let part = held.split_off(body);
    *held = rest;
    Ok(Some(part))
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"\r\n--b\r\nContent-type: text/xml\r\nContent-length: 5\r\n\r\n<a/>\n\r\n--b\r\n\
        CONTENT-LENGTH:3\r\n\r\n--b\r\n--b\r\nContent-Length: 0\r\n\r\n\r\n";

    #[test]
    fn parts_are_the_same_however_they_arrive() {
        for portion in 1..=ANSWER.len() {
            let (mut held, mut parts) = (Vec::new(), Vec::new());
            for bytes in ANSWER.chunks(portion) {
                held.extend_from_slice(bytes);
                while let Ok(Some(part)) = take(&mut held, b"--b") {
                    parts.push(part);
                }
            }
            assert_eq!(parts, [&b"<a/>\n"[..], b"--b", b""], "{portion}");
        }
    }

    #[test]
    fn what_is_no_part_is_an_error_and_bounded() {
        for rubbish in [
            b"--b\r\nContent-type: text/xml\r\n\r\n<a/>".to_vec(),
            b"--b\r\nContent-length: many\r\n\r\n<a/>".to_vec(),
            format!("--b\r\nContent-length: {}\r\n\r\n", BODY_BYTES_MAX + 1).into_bytes(),
            vec![b'x'; HEAD_BYTES_MAX + 1],
        ] {
            assert!(take(&mut rubbish.clone(), b"--b").is_err(), "{rubbish:?}");
        }
    }

    #[test]
    fn an_answer_in_parts_says_what_stands_between_them() {
        for (kind, expected) in [
            ("multipart/x-mixed-replace;boundary=ab12", Some("ab12")),
            ("multipart/x-mixed-replace; charset=utf-8; boundary=\"a b\"", Some("a b")),
            ("Multipart/X-Mixed-Replace; Boundary=aB", Some("aB")),
            ("multipart/x-mixed-replace", None),
            ("multipart/x-mixed-replacement; boundary=b", None),
            ("multipart/x-mixed-replace; boundary=\"\"", None),
            ("text/xml", None),
        ] {
            assert_eq!(boundary(kind), expected, "{kind}");
        }
    }
}
