//! What a rejection depends on, and whether it holds for what would run now: the collector's content, the overlay's,
//! the variables that the config refers to, a file that an error named.
//!
//! A collector is hashed only when its file is not the one that was seen last, and only for a config that is rejected.

use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use crate::collector::{Collector, start_failure};
use crate::config::value::Value;
use crate::config::{inspect, yaml};
use crate::os::files::{self, FileId, safe_open};
use crate::store::record::{self, Rejected, UNKNOWN};

/// Hexadecimal digits of an identity: enough to tell a handful of files apart, and too few to guess a value by.
const DIGITS: usize = 12;

/// What a validation was begun with: a person may change it meanwhile.
pub(super) struct Begun {
    collector: Option<FileId>,
    overlay: String,
}

pub(super) struct Conditions {
    collector: Collector,
    overlay: Option<PathBuf>,
    /// Bytes of an overlay that is read.
    max_overlay: u64,
    hashed: Option<(FileId, String)>,
}

impl Conditions {
    pub(super) fn new(collector: &Collector, max_overlay: u64) -> Conditions {
        let overlay = collector.local_config().map(Path::to_path_buf);
        Conditions { collector: collector.clone(), overlay, max_overlay, hashed: None }
    }

    /// What a collector that is about to validate does it with. Hashed is only what refuses something.
    pub(super) fn begin(&self) -> Begun {
        Begun { collector: self.collector.file_id(), overlay: self.overlay() }
    }

    /// `rejected`, which holds for any collector, as what this collector refuses of `config`.
    pub(super) fn refused(&mut self, rejected: Rejected, config: &Value, begun: Begun) -> Rejected {
        let Begun { collector, overlay } = begun;
        // Another one by now: the next check sees that.
        let is_same = collector == self.collector.file_id();
        let content = collector.map(|file| if is_same { self.content(file) } else { UNKNOWN.to_string() });
        let (overlay, environment) = (Some(overlay), Some(self.environment(config)));
        let named = rejected.conditions.named;
        Rejected {
            collector,
            conditions: Box::new(record::Conditions { content, overlay, overlay_file: None, environment, named }),
            ..rejected
        }
    }

    /// `rejected` with all that it depends on, if it holds; `None` if any of that is another now.
    pub(super) fn hold(&mut self, rejected: &Rejected, config: Option<&Value>) -> Option<Rejected> {
        let mut known = rejected.clone();
        let conditions = &rejected.conditions;
        if [&conditions.named, &conditions.overlay_file].into_iter().flatten().any(files::SeenFile::has_changed) {
            return None;
        }
        known.conditions.overlay_file = None;
        // Without a collector nothing can be tried.
        if let (Some(file), Some(present)) = (rejected.collector, self.collector.file_id()) {
            // An older version has compared the files alone; nor does the supervisor hash any.
            let is_hashed = conditions.content.as_ref().is_some_and(|content| content != UNKNOWN);
            if file != present || !is_hashed {
                let content = self.content(present);
                if file != present && !(is_hashed && conditions.content.as_ref() == Some(&content)) {
                    return None;
                }
                (known.collector, known.conditions.content) = (Some(present), Some(content));
            }
        }
        known.conditions.overlay = same(&conditions.overlay, || self.overlay())?;
        if let Some(config) = config {
            // The supervisor does not read the overlay while a collector lives.
            if conditions.overlay.as_deref() == Some(UNKNOWN) {
                known.problem = self.explained(&rejected.problem, config).into();
            }
            known.conditions.environment = same(&conditions.environment, || self.environment(config))?;
        }
        Some(known)
    }

    /// Why a collector with `config` failed, with what the overlay has to do with it.
    pub(super) fn explained(&self, problem: &str, config: &Value) -> String {
        let read = |path: &Path| yaml::parse(&safe_open::read(path, self.max_overlay).ok()?).ok();
        let error = start_failure::fatal(problem).filter(|_| !problem.contains("; the overlay "));
        let overlay = error.and_then(|error| self.collector.overlay_problem(error, config, read));
        overlay.map_or_else(|| problem.to_string(), |overlay| format!("{problem}; {overlay}"))
    }

    /// Of the collector's program, which is this file.
    fn content(&mut self, file: FileId) -> String {
        if let Some((seen, content)) = &self.hashed
            && *seen == file
        {
            return content.clone();
        }
        let mut context = Context::new(&SHA256);
        let read = self.collector.find().map_err(|error| error.to_string()).and_then(|path| {
            files::read_through(&path, &mut |block| context.update(block)).map_err(|error| error.to_string())
        });
        let content = match read {
            Ok(()) => digits(context),
            // One that may be executed and not be read: another file is another collector.
            Err(_) => format!("{file:?}"),
        };
        self.hashed = Some((file, content.clone()));
        content
    }

    /// Of the overlay, or what keeps it from being read.
    pub(super) fn overlay(&self) -> String {
        let Some(path) = &self.overlay else { return "none".to_string() };
        match safe_open::read(path, self.max_overlay) {
            Ok(bytes) => digest(&bytes),
            Err(error) => error.kind().to_string(),
        }
    }

    /// Of the variables that `config` and the overlay refer to.
    fn environment(&self, config: &Value) -> String {
        let env = |name: &str| self.collector.env(name);
        let overlay = self.overlay.as_ref().and_then(|path| safe_open::read(path, self.max_overlay).ok());
        let overlay = overlay.and_then(|bytes| yaml::parse(&bytes).ok());
        let mut names: Vec<String> = [config]
            .into_iter()
            .chain(&overlay)
            .flat_map(|it| inspect::expansions(it, &env))
            .filter(inspect::Expansion::is_env)
            .map(|it| it.body.split(":-").next().unwrap_or_default().to_string())
            .collect();
        names.sort_unstable();
        names.dedup();
        let values: Vec<String> = names.iter().map(|name| format!("{name:?}={:?}", env(name))).collect();
        digest(values.join("\n").as_bytes())
    }
}

/// What is known from now on; `None` if it is another than it was. What is not depended on stays out.
fn same(kept: &Option<String>, present: impl FnOnce() -> String) -> Option<Option<String>> {
    match kept.as_deref() {
        None => Some(None),
        Some(UNKNOWN) => Some(Some(present())),
        Some(kept) => {
            let present = present();
            (kept == present).then_some(Some(present))
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    digits(context)
}

fn digits(context: Context) -> String {
    let digest = context.finish();
    digest.as_ref().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::os::unix::files::test_dir::{Dir, write};
    use crate::settings;

    struct Site {
        dir: Dir,
    }

    impl Site {
        fn new() -> Site {
            let site = Site { dir: Dir::new() };
            site.program("one");
            write(site.dir.join("overlay.yaml"), "a: 1");
            site
        }

        fn program(&self, content: &str) {
            let path = self.dir.join("collector");
            write(&path, content);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// With this value of the variable that the config refers to.
        fn conditions(&self, variable: &str) -> Conditions {
            let (dir, value) = (self.dir.path().to_path_buf(), variable.to_string());
            let env = move |name: &str| {
                Some(match name {
                    "KM_COLLECTOR" => dir.join("collector").into(),
                    "KM_LOCAL_CONFIG" => dir.join("overlay.yaml").into(),
                    "KM_API_KEY" => value.clone().into(),
                    _ => return None,
                })
            };
            let settings = settings::resolve(&[], &env).unwrap().settings;
            Conditions::new(&Collector::new(&settings), 1000)
        }
    }

    impl Conditions {
        fn refused_now(&mut self, rejected: Rejected) -> Rejected {
            let begun = self.begin();
            self.refused(rejected, &config(), begun)
        }
    }

    fn config() -> Value {
        serde_json::from_str(r#"{"x": "${env:KM_API_KEY}"}"#).unwrap()
    }

    fn rejected() -> Rejected {
        Rejected { at: 7, ..Rejected::new(config().revision(), "boom") }
    }

    #[test]
    fn a_refusal_stands_until_collector_overlay_or_environment_are_others() {
        let site = Site::new();
        let refused = site.conditions("k1").refused_now(rejected());
        let holds = |variable: &str| site.conditions(variable).hold(&refused, Some(&config()));
        assert_eq!(holds("k1"), Some(refused.clone()));
        assert_eq!(holds("k2"), None, "another value of the variable");
        write(site.dir.join("overlay.yaml"), "a: 2");
        assert_eq!(holds("k1"), None, "another overlay");
        std::fs::remove_file(site.dir.join("overlay.yaml")).unwrap();
        assert_eq!(holds("k1"), None, "no overlay");
        write(site.dir.join("overlay.yaml"), "a: 1");
        assert_eq!(holds("k1"), Some(refused.clone()));
        site.program("two");
        assert_eq!(holds("k1"), None, "another collector");
    }

    /// Its ctime is another; so is its inode after a reinstallation.
    #[test]
    fn the_same_content_is_the_same_collector() {
        let site = Site::new();
        let refused = site.conditions("k").refused_now(rejected());
        site.program("one");
        let held = site.conditions("k").hold(&refused, Some(&config())).expect("it holds");
        assert_ne!(held.collector, refused.collector, "the next check need not hash it again");
        assert_eq!(held.conditions, refused.conditions);
    }

    #[test]
    fn what_the_supervisor_rejects_is_completed_by_the_next_check() {
        let site = Site::new();
        let collector = FileId::of(&site.dir.join("collector"));
        for has_served in [true, false] {
            let rolled_back =
                Rejected { collector, conditions: record::Conditions::unknown(has_served, None), ..rejected() };
            let held = site.conditions("k1").hold(&rolled_back, Some(&config())).expect("it holds");
            let full = site.conditions("k1").refused_now(rejected());
            assert_eq!(
                (&held.conditions.content, &held.conditions.overlay),
                (&full.conditions.content, &full.conditions.overlay)
            );
            // What has served is not tried again for another environment.
            assert_eq!(site.conditions("k2").hold(&held, Some(&config())).is_some(), has_served);
            assert_eq!(held.conditions.environment.is_none(), has_served);
        }
        // Of an older version: by the file alone, until it is seen once.
        let old = Rejected { collector, ..rejected() };
        assert_eq!(site.conditions("k").hold(&old, None).unwrap().conditions.content.map(|it| it.len()), Some(DIGITS));
        site.program("one");
        assert_eq!(site.conditions("k").hold(&old, None), None);
    }

    /// Between the failure and the next check, or while `validate` runs.
    #[test]
    fn what_is_corrected_before_its_identity_is_known_ends_it_too() {
        let site = Site::new();
        let overlay = site.dir.join("overlay.yaml");
        let started_with = || Some(files::SeenFile::now(&overlay));
        let collector = FileId::of(&site.dir.join("collector"));
        let unknown = || record::Conditions::unknown(true, started_with());
        let failed = Rejected { collector, conditions: unknown(), ..rejected() };
        let held = site.conditions("k").hold(&failed, Some(&config())).expect("it holds");
        assert_eq!(held.conditions.overlay_file, None, "from now on the content counts");
        let mut conditions = site.conditions("k");
        let begun = conditions.begin();
        write(&overlay, "a: 22");
        assert_eq!(site.conditions("k").hold(&failed, Some(&config())), None);
        let refused = conditions.refused(rejected(), &config(), begun);
        assert_eq!(site.conditions("k").hold(&refused, Some(&config())), None);

        let mut conditions = site.conditions("k");
        let begun = conditions.begin();
        site.program("two, and longer");
        let refused = conditions.refused(rejected(), &config(), begun);
        assert_eq!(site.conditions("k").hold(&refused, Some(&config())), None);
    }

    #[test]
    fn a_file_that_the_error_named_ends_it_when_it_changes() {
        let site = Site::new();
        let mut refused = rejected();
        refused.conditions.named = Some(files::SeenFile::now(&site.dir.join("missing")));
        assert!(site.conditions("k").hold(&refused, None).is_some());
        write(site.dir.join("missing"), "");
        assert!(site.conditions("k").hold(&refused, None).is_none());
    }

    /// Of any collector and overlay: what cannot be read as a config.
    #[test]
    fn what_depends_on_nothing_holds() {
        let site = Site::new();
        let refused = rejected();
        site.program("two");
        assert_eq!(site.conditions("k").hold(&refused, None), Some(refused));
    }
}
