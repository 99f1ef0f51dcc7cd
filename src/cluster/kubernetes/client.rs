//! The calls, each bounded in time and size, with the credentials that Kubernetes gives a pod.
//!
//! Token and authorities are files that the kubelet replaces about hourly, so they are read for each call. No proxy is
//! used: the API server is in the cluster. What it sends is foreign text: bounded, masked, and on one line.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use ureq::Body;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Request, Response};

use super::event::Event;
use super::failure::{ApiFailure, Cause};
use super::name::Name;
use super::objects::{
    ConfigMap, ConfigMapPatch, LabelSelector, Metadata, PodPage, Workload, WorkloadId, restarted_at_patch,
};
use super::rights::{Resource, Reviewed, Right, Verb, access_review};
use super::{Api, Result};
use crate::error::{Error, Exit};
use crate::log::{Masked, sanitize};
use crate::os::files::safe_open;
use crate::source::body::{self, EXCERPT, OwnSecrets, Unread};
use crate::source::client_options::authorities;
use crate::source::failure::retry_after;
use crate::source::transport::agent;

/// Where a pod has its credentials.
const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Bytes of a token: a signed one has about 1 KiB, or more with many audiences.
const MAX_TOKEN: u64 = 64 * 1024;

/// Bytes of an answer with a ConfigMap: 1 MiB of data, which JSON may escape, and 256 KiB of annotations.
const MAX_CONFIG_MAP: u64 = 3 * 1024 * 1024;

/// Of one with a workload: 8 KiB, as far as it has not long annotations.
const MAX_WORKLOAD: u64 = 512 * 1024;

/// Of one with a page of pods, which have 10 KiB each.
const MAX_PODS: u64 = 1536 * 1024;
const PODS_OF_A_PAGE: u32 = 50;

/// Of one that says whether it was done.
const MAX_OTHER: u64 = 64 * 1024;

/// For one call. The API server's own clients take 30 s; a rollout has to be asked about more often.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Options {
    /// Scheme, host and port.
    pub address: String,
    /// The directory with `token` and `ca.crt`.
    pub credentials: PathBuf,
    pub namespace: Name,
    /// For the whole of a call.
    pub timeout: Duration,
}

impl Options {
    /// As Kubernetes gives them to a pod.
    ///
    /// # Errors
    /// `Exit::Settings` when this is not a pod.
    pub fn in_cluster(
        namespace: Name,
        variable: impl Fn(&str) -> Option<String>,
    ) -> std::result::Result<Options, Error> {
        let needed = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).ok_or_else(|| {
                Error::new(Exit::Settings, format!("{name} is not set, as it is in each pod; run this in a pod"))
            })
        };
        let (host, port) = (needed("KUBERNETES_SERVICE_HOST")?, needed("KUBERNETES_SERVICE_PORT")?);
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let address = format!("https://{host}:{port}");
        Ok(Options { address, credentials: PathBuf::from(CREDENTIALS), namespace, timeout: TIMEOUT })
    }
}

pub struct Client {
    options: Options,
}

/// What is sent with a call: its media type, and the text.
type Content = (&'static str, Vec<u8>);

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

impl Client {
    /// Touches neither files nor network.
    pub fn new(options: Options) -> Client {
        Client { options }
    }

    pub fn namespace(&self) -> &Name {
        &self.options.namespace
    }

    fn call(&self, right: &Right, path: &str, content: Option<Content>, limit: u64) -> Result<Vec<u8>> {
        let what = self.what(right);
        let credentials = |error: Error| ApiFailure::new(Cause::Credentials, what.clone(), error);
        let token = self.token().map_err(credentials)?;
        let secrets = OwnSecrets::new(Some(&token));
        let ca_file = self.options.credentials.join("ca.crt");
        let roots = authorities(&ca_file).map_err(credentials)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| credentials(Error::new(Exit::Settings, "the pod's token has a control character in it")))?;
        bearer.set_sensitive(true);
        let method = match right.verb {
            Verb::Get | Verb::List => "GET",
            Verb::Patch => "PATCH",
            Verb::Create => "POST",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.options.address))
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, JSON);
        let body = content.map(|(media_type, body)| {
            request.headers_mut().map(|headers| headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type)));
            body
        });
        let broken = |error| ApiFailure::broken(what.clone(), error, self.options.timeout, &ca_file);
        let agent = agent(None, roots, self.options.timeout);
        let invalid = |error: ureq::http::Error| {
            ApiFailure::new(Cause::Credentials, what.clone(), format!("the address of the API server: {error}"))
        };
        let answered = match body {
            Some(body) => agent.run(request.body(body).map_err(invalid)?),
            None => agent.run(request.body(()).map_err(invalid)?),
        };
        let mut response = answered.map_err(broken)?;
        if !response.status().is_success() {
            return Err(self.refused(right, &mut response, &secrets));
        }
        body::read(&mut response, limit).map_err(|unread| {
            let why = match unread {
                Unread::Broken(error) => return broken(error),
                Unread::TooLong => format!("the answer is longer than {limit} bytes"),
                Unread::Encoded(encoding) => {
                    let encoding = secrets.excerpt(encoding.as_bytes(), EXCERPT);
                    format!("the answer is encoded as {}, which was not requested", sanitize::line(&encoding))
                }
            };
            ApiFailure::new(Cause::BadAnswer, what.clone(), why)
        })
    }

    fn token(&self) -> std::result::Result<String, Error> {
        let unreadable = |why: String| {
            let remedy = "the pod needs a ServiceAccount, and automountServiceAccountToken";
            Error::because(Exit::Settings, format!("the pod's token cannot be read; {remedy}"), why)
        };
        let token = safe_open::read(&self.options.credentials.join("token"), MAX_TOKEN);
        let token = String::from_utf8(token.map_err(|error| unreadable(error.to_string()))?);
        let token = token.map_err(|_| unreadable("it is not UTF-8".to_owned()))?.trim().to_owned();
        if token.is_empty() { Err(unreadable("it is empty".to_owned())) } else { Ok(token) }
    }

    /// For an answer whose status is no success. It is a `Status` object, unless somebody else has answered.
    fn refused(&self, right: &Right, response: &mut Response<Body>, secrets: &OwnSecrets) -> ApiFailure {
        #[derive(Deserialize)]
        struct Status {
            message: String,
        }
        let status = response.status().as_u16();
        let cause = Cause::of_status(status);
        let why = format!("HTTP status {status}{}", cause.remedy(right, self.options.namespace.as_str()));
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let body = body::read_beginning(response, MAX_OTHER);
        let message = serde_json::from_slice::<Status>(&body).map_or(body, |status| status.message.into_bytes());
        let answer = Masked::new(&sanitize::line(&secrets.excerpt(&message, EXCERPT)));
        let mut failure = ApiFailure::new(cause, self.what(right), why);
        failure.failure.answer = (!answer.is_empty()).then_some(answer);
        failure.failure.retry_after = retry_after;
        failure
    }

    /// Everything in an object has a default, so that it counts as one only if it says that it is the right one.
    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        right: &Right,
        body: &[u8],
        is_right: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let bad = |why: String| ApiFailure::new(Cause::BadAnswer, self.what(right), why);
        let object = serde_json::from_slice(body).map_err(|error| {
            // Not its text, which may quote what was sent.
            let (line, column) = (error.line(), error.column());
            bad(format!("the answer is not the JSON that was asked for, at line {line} column {column}"))
        })?;
        if is_right(&object) { Ok(object) } else { Err(bad("the answer is not the object that was asked for".into())) }
    }

    /// An object with a name.
    fn read_named<T: for<'de> Deserialize<'de>>(
        &self,
        right: &Right,
        body: &[u8],
        metadata: impl FnOnce(&T) -> &Metadata,
    ) -> Result<T> {
        let name = right.name.as_ref().map(Name::as_str);
        self.read(right, body, |object| {
            let metadata = metadata(object);
            Some(metadata.name.as_str()) == name && !metadata.resource_version.is_empty()
        })
    }

    /// What is tried, for messages.
    fn what(&self, right: &Right) -> String {
        let name = right.name.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        let (verb, resource) = (right.verb.name(), right.resource.plural());
        format!("Kubernetes API: cannot {verb} {resource}{name} in namespace {}", self.options.namespace)
    }

    fn path(&self, right: &Right) -> String {
        let group = match right.resource.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let name = right.name.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        format!("{group}/namespaces/{}/{}{name}", self.options.namespace, right.resource.plural())
    }

    /// With our name as that of whom the changed fields belong to.
    fn patch_path(&self, right: &Right) -> String {
        format!("{}?fieldManager=kmagent", self.path(right))
    }
}

impl Api for Client {
    fn config_map(&self, name: &Name) -> Result<ConfigMap> {
        let right = Right::new(Verb::Get, Resource::ConfigMaps, Some(name));
        self.read_named(&right, &self.call(&right, &self.path(&right), None, MAX_CONFIG_MAP)?, |it: &ConfigMap| {
            &it.metadata
        })
    }

    fn patch_config_map(&self, name: &Name, patch: &ConfigMapPatch) -> Result<ConfigMap> {
        let right = Right::new(Verb::Patch, Resource::ConfigMaps, Some(name));
        let content = (MERGE_PATCH, patch.merge_patch());
        let body = self.call(&right, &self.patch_path(&right), Some(content), MAX_CONFIG_MAP)?;
        self.read_named(&right, &body, |it: &ConfigMap| &it.metadata)
    }

    fn workload(&self, workload: &WorkloadId) -> Result<Workload> {
        let right = Right::new(Verb::Get, workload.kind.into(), Some(&workload.name));
        self.read_named(&right, &self.call(&right, &self.path(&right), None, MAX_WORKLOAD)?, |it: &Workload| {
            &it.metadata
        })
    }

    fn set_restarted_at(
        &self,
        workload: &WorkloadId,
        value: Option<&str>,
        resource_version: Option<&str>,
    ) -> Result<Workload> {
        let right = Right::new(Verb::Patch, workload.kind.into(), Some(&workload.name));
        let content = (MERGE_PATCH, restarted_at_patch(value, resource_version));
        let body = self.call(&right, &self.patch_path(&right), Some(content), MAX_WORKLOAD)?;
        self.read_named(&right, &body, |it: &Workload| &it.metadata)
    }

    fn pods(&self, selector: &LabelSelector, after: Option<&str>) -> Result<PodPage> {
        let right = Right::new(Verb::List, Resource::Pods, None);
        let selector = percent_encoded(&selector.query());
        let mut path = format!("{}?limit={PODS_OF_A_PAGE}&labelSelector={selector}", self.path(&right));
        if let Some(after) = after {
            path += &format!("&continue={}", percent_encoded(after));
        }
        let body = self.call(&right, &path, None, MAX_PODS)?;
        self.read(&right, &body, |page: &PodPage| !page.metadata.resource_version.is_empty())
    }

    fn create_event(&self, event: &Event) -> Result<()> {
        let right = Right::new(Verb::Create, Resource::Events, None);
        let content = (JSON, event.body(self.options.namespace.as_str(), SystemTime::now()));
        self.call(&right, &self.path(&right), Some(content), MAX_OTHER).map(|_| ())
    }

    fn may(&self, right: &Right) -> Result<bool> {
        let ask = Right::new(Verb::Create, Resource::SelfSubjectAccessReviews, None);
        // It is in no namespace.
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let review = access_review(right, self.options.namespace.as_str());
        let body = self.call(&ask, path, Some((JSON, review)), MAX_OTHER)?;
        self.read::<Reviewed>(&ask, &body, |_| true).map(|reviewed| reviewed.status.allowed)
    }
}

/// As the query of a URL takes it (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(unix)]
#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
