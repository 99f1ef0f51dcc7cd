//! The settings file of the latest good start, for a start whose own has gone bad: kept in the state directory.
//!
//! Without what names programs or the policy: the state directory is the collector's user's too, while the settings
//! file may be root's. `collector` and `policy` are taken from the bad file, if that says them beyond doubt. Only who
//! owns the state directory keeps and reads it, so root reads none of another user's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{Entry, SettingsFile};
use super::table::{self, Kind};
use crate::os::files::{self, safe_open};
use crate::os::user::User;

/// In the state directory.
pub const FILE_NAME: &str = "settings.json";

const COLLECTOR: &str = "collector";
const POLICY: &str = "policy";
const NOT_KEPT: [&str; 3] = [COLLECTOR, POLICY, "on-change"];

const LOST: &str = "the bad settings file does not say on one line which collector to run, or root may not believe it: \
                    `collector` is as if it was not set";

/// Bytes: six for each of a settings file (JSON escapes), and for the names.
const MAX_BYTES: u64 = 512 * 1024;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// Another agent's, of which this could be the default state directory, are not to be taken.
    settings_file: PathBuf,
    /// As they stand in the file.
    settings: BTreeMap<String, String>,
    /// Whether the file names the collector.
    names_collector: bool,
    /// Whether it names the policy.
    #[serde(default)]
    names_policy: bool,
}

/// There may be a key in it.
impl fmt::Debug for LastGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastGood")
    }
}

impl LastGood {
    pub(super) fn of(settings_file: &Path, file: &SettingsFile) -> LastGood {
        let kept = file.entries.iter().filter(|entry| !NOT_KEPT.contains(&entry.setting.name));
        let settings = kept.map(|entry| (entry.setting.name.to_string(), entry.text.clone())).collect();
        let names = |name: &str| file.entries.iter().any(|entry| entry.setting.name == name);
        let (names_collector, names_policy) = (names(COLLECTOR), names(POLICY));
        LastGood { settings_file: settings_file.to_path_buf(), settings, names_collector, names_policy }
    }

    /// `None` if there are none that are this user's, of this settings file.
    pub(super) fn read(state_dir: &Path, settings_file: &Path) -> Option<LastGood> {
        let path = state_dir.join(FILE_NAME);
        if !is_own(state_dir) || !is_own(&path) {
            return None;
        }
        let bytes = safe_open::read(&path, MAX_BYTES).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|kept: &LastGood| kept.settings_file == settings_file)
    }

    /// In place of the bad file; an entry from here has no line. What a later version has kept is passed over.
    pub(super) fn instead_of(self, bad: SettingsFile) -> SettingsFile {
        let kept = self.settings.into_iter().filter_map(|(name, text)| {
            let setting = table::find(&name).filter(|setting| setting.kind != Kind::NotInFile)?;
            (!NOT_KEPT.contains(&setting.name)).then_some(Entry { setting, text, line: 0, is_repeated: false })
        });
        // As root only from a file that is root's: another user could have made it bad to be believed here.
        let is_trusted = files::owner_may_command(&self.settings_file);
        let said = bad.entries.into_iter().filter(|entry| !entry.is_repeated && is_trusted);
        let taken = said.filter(|entry| [COLLECTOR, POLICY].contains(&entry.setting.name));
        let entries: Vec<Entry> = kept.chain(taken).collect();
        let has = |name: &str| entries.iter().any(|entry| entry.setting.name == name);
        let warnings = (self.names_collector && !has(COLLECTOR)).then(|| LOST.to_string()).into_iter().collect();
        let policy_lost = self.names_policy && !has(POLICY);
        SettingsFile { found: true, entries, warnings, policy_lost, ..SettingsFile::default() }
    }
}

/// Whether this user may keep settings there.
pub fn is_own(path: &Path) -> bool {
    User::owner_of(path) == Some(User::current())
}
