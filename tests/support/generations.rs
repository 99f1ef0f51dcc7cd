//! The generations in a state directory, as an operator finds them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Whether the list is one, if it is there.
pub fn is_whole(state_dir: &Path) -> bool {
    let text = fs::read(state_dir.join("generations.json"));
    text.is_err() || serde_json::from_slice::<Value>(&text.unwrap()).is_ok()
}

/// Makes generations with these contents, all confirmed.
pub fn make(state_dir: &Path, contents: &[String]) {
    fs::create_dir_all(state_dir.join("generations")).unwrap();
    let entries: Vec<Value> = (1..=contents.len())
        .map(|number| json!({"number": number, "revision": null, "source": "api", "installed_at": 1, "standing": "confirmed"}))
        .collect();
    for (entry, content) in entries.iter().zip(contents) {
        fs::write(state_dir.join(format!("generations/{}.yaml", entry["number"])), content).unwrap();
    }
    fs::write(state_dir.join("generations.json"), json!({"generations": entries}).to_string()).unwrap();
}

/// The entries of the list, the oldest first; none where it is missing or not whole.
pub fn list(state_dir: &Path) -> Vec<Value> {
    let text = fs::read(state_dir.join("generations.json")).unwrap_or_default();
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    list["generations"].as_array().cloned().unwrap_or_default()
}

/// The name of an entry's standing.
pub fn standing(entry: &Value) -> &str {
    let standing = &entry["standing"];
    let tagged = standing.as_object().and_then(|fields| fields.keys().next());
    standing.as_str().or(tagged.map(String::as_str)).unwrap_or_default()
}

/// The content of the newest one that stands so; empty when there is none.
fn newest(state_dir: &Path, standings: &[&str]) -> String {
    let list = list(state_dir);
    let newest = list.iter().rfind(|entry| standings.contains(&standing(entry)));
    let path = newest.map(|entry| state_dir.join(format!("generations/{}.yaml", entry["number"])));
    path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

pub fn proved(state_dir: &Path) -> String {
    newest(state_dir, &["unconfirmed", "confirmed"])
}

pub fn rejected(state_dir: &Path) -> String {
    newest(state_dir, &["rolled-back", "refused"])
}
