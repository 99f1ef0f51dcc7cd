//! Who starts the agent again when it has ended, and what keeps it from doing so after `kmagent stop`.
//!
//! systemd is told by the exit status, if the unit knows it. The others start whatever ends, so a person has to know
//! their own command.

use std::path::Path;

use rustix::process::Pid;

use super::process_id::Entry;
use crate::os::files::{self, safe_open};

/// Where systemd reads units; the first that has one counts (systemd.unit(5)).
const UNITS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// What systemd gives each service (systemd.exec(5)).
const INVOCATION: &str = "INVOCATION_ID";
/// Bytes of a unit: many times what anybody writes by hand.
const MAX_UNIT: u64 = 256 * 1024;

/// By the name of the parent process, as the kernel keeps it (15 bytes): whose it is, and how the agent is stopped so
/// that it stays so.
const COMMANDS: [(&str, &str, &str); 5] = [
    ("supervise-daemo", "OpenRC", "rc-service kmagent stop"),
    ("procd", "procd", "service kmagent stop"),
    ("runsv", "runit", "sv down kmagent"),
    ("s6-supervise", "s6", "s6-svc -d SERVICE-DIRECTORY"),
    ("supervisord", "supervisord", "supervisorctl stop kmagent"),
];
/// The parents of a container's main process: ours, and what Docker, Podman, containerd and images put there.
const CONTAINERS: [&str; 7] =
    ["kmagent-init", "docker-init", "tini", "dumb-init", "catatonit", "conmon", "containerd-shim"];

/// What follows when the agent has ended as `kmagent stop` asks.
#[derive(Debug, PartialEq, Eq)]
pub struct AfterStop {
    /// Whether a status of its own says that it is not to be started again. Where nothing knows that one it would only
    /// look like a failure.
    pub is_status_known: bool,
    /// What to do so that it is not, if the status does not say it.
    pub advice: Option<String>,
}

/// Of the agent that is this process; `status` is the one that says it.
pub fn after_stop(status: u8) -> AfterStop {
    let own = rustix::process::getpid();
    after(&own.to_string(), Entry::of(own), std::env::var_os(INVOCATION).is_some(), status)
}

/// Of another process, as far as it may be looked at.
pub fn after_stop_of(pid: u32, status: u8) -> AfterStop {
    let entry = Pid::from_raw(pid.cast_signed()).and_then(Entry::of);
    let environment = files::read(Path::new(&format!("/proc/{pid}/environ")), files::MAX_KERNEL_FILE);
    let is_ours = |variable: &[u8]| variable.strip_prefix(INVOCATION.as_bytes()).is_some_and(|it| it.starts_with(b"="));
    let is_service = environment.is_ok_and(|it| it.split(|&byte| byte == 0).any(is_ours));
    after(&pid.to_string(), entry, is_service, status)
}

fn after(pid: &str, entry: Option<Entry>, is_service: bool, status: u8) -> AfterStop {
    let parent = entry.map_or(0, |entry| entry.parent);
    let name = text(Path::new(&format!("/proc/{parent}/comm"))).unwrap_or_default();
    let name = name.trim_end();
    if is_service && (parent == 1 || name == "systemd") {
        let unit = unit(pid).unwrap_or_else(|| "kmagent".to_string());
        // One that cannot be read is taken for ours.
        let is_ours = AfterStop { is_status_known: true, advice: None };
        return texts(&unit).map_or(is_ours, |texts| under_systemd(&unit, &texts, status));
    }
    let advice = match COMMANDS.into_iter().find(|(parent, ..)| name == *parent) {
        Some((_, who, command)) => Some(format!("{who} starts the agent again: use `{command}`")),
        None if CONTAINERS.contains(&name) => {
            let text = "the container ends with it, and may be started again: stop the container, as by `docker stop`";
            return AfterStop { is_status_known: false, advice: Some(text.to_string()) };
        }
        None => None,
    };
    AfterStop { is_status_known: true, advice }
}

/// By the unit and its drop-ins, in the order in which systemd reads them.
fn under_systemd(unit: &str, texts: &[String], status: u8) -> AfterStop {
    let values = |name: &'static str| {
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.filter_map(move |line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')).map(str::trim)
    };
    let mut is_status_known = false;
    for value in values("RestartPreventExitStatus") {
        // An empty one undoes those before it.
        is_status_known =
            !value.is_empty() && (is_status_known || value.split_whitespace().any(|word| word.parse() == Ok(status)));
    }
    let restarts =
        !matches!(values("Restart").next_back(), None | Some("no" | "on-failure" | "on-abnormal" | "on-abort"));
    let advice = (!is_status_known && restarts).then(|| {
        format!(
            "systemd starts the agent again: use `systemctl stop {unit}`, or give the unit RestartPreventExitStatus={status}"
        )
    });
    AfterStop { is_status_known, advice }
}

/// The service that the process belongs to (cgroups(7)).
fn unit(pid: &str) -> Option<String> {
    let groups = text(Path::new(&format!("/proc/{pid}/cgroup")))?;
    let name = groups.lines().find_map(|line| line.rsplit('/').find(|part| part.ends_with(".service")))?;
    Some(name.to_string())
}

/// Of the unit, if it can be read, and its drop-ins.
fn texts(unit: &str) -> Option<Vec<String>> {
    let main = UNITS.iter().find_map(|dir| text(&Path::new(dir).join(unit)))?;
    let mut drop_ins: Vec<_> = UNITS
        .iter()
        .flat_map(|dir| fs_err::read_dir(Path::new(dir).join(format!("{unit}.d"))).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    drop_ins.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    Some([main].into_iter().chain(drop_ins.iter().filter_map(|path| text(path))).collect())
}

fn text(path: &Path) -> Option<String> {
    let bytes = match path.starts_with("/proc") {
        true => files::read(path, files::MAX_KERNEL_FILE),
        false => safe_open::read(path, MAX_UNIT),
    };
    String::from_utf8(bytes.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_knows_the_status_or_not_and_restarts_or_not() {
        for (texts, is_status_known, has_advice) in [
            (&["Restart=always\nRestartPreventExitStatus=64 78 79"][..], true, false),
            (&["Restart = always\n RestartPreventExitStatus = 79"], true, false),
            (&["RestartPreventExitStatus=79\nRestartPreventExitStatus=64"], true, false),
            // The unit of an earlier release, and sites' own.
            (&["Restart=on-failure\nRestartPreventExitStatus=64 78"], false, false),
            (&["Restart=always\nRestartPreventExitStatus=64 78"], false, true),
            (&["Restart=always"], false, true),
            (&["[Service]"], false, false),
            (&["Restart=on-failure", "Restart=always"], false, true),
            (&["Restart=always\nRestartPreventExitStatus=79", "RestartPreventExitStatus="], false, true),
            (&["#RestartPreventExitStatus=79\nRestart=always"], false, true),
        ] {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            let after = under_systemd("x.service", &texts, 79);
            assert_eq!((after.is_status_known, after.advice.is_some()), (is_status_known, has_advice), "{texts:?}");
            assert!(after.advice.is_none_or(|advice| advice.contains("systemctl stop x.service")));
        }
    }
}
