//! The secrets that the supervisor knows of: the key, and what looks like one in the configs of the collectors that
//! live.
//!
//! During a hand-over two configs are in use, and after one that failed the old one still is: so they are kept by
//! collector.

use std::sync::Arc;

use crate::config::inspect;
use crate::config::value::Value;
use crate::core::event::ChildId;
use crate::log::redact::Secrets;

pub(super) struct SecretRegistry {
    key: Option<String>,
    by_collector: Vec<(ChildId, Vec<String>)>,
    all: Arc<Secrets>,
}

impl SecretRegistry {
    pub(super) fn new(key: Option<String>) -> SecretRegistry {
        SecretRegistry { by_collector: Vec::new(), all: Arc::new(Secrets::new(key.clone())), key }
    }

    /// From now on nothing that looks like a secret in these configs of `child` is shown, nor in those that all of
    /// `live` run with.
    pub(super) fn learn(
        &mut self,
        child: ChildId,
        live: &[ChildId],
        configs: &[Value],
        env: &dyn Fn(&str) -> Option<String>,
    ) {
        let found = configs.iter().flat_map(|config| inspect::secrets(config, env));
        self.by_collector.retain(|(known, _)| live.contains(known));
        self.by_collector.push((child, found.collect()));
        let all = self.by_collector.iter().flat_map(|(_, secrets)| secrets);
        self.all = Arc::new(Secrets::new(self.key.iter().chain(all).cloned()));
        crate::log::set_secrets(Arc::clone(&self.all));
    }

    pub(super) fn mask(&self, text: &str) -> String {
        self.all.mask(text).into_owned()
    }
}
