//! The settings file of the latest good start, for a start whose own has gone bad: kept in the state directory.
//!
//! Without what names programs: the state directory is the collector's user's too, while the settings file may be
//! root's. `collector` is taken from the bad file, if that says it beyond doubt. Only who owns the state directory
//! keeps and reads it, so root reads none of another user's.

use std::fmt::Write;
use std::path::Path;

use super::file::{self, Entry, SettingsFile};
use crate::os::files::{self, safe_open};
use crate::os::user::User;

/// In the state directory.
pub const FILE_NAME: &str = "settings.yaml";

const COLLECTOR: &str = "collector";
const NOT_KEPT: [&str; 2] = [COLLECTOR, "on-change"];

/// Bytes: six for each of a settings file (JSON escapes), and for the names.
pub const MAX_BYTES: u64 = 512 * 1024;

/// In the place of `collector`, so that a start which lacks it can say so.
const WAS_NAMED: &str = "# collector is not kept\n";
const LOST: &str = "the bad settings file does not say on one line which collector to run, or root may not believe it: \
                    `collector` is as if it was not set";

/// What is kept of a settings file: a settings file itself, whose first line says of which one. Another agent's, of
/// which this could be the default state directory, must not be taken.
pub fn text(settings_file: &Path, entries: &[Entry]) -> String {
    let mut text = heading(settings_file);
    for Entry { setting, text: value, .. } in entries {
        // JSON's strings are YAML's too. Writing to a String does not fail.
        match setting.name {
            COLLECTOR => text.push_str(WAS_NAMED),
            name if NOT_KEPT.contains(&name) => {}
            name => {
                let _ = writeln!(text, "{name}: {}", serde_json::Value::from(value.as_str()));
            }
        }
    }
    text
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
    let program = bad.entries.into_iter().find(|entry| entry.setting.name == COLLECTOR && !entry.is_repeated);
    match program.filter(|_| files::owner_may_command(settings_file)) {
        Some(program) => kept.entries.push(program),
        None if text.contains(WAS_NAMED) => kept.warnings.push(LOST.to_string()),
        None => {}
    }
    Some(kept)
}

/// Whether an entry of the two together is from what was kept.
pub(super) fn is_kept(entry: &Entry) -> bool {
    !NOT_KEPT.contains(&entry.setting.name)
}

/// Whether this user may keep settings there.
pub fn is_own(path: &Path) -> bool {
    User::owner_of(path) == Some(User::current())
}
