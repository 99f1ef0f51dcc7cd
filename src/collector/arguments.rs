//! `collector-args`: what a collector that runs or validates is given besides its configs.
//!
//! What they are may not be is for `settings::parse`. `--set` is a part of the config, which whoever reads that must
//! know: a last overlay.

use std::path::Path;

use super::Collector;
use crate::config::inspect;
use crate::config::merge::merge;
use crate::config::value::Value;
use crate::config::yaml;
use crate::error::Result;

impl Collector {
    /// What is laid over the config: the file, which `read` reads, and what the arguments set; `None` if there is
    /// neither.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn overlay(&self, read: impl FnOnce(&Path) -> Result<Value>) -> Result<Option<Value>> {
        let file = self.local_config().map(read).transpose()?;
        let set = values(&self.args);
        let layers: Vec<&Value> = file.iter().chain(&set).collect();
        Ok((!layers.is_empty()).then(|| merge(&layers).into_owned()))
    }

    /// That an error is about what the overlay sets and `config` does not, in words. `read` reads the file.
    pub fn overlay_problem(
        &self,
        error: &str,
        config: &Value,
        read: impl FnOnce(&Path) -> Option<Value>,
    ) -> Option<String> {
        let path = self.local_config()?;
        let place = inspect::quoted_place(error, &read(path)?, config)?;
        Some(format!("the overlay {} sets {place}", path.display()))
    }
}

/// Each `--set=processors.batch.timeout=2s`, or in two arguments, as the collector's command line takes it: the later
/// one wins.
fn values(args: &[String]) -> Vec<Value> {
    let text = |(index, arg): (usize, &String)| {
        let rest = arg.strip_prefix("--set")?;
        let text = if rest.is_empty() { args.get(index + 1)? } else { rest.strip_prefix('=')? };
        let (place, value) = text.split_once('=')?;
        let value = yaml::parse(value.trim().as_bytes()).unwrap_or_else(|_| Value::String(value.trim().to_string()));
        let place = place.trim().replace("::", ".");
        Some(place.rsplit('.').fold(value, |value, key| Value::Object(vec![(key.to_string(), value)])))
    };
    args.iter().enumerate().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_a_part_of_the_config() {
        let args =
            ["--feature-gates=a.b=c", "--set=processors.batch.timeout=2s", "--set", " a::b = [1, x=y] ", "--set=c"];
        let set = values(&args.map(str::to_string));
        let layers: Vec<&Value> = set.iter().collect();
        assert_eq!(merge(&layers).canonical(), r#"{"a":{"b":[1,"x=y"]},"processors":{"batch":{"timeout":"2s"}}}"#);
    }
}
