//! What a pod has to know to be answered: the content of a file, read anew when that has changed, as a Secret's does.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use ring::digest::{Digest, SHA256, digest};

use super::LOOK_INTERVAL;
use crate::core::Uptime;
use crate::error::{Error, Exit, Result};
use crate::settings::{self, Secret};

#[derive(Debug)]
pub struct Token {
    path: PathBuf,
    /// What is compared: the time that takes tells nothing of the token, not even its length.
    digest: Digest,
    looked_at: Uptime,
}

impl Token {
    /// # Errors
    /// `Exit::Settings`: the file cannot be read, or has no token in it.
    pub fn read(path: &Path, now: Uptime) -> Result<Token> {
        let token = settings::read_token(path).ok_or_else(|| {
            let what = "relay-token-file cannot be read, or is not one line with the token that the pods send";
            Error::new(Exit::Settings, format!("{what}: {}", path.display()))
        })?;
        Ok(Token { path: path.to_owned(), digest: digest_of(&token), looked_at: now })
    }

    /// Looks at the file, once a minute at most. One that cannot be used changes nothing.
    pub fn renew(&mut self, now: Uptime) {
        if now < self.looked_at + LOOK_INTERVAL {
            return;
        }
        self.looked_at = now;
        let found = settings::read_token(&self.path).map(|token| digest_of(&token));
        if let Some(digest) = found.filter(|digest| digest.as_ref() != self.digest.as_ref()) {
            log::info!(path:% = self.path.display(); "the relay's token has changed");
            self.digest = digest;
        }
    }

    /// Verbatim, without a scheme.
    pub fn matches(&self, authorization: Option<&[u8]>) -> bool {
        let given = digest(&SHA256, authorization.unwrap_or_default());
        let pairs = given.as_ref().iter().zip(self.digest.as_ref());
        pairs.fold(0, |difference, (given, own)| black_box(difference | (given ^ own))) == 0
    }
}

fn digest_of(token: &Secret) -> Digest {
    digest(&SHA256, token.expose().as_bytes())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::os::unix::files::test_dir::Dir;

    #[test]
    fn nothing_but_the_token_matches() {
        let dir = Dir::new();
        let path = dir.path().join("token");
        std::fs::write(&path, "pod-token\n").unwrap();
        let token = Token::read(&path, Uptime::ZERO).unwrap();
        assert!(token.matches(Some(b"pod-token")));
        for other in [None, Some(&b""[..]), Some(b"pod-toke"), Some(b"pod-token "), Some(b"Bearer pod-token")] {
            assert!(!token.matches(other), "{other:?}");
        }
    }

    #[test]
    fn a_file_without_a_token_is_refused_and_a_changed_one_is_read_anew() {
        let dir = Dir::new();
        let path = dir.path().join("token");
        for content in [None, Some(""), Some("\n"), Some("two\nlines\n")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = Token::read(&path, Uptime::ZERO).unwrap_err().to_string();
            assert!(error.contains("relay-token-file"), "{content:?}: {error}");
        }
        std::fs::write(&path, "first").unwrap();
        let mut token = Token::read(&path, Uptime::ZERO).unwrap();
        std::fs::write(&path, "second").unwrap();
        token.renew(LOOK_INTERVAL / 2);
        assert!(token.matches(Some(b"first")), "not looked at yet");
        token.renew(LOOK_INTERVAL);
        assert!(token.matches(Some(b"second")) && !token.matches(Some(b"first")));
        std::fs::write(&path, "").unwrap();
        token.renew(LOOK_INTERVAL * 2);
        assert!(token.matches(Some(b"second")));
    }
}
