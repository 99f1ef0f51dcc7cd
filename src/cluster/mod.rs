//! `kmagent cluster`: the collectors of a Kubernetes cluster, configured from afar (DESIGN.md, "Kubernetes").
//!
//! ```text
//!   kubernetes  the API server, as far as it is needed
//!   config      a config as the pods and the ConfigMaps have it
//!   config_map  what of a group is written where
//!   mailbox     what the two threads send each other
//!   fleet       the groups, on the thread that never blocks
//!   serve       that thread: pods, operators, signals
//!   relay       the pods' questions, over HTTP
//!   updater     all that may block, on the other: ConfigMaps, and the API by `poll`
//!   news        what has become of a config, in log and Events
//!   rollout     the other way, without pods that ask: one workload's
//!   roller      that thread in its place then
//! ```

mod config;
mod config_map;
mod fleet;
pub mod kubernetes;
mod mailbox;
mod news;
mod pace;
mod poll;
pub mod relay;
mod roller;
pub mod rollout;
mod serve;
mod updater;

use std::time::{Instant, SystemTime};

use crate::control::server::Server;
use crate::control::{ClusterStatus, PollingStatus};
use crate::error::{Error, Exit, Result};
use crate::os::lock::{Lock, Role};
use crate::os::signals::Signals;
use crate::os::{files, panic_hook, wake_channel};
use crate::settings::cluster::{ClusterMode, ClusterSettings};
use crate::settings::{Polling, Settings};
use crate::source::kloudmate::cluster::ClusterApi;
use fleet::Fleet;
use kubernetes::{Client, Name, Options};
use mailbox::ClusterEvent;
use poll::{Identity, Poll};
use relay::Relay;
use roller::Roller;
use rollout::Rules;
use serve::{Parts, Serve, USUAL_INTERVAL};
use updater::Updater;

/// The namespace of a pod, as Kubernetes gives it.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Runs until it is asked to stop. `seed` is for jitter alone.
///
/// # Errors
/// Something that the updater needs before it begins is refused to it.
pub fn run(settings: &Settings, cluster: &ClusterSettings, seed: u64) -> Result<Exit> {
    let clock = Instant::now();
    files::make_private_directory(&settings.run_dir).map_err(|error| {
        let what = format!("cannot make the run directory {}", settings.run_dir.display());
        Error::because(Exit::CannotWrite, what, error)
    })?;
    let lock = Lock::take(&settings.run_dir, &settings.state_dir, Role::Agent)?;
    let refused =
        |what: &str, error: std::io::Error| Error::because(Exit::System, format!("the system refused {what}"), error);
    let signals = Signals::watch().map_err(|error| refused("a signal descriptor", error))?;
    let namespace = namespace(cluster)?;
    let client = Client::new(Options::in_cluster(namespace.clone(), |name| std::env::var(name).ok())?);
    let (vendor, polling) = vendor(settings)?;
    let (main, mail) = wake_channel::channel().map_err(|error| refused("an event descriptor", error))?;
    let (commands, mailbox) = crossbeam_channel::unbounded();
    let bugs = main.clone();
    panic_hook::report_worker_panic(move || bugs.send(ClusterEvent::UpdaterEnded));
    let server = Server::bind(&settings.run_dir)?;
    let identity = Identity {
        cluster_name: cluster.cluster_name.clone(),
        logs_enabled: cluster.logs_enabled,
        namespaces: cluster.monitored_namespaces.clone(),
        report_extended: settings.report_extended,
    };
    let (interval, most) = (settings.config_check_interval, settings.max_config_file());
    let poll = Poll::new(clock, vendor, identity, interval, seed);
    let parts = updater::Parts { clock, mailbox, main, api: Box::new(client), poll, most_yaml: most };
    let (relay, work): (_, Box<dyn FnOnce() + Send>) = match cluster.mode {
        ClusterMode::Relay => {
            let mut groups = Vec::new();
            for group in &cluster.groups {
                groups.push((group.workload, name(&group.config_map)?));
            }
            let updater = Updater::new(parts, groups, seed);
            (Some(Relay::bind(&cluster.relay)?), Box::new(move || updater.run()))
        }
        ClusterMode::Rollout => {
            let targets = roller::targets(&cluster.groups).map_err(|cause| Error::new(Exit::Settings, cause))?;
            let rules = Rules { deadline: cluster.rollout_deadline, settle: settings.min_uptime };
            let roller = Roller::new(parts, targets, rules);
            (None, Box::new(move || roller.run()))
        }
    };
    let spawned = std::thread::Builder::new().name("updater".to_string()).spawn(work);
    spawned.map_err(|error| refused("a thread", error))?;
    log::info!(version = env!("CARGO_PKG_VERSION"), cluster = cluster.cluster_name.as_str(); "updater started");
    let fixed = ClusterStatus {
        agent_version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        uptime_seconds: 0,
        cluster_name: cluster.cluster_name.clone(),
        namespace: namespace.to_string(),
        mode: cluster.mode.word().to_string(),
        listen: relay.as_ref().map(|_| cluster.relay.listen.to_string()),
        is_ready: false,
        groups: Vec::new(),
        polling,
        last_error_message: "".into(),
    };
    let fleet = Fleet::new(settings, cluster, settings.config_check_interval.unwrap_or(USUAL_INTERVAL));
    let exit =
        Serve::new(Parts { clock, signals, mail, updater: commands, server, _lock: lock, fleet, relay, fixed }).run();
    log::info!("updater stopped");
    Ok(exit)
}

fn name(text: &str) -> Result<Name> {
    Name::parse(text).map_err(|cause| Error::new(Exit::Settings, format!("{text:?} {cause}")))
}

fn namespace(cluster: &ClusterSettings) -> Result<Name> {
    let own = || {
        let text = files::safe_open::read(OWN_NAMESPACE.as_ref(), 1024).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_string())
    };
    match cluster.namespace.clone().or_else(own) {
        Some(text) => name(&text),
        None => Err(Error::new(
            Exit::Settings,
            "kube-namespace is not set, and this is no pod: give the updater's namespace",
        )),
    }
}

fn vendor(settings: &Settings) -> Result<(Option<ClusterApi>, PollingStatus)> {
    match &settings.polling {
        Polling::Endpoint(url) => {
            let status = PollingStatus { endpoint: Some(url.as_str().into()), ..PollingStatus::default() };
            Ok((Some(ClusterApi::new(settings, url)?), status))
        }
        Polling::Local { reason } => {
            log::warn!(reason = reason.as_str(); "no config checks: the pods keep the configs of the ConfigMaps");
            Ok((None, PollingStatus { local_because: Some(reason.as_str().into()), ..PollingStatus::default() }))
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
