//! The one call to the API: a POST, bounded in time and size, and what came of it.
//!
//! The connection is not kept between calls, nothing is retried, no redirect is followed and no thread is started. The
//! key goes into one header and nowhere else: it is masked in every message here, since a server may well echo it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use ureq::http::{HeaderValue, Response, Uri};
use ureq::tls::RootCerts;
use ureq::{Agent, Body};

use super::answer::{Answer, decode};
use crate::error::{Error, Exit, Result};
use crate::log::{Masked, sanitize};
use crate::settings::url::shown;
use crate::settings::{Secret, Settings};
use crate::source::body::{self, EXCERPT, OwnSecrets, Unread};
use crate::source::client_options::{authorities, authorization, connect_proxy, endpoint};
use crate::source::failure::{
    Attempt, Failure, ProxyUse, cause_of, exit_for, remedy_for, remedy_for_connection, retry_after,
};
use crate::source::proxy;
use crate::source::transport::agent;

/// Most bytes of a body that is no JSON object: enough to recognise a login page by.
const BEGINNING: usize = 20;

/// Most bytes of a message but for the URL. It can only be longer with a proxy's name, or with what is far to redirect
/// to.
const MESSAGE: usize = 2 * EXCERPT;

/// Bytes of an answer at its largest for each value in a config. Real configs take 20 to 40; every byte of one that is
/// denser costs more memory, up to 150 bytes, while it is read and proved.
const BYTES_PER_VALUE: u64 = 16;

/// The settings that a call depends on.
pub struct Options<'a> {
    pub endpoint: &'a str,
    /// What goes into the header `Authorization`.
    pub credential: Option<&'a Secret>,
    /// Where it is from.
    pub setting: &'static str,
    /// What to do besides when the key is refused and corrected; empty or the rest of a sentence.
    pub key_remedy: &'static str,
    /// A PEM bundle that replaces Mozilla's roots. Read once, by `Client::new`.
    pub ca_file: Option<&'a Path>,
    /// For the whole call but the look-up of the name.
    pub poll_timeout: Duration,
    /// Longest answer that is accepted, in bytes.
    pub max_answer: u64,
}

impl<'a> Options<'a> {
    /// For answers with so many configs.
    pub fn of(settings: &'a Settings, endpoint: &'a str, configs: u64) -> Options<'a> {
        Options {
            endpoint,
            credential: settings.credential(),
            setting: if settings.update_token.is_some() { "update-token-file" } else { "api-key" },
            key_remedy: if settings.update_token.is_some() { "" } else { settings.key_source.remedy() },
            ca_file: settings.ca_file.as_deref(),
            poll_timeout: settings.poll_timeout,
            max_answer: settings.max_config_size.saturating_mul(configs),
        }
    }
}

pub struct Client {
    agent: Agent,
    endpoint: Uri,
    /// The endpoint without user, password and query, for messages.
    shown: String,
    authorization: Option<HeaderValue>,
    credential: Option<Secret>,
    setting: &'static str,
    key_remedy: &'static str,
    /// The key, to be masked in messages.
    secrets: OwnSecrets,
    ca_file: Option<PathBuf>,
    poll_timeout: Duration,
    max_answer: u64,
    /// Named in the cause of a failed connection.
    through: Option<ProxyUse>,
}

impl Client {
    /// Touches the network only when it checks. The proxy comes from the environment.
    ///
    /// # Errors
    /// `Exit::Settings` for an endpoint, key, ca-file or proxy variable that cannot be used.
    pub fn new(options: &Options) -> Result<Client> {
        Client::with_environment(options, |name| std::env::var(name).ok())
    }

    fn with_environment(options: &Options, variable: impl Fn(&str) -> Option<String>) -> Result<Client> {
        let endpoint = endpoint(options.endpoint)?;
        let (proxy, through) = proxy::choose(&endpoint, variable).map(connect_proxy).transpose()?.unzip();
        let roots = options.ca_file.map(authorities).transpose()?.unwrap_or(RootCerts::WebPki);
        Ok(Client {
            agent: agent(proxy, roots, options.poll_timeout),
            shown: shown(&endpoint),
            endpoint,
            authorization: options.credential.map(authorization).transpose()?,
            credential: options.credential.cloned(),
            setting: options.setting,
            key_remedy: options.key_remedy,
            secrets: OwnSecrets::new(options.credential.map(Secret::expose)),
            ca_file: options.ca_file.map(Path::to_owned),
            poll_timeout: options.poll_timeout,
            max_answer: options.max_answer,
            through,
        })
    }

    /// One config check: the report goes out as `body`, the answer comes back.
    ///
    /// # Errors
    /// `Denied` for a refused key, `TryAgain` for what may pass, `BadAnswer` for an answer that is not one of this API.
    pub fn post(&self, body: &[u8]) -> std::result::Result<Answer, Failure> {
        self.post_for(body, |body, most_values, beginning| decode(body, most_values, beginning))
    }

    /// The same, with an answer of another form: `read` has its body, how many values its configs may have, and what
    /// shows the beginning of a body that is none.
    ///
    /// # Errors
    /// As for `post`.
    pub fn post_for<A>(
        &self,
        body: &[u8],
        read: impl FnOnce(&[u8], usize, &dyn Fn(&[u8]) -> String) -> std::result::Result<A, String>,
    ) -> std::result::Result<A, Failure> {
        let mut request = self.agent.post(&self.endpoint).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut response = request.send(body).map_err(|error| self.broken(error))?;
        if response.status() != 200 {
            return Err(self.refused(&mut response));
        }
        let body = self.read(&mut response)?;
        let most_values = usize::try_from(self.max_answer / BYTES_PER_VALUE).unwrap_or(usize::MAX);
        read(&body, most_values, &|body| self.secrets.excerpt(body, BEGINNING))
            .map_err(|cause| self.failure(Exit::BadAnswer, format!("the answer cannot be read: {cause}")))
    }

    fn read(&self, response: &mut Response<Body>) -> std::result::Result<Vec<u8>, Failure> {
        body::read(response, self.max_answer).map_err(|unread| match unread {
            Unread::Encoded(encoding) => {
                let encoding = self.secrets.excerpt(encoding.as_bytes(), BEGINNING);
                let cause = format!(
                    "the answer is encoded as {encoding}, which was not requested; turn that off at the server"
                );
                self.failure(Exit::BadAnswer, cause)
            }
            Unread::TooLong => {
                let limit = self.max_answer;
                let cause = format!("the answer is longer than {limit} bytes; raise max-config-size");
                self.failure(Exit::BadAnswer, cause)
            }
            Unread::Broken(error) => self.broken(error),
        })
    }

    /// For an answer with any status but 200.
    fn refused(&self, response: &mut Response<Body>) -> Failure {
        let status = response.status();
        let mut cause = format!("HTTP status {}", status.as_u16());
        if let Some(location) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
            let location = match std::str::from_utf8(location.as_bytes()).ok().and_then(|text| text.parse().ok()) {
                Some(uri) => shown(&uri),
                None => self.secrets.excerpt(location.as_bytes(), EXCERPT),
            };
            cause += &format!(
                ", a redirect to {location}, which is not followed; if it is right, set update-endpoint to it"
            );
        }
        let retry_after = retry_after(response.headers(), SystemTime::now());
        // One byte more tells whether there is more.
        let body = body::read_beginning(response, self.secrets.looked_at(EXCERPT) as u64 + 1);
        let answer = Masked::new(&sanitize::line(&self.secrets.excerpt(&body, EXCERPT)));
        let answer = (!answer.is_empty()).then_some(answer);
        cause += &remedy_for(status.as_u16(), self.setting, self.credential.is_some());
        if exit_for(status.as_u16()) == Exit::Denied && self.credential.is_some() {
            cause += self.key_remedy;
        }
        Failure { answer, retry_after, ..self.failure(exit_for(status.as_u16()), cause) }
    }

    /// For a call that ended without a whole answer.
    fn broken(&self, error: ureq::Error) -> Failure {
        let remedy = remedy_for_connection(&error, self.through.as_ref());
        let (exit, mut cause) = cause_of(
            error,
            Attempt {
                timeout: self.poll_timeout,
                ca_file: self.ca_file.as_deref(),
                proxy: self.through.as_ref(),
                now: SystemTime::now(),
            },
        );
        if let Some(proxy) = &self.through {
            cause += &format!(" (through the proxy {})", proxy.shown);
        }
        self.failure(exit, cause + &remedy)
    }

    fn failure(&self, exit: Exit, cause: String) -> Failure {
        let cause = self.secrets.mask(&cause).cut(MESSAGE);
        let cause = sanitize::line(&cause).into_owned();
        let error = Error::because(exit, format!("config check: {}", self.shown), cause);
        Failure { error, answer: None, retry_after: None }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
