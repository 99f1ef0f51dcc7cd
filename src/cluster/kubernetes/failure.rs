//! What a failed call of the API server means, and what to do about it.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::rights::{Right, role_rules};
use crate::error::{Error, Exit};
use crate::source::Failure;
use crate::source::failure::{Attempt, cause_of};

/// What a caller may decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The credentials of the pod cannot be read.
    Credentials,
    /// No whole answer came.
    Unreachable,
    /// 401: the token is not accepted.
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409: somebody else has changed the object since it was read.
    Conflict,
    /// 422: the API server does not take what the object would become.
    Invalid,
    /// 429
    Throttled,
    /// 5xx
    Server,
    /// It is not what this API answers.
    BadAnswer,
}

impl Cause {
    pub(super) fn of_status(status: u16) -> Cause {
        match status {
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 => Cause::NotFound,
            409 => Cause::Conflict,
            422 => Cause::Invalid,
            429 => Cause::Throttled,
            408 | 500..=599 => Cause::Server,
            _ => Cause::BadAnswer,
        }
    }

    /// Whether the same call may succeed a little later, without anybody's doing.
    pub fn is_transient(self) -> bool {
        matches!(self, Cause::Unreachable | Cause::Throttled | Cause::Server)
    }

    fn exit(self) -> Exit {
        match self {
            Cause::Unauthorized | Cause::Forbidden => Exit::Denied,
            Cause::Unreachable | Cause::Conflict | Cause::Throttled | Cause::Server => Exit::TryAgain,
            Cause::Credentials | Cause::NotFound | Cause::Invalid => Exit::Settings,
            Cause::BadAnswer => Exit::BadAnswer,
        }
    }

    /// To be appended to the status.
    pub(super) fn remedy(self, right: &Right, namespace: &str) -> String {
        match self {
            Cause::Unauthorized => "; the API server does not accept the pod's token: check that its ServiceAccount \
                                    exists, and delete the pod if it was made anew"
                .to_owned(),
            Cause::Forbidden => {
                let rule = role_rules(std::slice::from_ref(right)).concat();
                format!("; add to the rules of the updater's Role in namespace {namespace}: {rule}")
            }
            Cause::NotFound => {
                format!("; check that it exists in namespace {namespace}, and its name in the updater's settings")
            }
            Cause::Conflict => "; it has changed since it was read, so it is read again".to_owned(),
            _ => String::new(),
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub struct ApiFailure {
    pub cause: Cause,
    /// What was asked, why that failed, and what the API server said.
    pub failure: Failure,
}

impl ApiFailure {
    /// `what` is what was tried; `why` must not change from one time to the next.
    pub fn new(cause: Cause, what: String, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApiFailure {
        let error = Error::because(cause.exit(), what, why);
        ApiFailure { cause, failure: Failure { error, answer: None, retry_after: None } }
    }

    /// For a call that ended without a whole answer.
    pub(super) fn broken(what: String, error: ureq::Error, timeout: Duration, authorities: &Path) -> ApiFailure {
        use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        let remedy = match &error {
            ureq::Error::Timeout(_) => {
                let why = format!("no complete answer within {timeout:?}; check that no NetworkPolicy forbids it");
                return ApiFailure::new(Cause::Unreachable, what, why);
            }
            ureq::Error::Io(error)
                if matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable) =>
            {
                "; check the API server, and that no NetworkPolicy forbids it"
            }
            _ => "",
        };
        let attempt = Attempt { timeout, ca_file: Some(authorities), proxy: None, now: SystemTime::now() };
        let (exit, why) = cause_of(error, attempt);
        let cause = if exit == Exit::BadAnswer { Cause::BadAnswer } else { Cause::Unreachable };
        ApiFailure::new(cause, what, why + remedy)
    }
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.failure.error.what(), self.failure.reason())
    }
}

impl std::error::Error for ApiFailure {}

impl From<ApiFailure> for Error {
    fn from(failure: ApiFailure) -> Error {
        failure.failure.into_error()
    }
}
