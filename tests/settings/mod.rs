//! The man page's SETTINGS: where a value comes from, which one holds, and what is said of a bad one.

mod endpoint;
mod last_good;
mod problems;
mod sources;
mod variables;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::support::bin::{self, Output};
use crate::support::temp_dir::TempDir;

/// A directory with a settings file, and a kmagent that is run with it and nothing else.
pub struct Case {
    pub dir: TempDir,
}

impl Case {
    pub fn new(settings_file: &str) -> Case {
        let case = Case { dir: TempDir::new() };
        case.file("agent.yaml", settings_file);
        case
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// `--print-settings` with these variables and options.
    pub fn print(&self, env: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = Command::new(bin::kmagent());
        command.env_clear().envs(env.iter().copied()).stdin(Stdio::null()).current_dir(self.dir.path());
        command.arg("--agent-config").arg(self.dir.join("agent.yaml")).arg("--print-settings").args(args);
        bin::output(command)
    }

    /// Value and source of each setting.
    #[track_caller]
    pub fn rows(&self, env: &[(&str, &str)], args: &[&str]) -> BTreeMap<String, (String, String)> {
        rows(&self.print(env, args))
    }
}

#[track_caller]
pub fn rows(output: &Output) -> BTreeMap<String, (String, String)> {
    assert_eq!(output.code, Some(0), "{output:?}");
    let row = |line: &str| {
        let (key, rest) = line.split_once(" = ").unwrap_or_else(|| panic!("{line:?}"));
        let (value, source) = rest.rsplit_once("   (").unwrap_or_else(|| panic!("{line:?}"));
        (key.trim().to_string(), (value.trim().to_string(), source.strip_suffix(')').unwrap().to_string()))
    };
    output.stdout.lines().map(row).collect()
}
