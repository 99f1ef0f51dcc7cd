//! The settings file of the latest good start, for a start whose own has gone bad: kept in the state directory.
//!
//! Without what names programs, their arguments or the policy: the state directory is the collector's user's too, while
//! the settings file may be root's. `collector`, its arguments and `policy` are taken from the bad file, if that says
//! them beyond doubt. Only who owns the state directory keeps and reads it, so root reads none of another user's.

use std::fmt::Write;
use std::path::Path;

use super::file::{self, Entry, SettingsFile};
use crate::config::value::Value;
use crate::os::files::{self, safe_open};
use crate::os::user::User;

/// In the state directory.
pub const FILE_NAME: &str = "settings.yaml";

const COLLECTOR: &str = "collector";
const ARGS: &str = "collector-args";
const POLICY: &str = "policy";
/// What the bad file may say as well.
const SAID: [&str; 3] = [COLLECTOR, ARGS, POLICY];
const NOT_KEPT: [&str; 4] = [COLLECTOR, ARGS, POLICY, "on-change"];

/// Bytes: six for each of a settings file (JSON escapes), and for the names.
pub const MAX_BYTES: u64 = 512 * 1024;

const LOST: &str = "the bad settings file does not say on one line which collector to run, or root may not believe it: \
                    `collector` is as if it was not set";
const ARGS_LOST: &str = "the bad settings file does not say on one line with which arguments the collector runs, or \
                         root may not believe it: `collector-args` is as if it was not set";

/// What is kept of a settings file: a settings file itself, whose first line says of which one. Another agent's, of
/// which this could be the default state directory, must not be taken.
pub fn text(settings_file: &Path, entries: &[Entry]) -> String {
    let mut text = heading(settings_file);
    for Entry { setting, text: value, .. } in entries {
        // JSON's strings are YAML's too. Writing to a String does not fail.
        let _ = match NOT_KEPT.contains(&setting.name) {
            true => text.write_str(&not_kept(setting.name)),
            false => writeln!(text, "{}: {}", setting.name, Value::String(value.clone()).canonical()),
        };
    }
    text
}

/// In a setting's place, so that a start which lacks it knows.
fn not_kept(name: &str) -> String {
    format!("# {name} is not kept\n")
}

fn heading(settings_file: &Path) -> String {
    format!("# of {settings_file:?} at the latest good start\n")
}

/// What was kept in `state_dir` of this settings file, in its place; `None` if there is nothing that is this user's.
pub(super) fn read(state_dir: &Path, settings_file: &Path, bad: SettingsFile) -> Option<SettingsFile> {
    let path = state_dir.join(FILE_NAME);
    if !is_own(state_dir) || !is_own(&path) {
        return None;
    }
    let text = String::from_utf8(safe_open::read(&path, MAX_BYTES).ok()?).ok()?;
    if !text.starts_with(&heading(settings_file)) {
        return None;
    }
    let mut kept = file::parse(&path.display().to_string(), &text);
    kept.entries.retain(|entry| !NOT_KEPT.contains(&entry.setting.name));
    // As root only from a file that is root's: another user could have made it bad to be believed here.
    let is_trusted = files::owner_may_command(settings_file);
    let said = bad.entries.into_iter().filter(|entry| !entry.is_repeated && is_trusted);
    kept.entries.extend(said.filter(|entry| SAID.contains(&entry.setting.name)));
    let is_lost =
        |name: &str| text.contains(&not_kept(name)) && !kept.entries.iter().any(|entry| entry.setting.name == name);
    let (program, args, policy) = (is_lost(COLLECTOR), is_lost(ARGS), is_lost(POLICY));
    kept.warnings.extend(program.then(|| LOST.to_string()));
    kept.warnings.extend(args.then(|| ARGS_LOST.to_string()));
    kept.policy_lost = policy;
    Some(kept)
}

/// An empty settings file means the defaults, unless the latest good start, kept at `path`, had another one.
pub(super) fn problem_of_empty(settings_file: &Path, path: &Path) -> Option<String> {
    let kept = read(path.parent()?, settings_file, SettingsFile::default())?;
    let had_any = !kept.entries.is_empty() || !kept.warnings.is_empty() || kept.policy_lost;
    let (file, path) = (settings_file.display(), path.display());
    had_any.then(|| format!("{file} is empty, and was not: restore it, or remove it and {path} for the defaults"))
}

/// Whether an entry of the two together is from what was kept.
pub(super) fn is_kept(entry: &Entry) -> bool {
    !NOT_KEPT.contains(&entry.setting.name)
}

/// Whether this user may keep settings there.
pub fn is_own(path: &Path) -> bool {
    User::owner_of(path) == Some(User::current())
}
