//! The API key: given outright, read from a file, or left by systemd as a credential.
//!
//! Of `api-key` and `api-key-file` the one from the higher source holds, so that a key for one run beats a file that the
//! settings file names. It reads the file; it never shows what is in it.

use std::path::Path;

use super::sources::{Source, Sources, Won};
use super::{Secret, file, parse};

/// No server takes a longer header; 8 KiB is the usual limit for a whole request head.
const MOST_BYTES: u64 = 8 * 1024;

/// The key that holds, with the rows of both settings. What is wrong with a file is a problem, unless it is not used.
pub fn choose(from: &mut Sources<'_>) -> Option<Secret> {
    let key = from.winner("api-key", parse::api_key);
    let key_file = from.winner("api-key-file", parse::path);
    if from.has_flag("api-key") {
        from.warnings.push("--api-key shows the key to every user in ps: use KM_API_KEY or --api-key-file".to_string());
    }
    let key_holds = match (&key, &key_file) {
        (Some(key), Some(key_file)) => {
            warn_of_loser(from, &key.source, &key_file.source);
            key.source.rank() <= key_file.source.rank()
        }
        (key, _) => key.is_some(),
    };
    match &key_file {
        Some(Won { value, source, .. }) => {
            let unused = if key_holds { ", not used: api-key holds" } else { "" };
            from.row("api-key-file", &value.display().to_string(), &format!("{source}{unused}"));
        }
        None => from.row("api-key-file", "(none)", "default"),
    }
    if let Some(Won { value, source, .. }) = key.filter(|_| key_holds) {
        from.row("api-key", "****", &source.to_string());
        return Some(value);
    }
    let found = match key_file {
        Some(Won { value: path, .. }) => read(from, &path, true).map(|key| (key, format!("file {}", path.display()))),
        None => credential(from),
    };
    match found {
        Some((key, source)) => {
            from.row("api-key", "****", &source);
            Some(key)
        }
        None => {
            from.row("api-key", "(none)", "default");
            None
        }
    }
}

fn warn_of_loser(from: &mut Sources<'_>, key: &Source, key_file: &Source) {
    match (key, key_file) {
        (Source::Environment(name), Source::Flag(flag)) | (Source::Flag(flag), Source::Environment(name)) => {
            from.warnings.push(format!("{name} in the environment overrides --{flag}"));
        }
        _ if key.rank() == key_file.rank() => {
            from.warnings.push(format!("both api-key and api-key-file are set ({key}, {key_file}): api-key holds"));
        }
        _ => {}
    }
}

/// `LoadCredential=api-key:…` in a systemd unit (systemd.exec(5)).
fn credential(from: &mut Sources<'_>) -> Option<(Secret, String)> {
    let path = Path::new(&from.variable("CREDENTIALS_DIRECTORY")?).join("api-key");
    read(from, &path, false).map(|key| (key, format!("credential {}", path.display())))
}

/// Reads a key, without the line end that editors leave. Every failure is a problem, but for a file that may be missing.
fn read(from: &mut Sources<'_>, path: &Path, must_exist: bool) -> Option<Secret> {
    let name = path.display();
    let key = match file::read(path, MOST_BYTES) {
        Ok(None) if !must_exist => return None,
        Ok(None) => Err("it does not exist: write the key there, or mend api-key-file".to_string()),
        Ok(Some((text, open_to_all))) => {
            if open_to_all {
                from.warnings.push(format!("every user can read the API key in {name}: chmod o-r {name}"));
            }
            let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
            parse::api_key(text).map_err(|cause| format!("its content {cause}"))
        }
        Err(cause) => Err(cause),
    };
    key.map_err(|cause| from.problem(format!("cannot read the API key: {name}: {cause}"))).ok()
}
