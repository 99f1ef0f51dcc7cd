//! What a collector, its configs and its environment must keep to themselves, and what of its output may be told
//! outside of this host.

use super::Collector;
use crate::config::inspect::{self, Expansion};
use crate::config::merge::merge;
use crate::config::value::Value;
use crate::log::Masked;
use crate::log::redact::Secrets;

impl Collector {
    /// What nobody may see of these configs.
    pub fn secrets<'a>(&self, configs: impl IntoIterator<Item = &'a Value>) -> Secrets {
        let env = |name: &str| self.env(name);
        let found = configs.into_iter().flat_map(|config| inspect::secrets(config, &env));
        Secrets::new(found.filter(|secret| !self.environment.is_public(secret)))
    }

    /// What may be told to the source and to clients of `output`, from a collector with these configs: all of it,
    /// unless they read more than the environment. Then it may quote what they read, and is only said in the log.
    pub fn told_outside(&self, output: &Masked, configs: &[&Value]) -> Masked {
        match self.reads_elsewhere(configs) {
            None => output.clone(),
            Some(Expansion { place, scheme, .. }) => {
                let scheme = scheme.map_or_else(|| "an expansion".to_owned(), |scheme| format!("${{{scheme}:…}}"));
                let complaint = inspect::complaint(output, &merge(configs));
                let why =
                    format!("because the config reads {scheme} at {place}, the whole error is only in the agent's log");
                Masked::from(format!("{complaint}; {why}"))
            }
        }
    }

    /// The first place where these configs read something that is not in the environment.
    pub fn reads_elsewhere(&self, configs: &[&Value]) -> Option<Expansion> {
        let env = |name: &str| self.env(name);
        configs.iter().flat_map(|config| inspect::expansions(config, &env)).find(|it| !it.is_env())
    }
}
