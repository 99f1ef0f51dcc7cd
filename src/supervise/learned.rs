//! The secrets that the supervisor knows of: the key, and what looks like one in the configs of the collectors that live.
//!
//! During a hand-over two configs are in use, and after one that failed the old one still is: so they are kept by collector.

use std::sync::Arc;

use super::Living;
use crate::collector::Collector;
use crate::collector_config;
use crate::core::event::Child;
use crate::logger;
use crate::secrets::Secrets;
use crate::value::Value;

pub(super) struct Learned {
    key: Option<String>,
    by_collector: Vec<(Child, Vec<String>)>,
    all: Arc<Secrets>,
}

impl Learned {
    pub(super) fn new(key: Option<String>) -> Learned {
        Learned { by_collector: Vec::new(), all: Arc::new(Secrets::new(key.clone())), key }
    }

    /// From now on nothing that looks like a secret in these configs of `child` is shown, nor in those that `others` run with.
    pub(super) fn learn(&mut self, child: Child, others: &[Living], configs: &[Value], collector: &Collector) {
        let found = configs.iter().flat_map(|config| collector_config::secrets(config, &|name| collector.env(name)));
        self.by_collector.retain(|(known, _)| others.iter().any(|other| other.child == *known));
        self.by_collector.push((child, found.collect()));
        let all = self.by_collector.iter().flat_map(|(_, secrets)| secrets);
        self.all = Arc::new(Secrets::new(self.key.iter().chain(all).cloned()));
        logger::set_secrets(Arc::clone(&self.all));
    }

    pub(super) fn mask(&self, text: &str) -> String {
        self.all.mask(text).into_owned()
    }
}
