//! What will not reach whom it is meant for: variables that are nearly a setting's, and an API key that the collector
//! reads as something else.

use crate::collector::Collector;
use crate::config::inspect::{expansions, misread};
use crate::error::Result;
use crate::settings::table::SETTINGS;
use crate::settings::{Settings, suggest};
use crate::store::Store;

/// How many letters of a name may be wrong.
const MAX_EDITS: usize = 2;

/// A whole line each, without any value.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let misread = settings.api_key.as_ref().and_then(|key| misread(key.expose()));
    let key = misread.map(|form| {
        format!(
            "the collector does not read the API key as it is where a config has ${{env:KM_API_KEY}}: {form}; ask for \
             another key, or write it in local-config, in quotes and with each $ doubled"
        )
    });
    lookalikes(settings).chain(key).collect()
}

/// Of variables that a config refers to, nobody can tell that they are meant for us.
fn lookalikes(settings: &Settings) -> impl Iterator<Item = String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let known = || SETTINGS.iter().map(|setting| setting.env);
    let near = |name: String| {
        let is_ours = !name.starts_with("KM_") || known().any(|known| known == name);
        let meant = suggest::near(&name, MAX_EDITS, known()).filter(|_| !is_ours)?;
        Some((name, meant))
    };
    let mut found: Vec<(String, &str)> = names.filter_map(near).collect();
    found.sort();
    if !found.is_empty() {
        let of_configs = referenced(settings);
        found.retain(|(name, _)| of_configs.as_ref().is_ok_and(|of_configs| !of_configs.contains(name)));
    }
    found
        .into_iter()
        .map(|(name, meant)| format!("{name} is no setting and the config does not refer to it: did you mean {meant}?"))
}

/// The names of the variables that the active config and the overlay refer to.
fn referenced(settings: &Settings) -> Result<Vec<String>> {
    let store = Store::of(settings);
    let collector = Collector::new(settings);
    let overlay = collector.overlay(|path| store.read_overlay(path))?;
    let config = store.has_config().then(|| store.read_config()).transpose()?;
    let found = config.iter().chain(&overlay).flat_map(|config| expansions(config, &|name| collector.env(name)));
    Ok(found.map(|it| it.body.split_once(":-").map_or(it.body.clone(), |(name, _)| name.to_string())).collect())
}
