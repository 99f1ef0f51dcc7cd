//! The agent's own settings: what each is called, where its value comes from, and the values.
//!
//! ```text
//!   table       name, variable, default and kind of every setting
//!   resolve     all of them settled once at start, from environment, flags, file and defaults
//!   origin      what a source is called
//!   precedence  which of these wins
//!   file        the settings file, read by flat_yaml
//!   list        the text of one that has several items
//!   parse       the text of one setting to its value
//!   last_good   what a start uses whose settings file has gone bad
//!   changes     what a reload changes, and what it cannot
//!   api_key     where the API key comes from
//!   update_token  what is sent to the API in its place
//!   policy      where the policy comes from
//!   endpoint    where config checks go
//!   cluster     those of `kmagent cluster`
//!   url         what settings and `source` both mean by a URL
//!   print       what --print-settings shows
//! ```
//! Everything past this room works with `Settings`, which is valid by construction. It never reads the collector's
//! config.

mod api_key;
pub mod changes;
pub mod cluster;
mod endpoint;
mod file;
mod flat_yaml;
pub mod last_good;
mod list;
mod origin;
pub mod parse;
mod policy;
mod precedence;
pub mod print;
mod resolve;
pub mod suggest;
pub mod table;
mod update_token;
pub mod url;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::policy::Policy;
use crate::log::LogFormat;
use crate::log::redact::MASK;
pub use api_key::read_file as read_token;
pub use policy::CANNOT_READ_POLICY;
pub use resolve::{Resolved, agent_paths, last_good_path, resolve, resolve_cluster, resolve_last_good};
pub use update_token::UpdateToken;

/// A value that must never be shown. `Debug` is masked, there is no `Display`, and `expose` is the only way to the
/// text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// Where config checks go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polling {
    /// Checks go to this URL.
    Endpoint(String),
    /// Local mode: supervise, never poll. The reason is for the log and `status`.
    Local { reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMode {
    Auto,
    Restart,
    Handover,
}

/// What another process finds the agent by, and knows it by: who owns its settings or its state is its user.
#[derive(Clone, Debug)]
pub struct AgentPaths {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub settings_file: PathBuf,
    /// Of an agent that does not say how long its stop takes, as far as its settings tell.
    pub stop_timeout: Duration,
}

/// Where the API key is, and where one would be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// It may change at any time.
    File(PathBuf),
    /// In the settings file, which a reload reads.
    SettingsFile,
    /// In the environment or on the command line.
    Start,
    /// A copy that systemd made at the start of the service.
    Credential,
}

impl KeySource {
    /// What to do besides for a corrected key to be used, to be appended to what is wrong with it.
    pub fn remedy(&self) -> &'static str {
        match self {
            KeySource::File(_) | KeySource::SettingsFile => "",
            KeySource::Start => "; the agent was started with it: restart the agent",
            KeySource::Credential => "; it is a systemd credential: restart the service",
        }
    }
}

/// What root does not take from a settings file that another user can change.
#[derive(Clone, Debug)]
pub struct Ignored {
    pub names: Vec<&'static str>,
    /// Which settings, why, and the command that ends it.
    pub reason: String,
}

/// Every setting of kmagent.yaml(5), validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the others come from; there need not be such a file.
    pub settings_file: PathBuf,
    /// The collector's config file.
    pub config: PathBuf,
    /// Of these the first that has anything in it is copied where there is no config and none to go back to. `None`
    /// means what an image or a package has for that.
    pub seed_configs: Option<Vec<PathBuf>>,
    /// The collector that the user named; `None` means look in the usual places at each start of the collector.
    pub collector: Option<PathBuf>,
    /// What a collector that runs or validates is given after its configs.
    pub collector_args: Vec<String>,
    pub collector_endpoint: String,
    pub api_key: Option<Secret>,
    pub key_source: KeySource,
    /// What the API gets instead of the key.
    pub update_token: Option<UpdateToken>,
    pub polling: Polling,
    /// `None` means never poll.
    pub config_check_interval: Option<Duration>,
    /// A site's overlay: a second `--config`, which takes precedence.
    pub local_config: Option<PathBuf>,
    pub docker_mode: bool,
    pub docker_endpoint: Option<String>,
    /// `None` means what the system says at each report: a host can be renamed after services have started.
    pub host_name: Option<String>,
    pub log_level: log::LevelFilter,
    pub log_format: LogFormat,
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    pub ca_file: Option<PathBuf>,
    pub report_extended: bool,
    /// Of an extended report; `None` means one that is made once and kept.
    pub instance_id: Option<String>,
    /// What configs from the API are held to.
    pub policy: Policy,
    /// Its file, or where one would be found.
    pub policy_file: PathBuf,
    pub on_change: Option<String>,
    pub restart_mode: RestartMode,
    pub stop_timeout: Duration,
    pub min_uptime: Duration,
    pub start_timeout: Duration,
    /// Zero means that a config is confirmed with its probation.
    pub confirm_time: Duration,
    pub validate_timeout: Duration,
    /// Lines of the collector's that are logged in a minute, errors apart; 0 is no limit.
    pub collector_log_rate: u32,
    pub poll_timeout: Duration,
    /// Bytes, of the API's whole answer.
    pub max_config_size: u64,
    /// How many configs that were active are kept.
    pub generations: usize,
    /// Bytes that they may have together.
    pub generations_size: u64,
    pub ignored: Option<Ignored>,
}

/// What `max_config_size` is by default.
const USUAL_CONFIG_SIZE: u64 = 4 * 1024 * 1024;

impl Settings {
    /// Why root does not take this setting from the settings file, although that has it.
    pub fn why_ignored(&self, name: &str) -> Option<&str> {
        self.ignored.as_ref().filter(|ignored| ignored.names.contains(&name)).map(|ignored| ignored.reason.as_str())
    }

    /// What authorizes the agent to the API.
    pub fn credential(&self) -> Option<&Secret> {
        self.update_token.as_ref().map(|token| &token.text).or(self.api_key.as_ref())
    }

    /// Every secret of these settings.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        let token = self.update_token.as_ref().map(|token| &token.text);
        self.api_key.iter().chain(token).map(|secret| secret.expose().to_owned())
    }

    /// The same with what the credential's file has by now, if that is another one.
    pub fn with_changed_credential(&self) -> Option<Settings> {
        let path = match (&self.update_token, &self.key_source) {
            (Some(token), _) => &token.path,
            (None, KeySource::File(path)) => path,
            (None, _) => return None,
        };
        let read = api_key::read_file(path).filter(|read| self.credential() != Some(read))?;
        let mut changed = self.clone();
        match &mut changed.update_token {
            Some(token) => token.text = read,
            None => changed.api_key = Some(read),
        }
        Some(changed)
    }

    pub fn agent_paths(&self) -> AgentPaths {
        AgentPaths {
            run_dir: self.run_dir.clone(),
            state_dir: self.state_dir.clone(),
            settings_file: self.settings_file.clone(),
            stop_timeout: self.stop_timeout,
        }
    }

    /// Bytes of a config file: twice the longest answer, as YAML that is made of JSON has blanks for its braces; and
    /// not less because the setting has become less since a config was installed.
    pub fn max_config_file(&self) -> u64 {
        self.max_config_size.max(USUAL_CONFIG_SIZE).saturating_mul(2)
    }
}
