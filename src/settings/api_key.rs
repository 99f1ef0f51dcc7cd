//! The API key: given outright, read from a file that a setting names, or found where an installation keeps it.
//!
//! Of `api-key` and `api-key-file` the one from the higher source holds, so that a key for one run beats a file that
//! the settings file names. It reads the file; it never shows what is in it.
//!
//! When neither is given, the first of these that holds anything is used: the credential that systemd left, and
//! `api-key` beside the settings file, so `/etc/kmagent/api-key`. An empty one counts as unset: a unit's
//! `LoadCredential` needs a file also on a host without a key. One that cannot be read is a problem, not a reason for
//! local mode.

use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::precedence::{Layers, ResolvedValue};
use super::{KeySource, Secret, file, parse};
use crate::log::redact::MASK;
use crate::os::files::Usage;

const CREDENTIAL: &str = "credential";
const WHAT: &str = "the API key";

/// No server takes a longer header; 8 KiB is the usual limit for a whole request head.
const MAX_BYTES: u64 = 8 * 1024;

/// The key that holds, with the rows of both settings. What is wrong with a file is a problem, unless it is not used.
pub fn choose(from: &mut Layers<'_>) -> (Option<Secret>, KeySource) {
    let key = from.winner("api-key", parse::api_key);
    let key_file = from.winner("api-key-file", parse::path);
    if from.has_flag("api-key") {
        from.warnings.push("--api-key shows the key to every user in ps: use KM_API_KEY or --api-key-file".to_string());
    }
    let key_holds = match (&key, &key_file) {
        (Some(key), Some(key_file)) => {
            warn_if_overridden(from, &key.origin, &key_file.origin);
            key.origin.rank() <= key_file.origin.rank()
        }
        (key, _) => key.is_some(),
    };
    match &key_file {
        Some(ResolvedValue { value, origin, .. }) => {
            let unused = if key_holds { ", not used: api-key is set" } else { "" };
            from.row("api-key-file", &value.display().to_string(), &format!("{origin}{unused}"));
        }
        None if key_holds => from.row("api-key-file", "(none)", "default"),
        None => return in_default_files(from),
    }
    match (key.filter(|_| key_holds), key_file) {
        (Some(ResolvedValue { value, origin, .. }), _) => {
            let source = match origin {
                Origin::File { .. } => KeySource::SettingsFile,
                Origin::Environment(_) | Origin::Flag(_) => KeySource::Start,
            };
            (row(from, Some(value), &origin.to_string()), source)
        }
        (None, Some(ResolvedValue { value: path, .. })) => {
            let key = named_file(from, "api-key-file", WHAT, &path);
            (row(from, key, &format!("file {}", path.display())), KeySource::File(path))
        }
        (None, None) => (None, KeySource::SettingsFile),
    }
}

/// The key in a file, if there is one; whatever is wrong with it.
pub fn read_file(path: &Path) -> Option<Secret> {
    let (text, _) = file::read(path, MAX_BYTES).ok()??;
    parse_content(&text).ok()
}

fn row(from: &mut Layers<'_>, key: Option<Secret>, source: &str) -> Option<Secret> {
    match key {
        Some(_) => from.row("api-key", MASK, source),
        None => from.row("api-key", "(none)", "default"),
    }
    key
}

fn warn_if_overridden(from: &mut Layers<'_>, key: &Origin, key_file: &Origin) {
    match (key, key_file) {
        (Origin::Environment(name), Origin::Flag(flag)) | (Origin::Flag(flag), Origin::Environment(name)) => {
            from.warnings.push(format!("{name} in the environment overrides --{flag}"));
        }
        _ if key.rank() == key_file.rank() => {
            from.warnings.push(format!("both api-key and api-key-file are set ({key}, {key_file}): using api-key"));
        }
        _ => {}
    }
}

/// The file that a setting names: that it is missing or blank is a problem.
pub fn named_file(from: &mut Layers<'_>, setting: &'static str, what: &str, path: &Path) -> Option<Secret> {
    if !from.may_use(setting, path, Usage::Read) {
        return None;
    }
    let missing = || Err(format!("it does not exist: write {what} there, or fix {setting}"));
    let key = read(from, path).and_then(|text| text.map_or_else(missing, |text| parse_content(&text)));
    or_problem(from, what, path, key)
}

/// The key of the first default file that holds anything, with the rows of both settings.
fn in_default_files(from: &mut Layers<'_>) -> (Option<Secret>, KeySource) {
    let mut empty = None;
    for (path, word) in default_files(from) {
        let name = path.display().to_string();
        let key = match read(from, &path) {
            Ok(None) => continue,
            Ok(Some(text)) if text.trim().is_empty() => {
                empty.get_or_insert(name);
                continue;
            }
            Ok(Some(text)) => parse_content(&text),
            Err(cause) => Err(cause),
        };
        let key = or_problem(from, WHAT, &path, key);
        from.row("api-key-file", &name, "default");
        let source = if word == CREDENTIAL { KeySource::Credential } else { KeySource::File(path) };
        return (row(from, key, &format!("{word} {name}")), source);
    }
    match empty {
        Some(name) => from.row("api-key-file", &name, "default, empty"),
        None => from.row("api-key-file", "(none)", "default"),
    }
    (row(from, None, ""), KeySource::File(beside(from)))
}

fn beside(from: &Layers<'_>) -> PathBuf {
    from.beside_settings_file("api-key")
}

/// `LoadCredential=api-key:…` in a systemd unit (systemd.exec(5)), then what root and a unit without credentials read.
fn default_files(from: &mut Layers<'_>) -> Vec<(PathBuf, &'static str)> {
    let credential = from.variable("CREDENTIALS_DIRECTORY").map(|dir| (Path::new(&dir).join("api-key"), CREDENTIAL));
    credential.into_iter().chain([(beside(from), "file")]).collect()
}

/// `None` if there is no such file.
fn read(from: &mut Layers<'_>, path: &Path) -> Result<Option<String>, String> {
    let Some((text, open_to_all)) = file::read(path, MAX_BYTES)? else { return Ok(None) };
    if open_to_all && !text.trim().is_empty() {
        from.warnings.push(file::readable_by_all(path));
    }
    Ok(Some(text))
}

/// Without the line end that editors leave.
fn parse_content(text: &str) -> Result<Secret, String> {
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    parse::api_key(text).map_err(|cause| format!("its content {cause}"))
}

/// A failure becomes a problem.
fn or_problem(from: &mut Layers<'_>, what: &str, path: &Path, key: Result<Secret, String>) -> Option<Secret> {
    key.map_err(|cause| from.problem(format!("cannot read {what}: {}: {cause}", path.display()))).ok()
}
