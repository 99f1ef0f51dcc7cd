//! The body of an answer: read within a limit, and what is shown of it.
//!
//! What a server sends is foreign. It may be endless, encoded as nobody asked for, or echo a secret.

use std::io::{self, Read};

use ureq::Body;
use ureq::http::header::CONTENT_ENCODING;
use ureq::http::{HeaderValue, Response};

use crate::log::Masked;
use crate::log::redact::{self, Secrets};

/// Most bytes of foreign text in a message of ours (DESIGN.md, "The API").
pub const EXCERPT: usize = 512;

/// Why a body was not read.
#[derive(Debug)]
pub enum Unread {
    /// In a way that was not requested.
    Encoded(HeaderValue),
    TooLong,
    Broken(ureq::Error),
}

/// The whole body; one byte more than allowed is the most that is ever held.
pub fn read(response: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, Unread> {
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(Unread::Encoded(encoding.clone()));
    }
    if response.body().content_length().is_some_and(|length| length > limit) {
        return Err(Unread::TooLong);
    }
    let mut body = Vec::new();
    let mut reader = response.body_mut().as_reader().take(limit.saturating_add(1));
    reader.read_to_end(&mut body).map_err(|error| Unread::Broken(error.into()))?;
    if body.len() as u64 > limit { Err(Unread::TooLong) } else { Ok(body) }
}

/// At most so many bytes of a body, of one that breaks off as far as it came.
pub fn read_beginning(response: &mut Response<Body>, limit: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let _: io::Result<usize> = response.body_mut().as_reader().take(limit).read_to_end(&mut body);
    body
}

/// The secrets of one client, which a server may echo.
#[derive(Default)]
pub struct OwnSecrets {
    secrets: Secrets,
    longest: usize,
}

impl OwnSecrets {
    pub fn new(secret: Option<&str>) -> OwnSecrets {
        OwnSecrets { secrets: Secrets::new(secret.map(str::to_owned)), longest: secret.map_or(0, str::len) }
    }

    pub fn mask(&self, text: &str) -> Masked {
        Masked::new(&redact::mask(&[&self.secrets], text))
    }

    /// The beginning of what a server sent, at most `limit` bytes, without a secret and without any part of one.
    pub fn excerpt(&self, text: &[u8], limit: usize) -> String {
        let most = self.looked_at(limit);
        let (text, is_cut) = text.get(..most).map_or((text, false), |beginning| (beginning, true));
        let text = String::from_utf8_lossy(text);
        let end = if is_cut { redact::cut(&[&self.secrets], text.as_bytes()) } else { text.len() };
        let masked = self.mask(&text[..end]).cut(limit);
        masked.trim().to_owned()
    }

    /// Enough for a secret that begins within the `limit` bytes that are shown.
    pub fn looked_at(&self, limit: usize) -> usize {
        limit + self.longest
    }
}
