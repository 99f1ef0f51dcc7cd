//! `start`: sets everything up while failing is still allowed, then hands over to the supervisor.
//!
//! The order matters: directories, lock, socket, signals, threads. From the first start on only a stop request ends the
//! agent.

use std::path::Path;
use std::time::{Instant, SystemTime};

use super::chosen_settings::{self, ChosenSettings};
use crate::agent::check::ConfigCheck;
use crate::agent::mailbox::SupervisorEvent;
use crate::agent::poller::Poller;
use crate::agent::reload::{Present, Resolve};
use crate::agent::supervise::{Parts, Supervise};
use crate::collector::Collector;
use crate::collector::orphans;
use crate::control::server::Server;
use crate::error::{Error, Exit, Result};
use crate::os::descendants;
use crate::os::lock::{Lock, Role};
use crate::os::service::Notify;
use crate::os::signals::Signals;
use crate::os::user::Owners;
use crate::os::wake_channel;
use crate::os::{error as os_error, files, panic_hook};
use crate::settings::{Polling, Settings};
use crate::source::Source;
use crate::store::Store;

/// The remedy for what the system refuses.
const LIMITS: &str = "(raise the limits on memory, open files and processes)";

/// From the agent's directory: what an image or a package that cannot put a config into `/etc` has in store for the
/// first start, unless a setting names something else.
const SEED_CONFIG: &str = "../share/kmagent/config.yaml";

/// # Errors
/// Something that the agent needs before the first start is refused to it.
pub fn run(chosen: ChosenSettings, resolve: Resolve) -> Result<Exit> {
    let ChosenSettings { resolved, source, problem } = chosen;
    let settings = &resolved.settings;
    let clock = Instant::now();
    make_directories(settings)?;
    let lock = Lock::take(&settings.run_dir, &settings.state_dir, Role::Agent)?;
    // Before there are threads or children.
    descendants::adopt(true);
    let refused = |what: &str, error: std::io::Error| {
        Error::because(Exit::System, format!("the system refused {what} {LIMITS}"), error)
    };
    let signals = Signals::watch().map_err(|error| refused("a signal descriptor", error))?;
    if !orphans::end(&settings.run_dir, settings.stop_timeout, &signals) {
        log::info!(asked_by = "signal"; "stopping before the first start");
        return Ok(Exit::Done);
    }
    let store = Store::of(settings);
    store.sweep();
    store.open_generations();
    begin(settings, &store);
    store.begin();
    warn_if_unwritable(settings, &store);
    warn_of_others(settings);
    let collector = Collector::new(settings);
    if !matches!(source, Source::Unready(_)) {
        chosen_settings::keep(&resolved);
    }
    if let Source::Nobody { reason } = &source {
        log::info!(reason = reason.as_str(); "local mode: supervising the collector without config checks");
    }
    let interval = source.interval(settings);
    let check = ConfigCheck::new(settings, source, &collector, &store);
    let server = Server::bind(&settings.run_dir)?;
    let (notices, mail) = wake_channel::channel().map_err(|error| refused("an event descriptor", error))?;
    let (mailbox, poller_mail) = crossbeam_channel::unbounded();
    let bugs = notices.clone();
    panic_hook::report_worker_panic(move || bugs.send(SupervisorEvent::PollerEnded));
    let present = Present::new(resolve, resolved.clone(), collector.clone());
    let poller = Poller::new(clock, poller_mail, notices, check, present, interval, seed());
    let spawned = std::thread::Builder::new().name("poller".to_string()).spawn(move || poller.run());
    spawned.map_err(|error| refused("a thread", error))?;
    log::info!(version = env!("CARGO_PKG_VERSION"), config:% = settings.config.display(); "agent started");
    let parts =
        Parts { clock, signals, mail, poller: mailbox, server, lock, notify: Notify::from_env(), collector, store };
    let exit = Supervise::new(parts, settings, problem, seed()).run();
    log::info!("agent stopped");
    Ok(exit)
}

/// The first config, and what will keep it from being replaced.
fn begin(settings: &Settings, store: &Store) {
    let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(SEED_CONFIG)));
    let seeds = settings.seed_configs.clone().unwrap_or_else(|| beside().into_iter().collect());
    for seed in seeds {
        match store.install_seed(&seed) {
            Ok(true) => {
                log::info!(path:% = store.config().display(), seed:% = seed.display(); "no config found; installed the default one");
                break;
            }
            Ok(false) => {}
            Err(error) => log::warn!(error:% = error; "cannot install the default config"),
        }
    }
    if store.is_mounted() {
        log::warn!(
            path:% = store.config().display();
            "config is mounted as a single file and cannot be replaced: mount its directory instead"
        );
    }
}

/// Not in local mode, where nothing is to be replaced.
fn warn_if_unwritable(settings: &Settings, store: &Store) {
    if let (Polling::Endpoint(_), Some(command)) = (&settings.polling, store.command_to_link()) {
        log::warn!(
            path:% = store.config().display(), command = command.as_str();
            "config cannot be replaced: a file is where a link belongs; run the command as root"
        );
    }
}

/// A collector of root's that runs what another user writes has that user's config, with root's rights.
fn warn_of_others(settings: &Settings) {
    let mut owners = Owners::default();
    let looked = [&settings.config, &settings.state_dir].into_iter().try_for_each(|path| owners.add(path));
    let reason = match looked.and_then(|()| owners.credentials()) {
        Ok(None) => return,
        Ok(Some(owner)) => {
            format!("it is {}: run the agent as that user, or give config and state to root", owner.user())
        }
        Err(error) => error.to_string(),
    };
    log::warn!(reason = reason.as_str(); "another user can change what the collector runs as root");
}

/// Makes the agent's own directories, and the config's, where they are missing.
///
/// # Errors
/// 73 when there is no run directory. What else is missing shows, with its remedy, when it is needed.
pub fn make_directories(settings: &Settings) -> Result<()> {
    files::make_private_directory(&settings.run_dir).map_err(|error| {
        let what =
            format!("cannot make the run directory {} ({})", settings.run_dir.display(), os_error::REMEDY_FOR_RUN_DIR);
        Error::because(Exit::CannotWrite, what, error)
    })?;
    warn_unless_made(&settings.state_dir, files::make_private_directory(&settings.state_dir));
    if let Some(config_dir) = settings.config.parent() {
        warn_unless_made(config_dir, files::make_readable_directory(config_dir));
    }
    Ok(())
}

fn warn_unless_made(dir: &Path, made: std::io::Result<()>) {
    if let Err(error) = made {
        let error = format!("{error}{}", os_error::remedy_for_write(&error));
        log::warn!(path:% = dir.display(), error = error.as_str(); "cannot create a directory");
    }
}

/// For jitter alone: two hosts that start together should not ask together.
pub fn seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
}
