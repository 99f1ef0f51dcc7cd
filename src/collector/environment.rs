//! The collector's environment: the agent's, without what is the agent's alone, and with what the agent has resolved.
//!
//! A config can refer to any of it and the collector can send it anywhere, so what is not meant for it is taken out by
//! name. Whoever reads a config asks here for the value that the collector sees. How a hand-over changes GODEBUG is
//! `handover::godebug`'s business.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use super::orphans;
use crate::log::redact::MASK;
use crate::os::host;
use crate::settings::{Settings, table};

/// What the service manager gives to its service (sd_notify(3), sd_listen_fds(3), systemd.exec(5)): a collector that
/// used it would speak in the agent's name.
const SERVICE: &[&str] = &["NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY"];
/// Of the service manager too, and of a login: where to reach the keys of whoever started the agent (ssh-agent(1)).
const PREFIXES: &[&str] = &["WATCHDOG_", "LISTEN_", "SSH_"];

/// What is in every report, or in `status`.
const PUBLIC: [&str; 4] = ["KM_HOST_NAME", "KM_AGENT_VERSION", "KM_COLLECTOR_ENDPOINT", "KM_DOCKER_ENDPOINT"];

#[derive(Clone, Debug)]
pub struct Environment {
    resolved: Vec<(&'static str, OsString)>,
}

impl Environment {
    pub fn new(settings: &Settings) -> Environment {
        let key = settings.api_key.as_ref().map_or("", |key| key.expose());
        Environment {
            resolved: vec![
                ("KM_API_KEY", key.into()),
                ("KM_COLLECTOR_ENDPOINT", settings.collector_endpoint.as_str().into()),
                ("KM_DOCKER_ENDPOINT", settings.docker_endpoint.as_deref().unwrap_or_default().into()),
                ("KM_HOST_NAME", settings.host_name.clone().unwrap_or_else(host::name).into()),
                ("KM_AGENT_VERSION", env!("CARGO_PKG_VERSION").into()),
                (orphans::RUN_DIR_VARIABLE, settings.run_dir.clone().into()),
                (orphans::VARIABLE, orphans::instance().into()),
            ],
        }
    }

    /// The value that the collector sees; `None` also when it is no Unicode.
    pub fn value(&self, name: &str) -> Option<String> {
        match self.resolved.iter().find(|(resolved, _)| *resolved == name) {
            Some((_, value)) => value.to_str().map(str::to_string),
            None if is_the_agents(name.as_ref()) => None,
            None => std::env::var(name).ok(),
        }
    }

    /// The variables that `former` has with another value.
    pub fn changed_since(&self, former: &Environment) -> Vec<&'static str> {
        let both = self.resolved.iter().zip(&former.resolved);
        both.filter(|(new, old)| new != old).map(|((name, _), _)| *name).collect()
    }

    /// For a process that other processes of its user can look into, and that is to send nothing: something else stands
    /// for the key.
    pub fn hide_key(&self, command: &mut Command) {
        if self.value("KM_API_KEY").is_some_and(|key| !key.is_empty()) {
            command.env("KM_API_KEY", MASK);
        }
    }

    /// Whether it is the value of a variable that is in every report, or in `status`, anyway.
    pub fn is_public(&self, value: &str) -> bool {
        let is_value = |name: &&str| self.value(name).is_some_and(|public| public == value);
        PUBLIC.iter().any(is_value)
    }

    /// Whether the source knows the variable anyway: it has given the key, and reports have the rest, but for a
    /// password in a URL.
    pub fn is_known_to_source(&self, name: &str) -> bool {
        name == "KM_API_KEY" || PUBLIC.contains(&name) && self.value(name).is_some_and(|value| !value.contains('@'))
    }

    pub fn apply(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_the_agents(name)) {
            command.env_remove(name);
        }
        command.envs(self.resolved.iter().map(|(name, value)| (name, value)));
    }
}

/// Settings of the agent too; other variables that begin with `KM_` are the configs' own.
fn is_the_agents(name: &OsStr) -> bool {
    let starts = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    SERVICE.iter().any(|own| name == *own)
        || PREFIXES.iter().any(starts)
        || table::SETTINGS.iter().any(|setting| name == setting.env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_agents_is_known_by_name() {
        let own = "NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID LISTEN_FDS LISTEN_PIDFDID INVOCATION_ID JOURNAL_STREAM \
                   CREDENTIALS_DIRECTORY SSH_AUTH_SOCK SSH_CONNECTION KM_ON_CHANGE KM_API_KEY_FILE KM_COLLECTOR_CONFIG";
        for name in own.split(' ') {
            assert!(is_the_agents(name.as_ref()), "{name}");
        }
        let passed = "PATH HTTPS_PROXY no_proxy KM_NODE_NAME KM_XLOG_PATHS KM_ SSHD LISTEN ssh_x X_SSH_X";
        for name in passed.split(' ') {
            assert!(!is_the_agents(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn a_value_is_what_the_collector_sees() {
        let environment = Environment { resolved: vec![("KM_HOST_NAME", "web-1".into())] };
        assert_eq!(environment.value("KM_HOST_NAME").as_deref(), Some("web-1"));
        assert_eq!(environment.value("PATH"), std::env::var("PATH").ok());
        assert_eq!(environment.value("KM_ON_CHANGE"), None);
    }
}
