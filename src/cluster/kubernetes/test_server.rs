//! A real API server for unit tests. `KM_TEST_KUBERNETES` names a directory with its `address`, `ca.crt`, and the
//! `token` of an account that `tests/kubernetes/api.yaml` makes; where it is not set those tests are left out.

use std::path::PathBuf;
use std::time::Duration;

use super::{Client, Name, Options};
use crate::needs;
use crate::os::files::read_text;

#[track_caller]
pub fn client() -> Option<Client> {
    let credentials = std::env::var_os("KM_TEST_KUBERNETES").map(PathBuf::from);
    if !needs::that(credentials.is_some(), "a Kubernetes API server (KM_TEST_KUBERNETES)") {
        return None;
    }
    let credentials = credentials?;
    let address = read_text(&credentials.join("address"), 1000).unwrap().trim().to_owned();
    let namespace = Name::parse("kmagent-api").unwrap();
    Some(Client::new(Options { address, credentials, namespace, timeout: Duration::from_secs(10) }))
}
