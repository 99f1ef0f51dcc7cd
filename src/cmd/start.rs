//! `start`: sets everything up while failing is still allowed, then hands over to the supervisor.
//!
//! The order matters: directories, lock, socket, signals, threads. From the first start on only a stop request ends the agent.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::agent::check::ConfigCheck;
use crate::agent::mailbox::SupervisorEvent;
use crate::agent::poller::{Asks, Poller};
use crate::agent::supervise::{Parts, Supervise};
use crate::collector::Collector;
use crate::collector::orphans;
use crate::control::server::Server;
use crate::error::{Error, Exit, Result};
use crate::os::lock::Lock;
use crate::os::panic_hook;
use crate::os::unix::sd_notify::Notify;
use crate::os::wake_channel;
use crate::settings::{Polling, Settings};
use crate::store::{Store, atomic};

/// The remedy for what the system refuses.
const LIMITS: &str = "(raise the limits on memory, open files and processes that it runs with)";

/// From the agent's directory: what an image or a package that cannot put a config into `/etc` has in store for the first start.
const DEFAULT_CONFIG: &str = "../share/kmagent/config.yaml";

/// # Errors
/// Something that the agent needs before the first start is refused to it.
pub fn run(settings: &Settings) -> Result<Exit> {
    let clock = Instant::now();
    make_directories(settings)?;
    let _lock = Lock::take(&settings.run_dir)?;
    orphans::end(&settings.run_dir, settings.stop_timeout);
    let store = Store::new(&settings.config, &settings.state_dir);
    store.sweep();
    begin(&store);
    let collector = Collector::new(settings);
    let asks = match &settings.polling {
        Polling::Endpoint(url) => Asks::Api(Box::new(ConfigCheck::new(settings, url, &collector, &store)?)),
        Polling::Local { reason } => {
            log::info!(reason = reason.as_str(); "local mode: the collector is supervised, no API is asked");
            Asks::Nobody { reason: reason.clone() }
        }
    };
    let server = Server::bind(&settings.run_dir)?;
    let refused = |what: &str, error: std::io::Error| {
        Error::because(Exit::System, format!("the system refused {what} {LIMITS}"), error)
    };
    let (notices, mail) = wake_channel::channel().map_err(|error| refused("an event descriptor", error))?;
    let signals = notices.clone();
    ctrlc::set_handler(move || {
        signals.send(SupervisorEvent::Signalled);
    })
    .map_err(|error| Error::because(Exit::System, format!("the system refused a signal handler {LIMITS}"), error))?;
    let (mailbox, poller_mail) = crossbeam_channel::unbounded();
    let bugs = notices.clone();
    panic_hook::report_worker_panic(move || bugs.send(SupervisorEvent::PollerEnded));
    let poller = Poller::new(clock, poller_mail, notices, asks, settings, seed());
    let spawned = std::thread::Builder::new().name("poller".to_string()).spawn(move || poller.run());
    spawned.map_err(|error| refused("a thread", error))?;
    log::info!(version = env!("CARGO_PKG_VERSION"), config:% = settings.config.display(); "agent started");
    let parts = Parts { clock, mail, poller: mailbox, server, notify: Notify::from_env(), collector, store };
    let exit = Supervise::new(parts, settings, seed()).run();
    log::info!("agent stopped");
    Ok(exit)
}

/// The first config, and what will keep it from being replaced.
fn begin(store: &Store) {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(DEFAULT_CONFIG)));
    match beside.map_or(Ok(false), |default| store.install_default(&default)) {
        Ok(true) => log::info!(path:% = store.config().display(); "there was no config, so it is the default one"),
        Ok(false) => {}
        Err(error) => log::warn!(error:% = error; "there is no config"),
    }
    if store.is_mounted() {
        log::warn!(
            path:% = store.config().display();
            "the config is mounted as a single file, so it can never be replaced: mount the directory that it is in"
        );
    }
}

/// Makes the agent's own directories, and the config's, where they are missing.
///
/// # Errors
/// 73 when there is no run directory. What else is missing shows, with its remedy, when it is needed.
pub fn make_directories(settings: &Settings) -> Result<()> {
    make(&settings.run_dir, 0o700).map_err(|error| {
        let what = format!(
            "cannot make the run directory {} (run as root, or choose another with the setting `run-dir`)",
            settings.run_dir.display()
        );
        Error::because(Exit::CannotWrite, what, error)
    })?;
    let config_dir = settings.config.parent().map(|parent| (parent, 0o755));
    for (dir, mode) in [Some((settings.state_dir.as_path(), 0o700)), config_dir].into_iter().flatten() {
        if let Err(error) = make(dir, mode) {
            let remedy = atomic::remedy(&error);
            log::warn!(path:% = dir.display(), error:% = error; "cannot make a directory{remedy}");
        }
    }
    Ok(())
}

fn make(dir: &Path, mode: u32) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// For jitter alone: two hosts that start together should not ask together.
pub fn seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
}
