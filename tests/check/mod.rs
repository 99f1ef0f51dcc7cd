//! The man page's `--check`: one config check, for cron and for people.

mod alone;
mod as_owner;
mod generations;
mod killed;
mod on_change;
mod others_paths;
mod others_settings;
mod output;
mod with_agent;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;

/// A host that polls `api`; its `--check` is as quiet as the default log level makes it.
pub fn host(api: &Api) -> Builder {
    Agent::builder().api(api).setting("log-level", "info")
}

/// A config that the stand-in collector accepts; different names make different configs.
pub fn config(name: &str) -> Value {
    json!({"fake": {"stderr": name}})
}

/// One that its `validate` refuses.
pub fn bad_config() -> Value {
    json!({"fake": {"validate": "fail"}})
}

/// Everything that there is to know about a file; a time of access is none of it.
#[derive(Debug, PartialEq)]
pub struct File {
    inode: u64,
    mode: u32,
    modified: (i64, i64),
    content: Option<Vec<u8>>,
}

/// All files and directories of the host, but for what the stand-in collector records.
pub fn files(agent: &Agent) -> BTreeMap<PathBuf, File> {
    fn walk(path: &Path, found: &mut BTreeMap<PathBuf, File>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let content = meta.is_file().then(|| fs::read(path).unwrap());
        let modified = (meta.mtime(), meta.mtime_nsec());
        found.insert(path.to_path_buf(), File { inode: meta.ino(), mode: meta.mode(), modified, content });
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), found);
        }
    }
    let mut found = BTreeMap::new();
    for dir in ["etc", "state", "run"].map(|name| agent.dir().join(name)) {
        if dir.exists() {
            walk(&dir, &mut found);
        }
    }
    found
}

/// Only the contents, by path: for what may make a temporary file and remove it.
pub fn contents(agent: &Agent) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(agent).into_iter();
    files.filter_map(|(path, file)| Some((path, file.content?))).collect()
}

/// An `on-change` that notes each run in the file `changes`, with the config's name that it saw, and goes on with
/// `more`.
pub fn noting(builder: Builder, more: &str) -> Builder {
    let dir = builder.dir().display().to_string();
    let script = "name=$(sed -n 's/.*stderr: *//p' DIR/etc/config.yaml); echo \"saw $name\" >> DIR/changes; cd DIR; ";
    builder.setting("on-change", format!("{}{more}", script.replace("DIR", &dir)))
}

/// What the runs of `noting` saw, oldest first.
pub fn changes(agent: &Agent) -> Vec<String> {
    let text = fs::read_to_string(agent.dir().join("changes")).unwrap_or_default();
    text.lines().map(|line| line.trim_start_matches("saw ").trim_matches(['"', '}']).to_string()).collect()
}
