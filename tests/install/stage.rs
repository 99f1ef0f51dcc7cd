//! Release directories, as `dist/stage` lays them out, and `install.sh` run from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::bin::{self, Output};
use crate::support::temp_dir::TempDir;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Another version, as long as this one, so that it can be written over it in a program.
pub const OLDER: &str = "1.9.9";

/// A stand-in collector for a root without anything but a shell: it takes every config but one with `no-such-thing` in
/// it.
pub const COLLECTOR: &str = r#"#!/bin/sh
case $1 in
    --version) echo "kmagent-collector version 0.1.0" ;;
    validate)
        for argument; do
            ! grep -q no-such-thing "${argument#--config=}" 2>/dev/null || { echo "Error: refused" >&2 && exit 1; }
        done
        ;;
    *)
        trap 'kill $!; exit 0' TERM
        echo 'info	service/service.go	Everything is ready. Begin running and processing data.' >&2
        while :; do sleep 1000 & wait $!; done
        ;;
esac
"#;

/// A directory as a tarball unpacks to.
pub struct Stage {
    dir: TempDir,
}

impl Stage {
    /// Of the agent under test and the stand-in collector.
    pub fn new() -> Stage {
        let dir = TempDir::new();
        let collector = dir.join("collector");
        write(&collector, COLLECTOR.as_bytes(), 0o755);
        Stage::of(dir, &bin::kmagent(), Some(&collector))
    }

    /// With of each kind of file one, and a small program that runs the one under test: for what is done often.
    pub fn light() -> Stage {
        let stage = Stage::new();
        for name in ["bash-completion", "fish", "zsh", "man/man5", "doc/kmagent/README.md", "doc/kmagent/CHANGELOG.md"]
        {
            let path = stage.path().join("share").join(name);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        stage.wrapped("")
    }

    /// Its program is a script that runs this first, and then the one under test.
    fn wrapped(self, first: &str) -> Stage {
        let text = format!("#!/bin/sh\n{first}\nexec '{}' \"$@\"\n", bin::kmagent().display());
        self.write("bin/kmagent", text.as_bytes(), 0o755)
    }

    pub fn with_collector(collector: &Path) -> Stage {
        Stage::of(TempDir::new(), &bin::kmagent(), Some(collector))
    }

    pub fn without_collector() -> Stage {
        Stage::of(TempDir::new(), &bin::kmagent(), None)
    }

    fn of(dir: TempDir, agent: &Path, collector: Option<&Path>) -> Stage {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/stage"));
        command.arg(dir.join("kmagent")).arg(agent).args(collector).stdin(Stdio::null());
        assert_eq!(bin::output(command).code, Some(0));
        Stage { dir }
    }

    /// As an earlier release: a program that calls itself so, and a file that later ones no longer have. In all else it
    /// is this one: what has changed since a real older release, in the installer or in what it leaves, no test sees.
    pub fn older(self) -> Stage {
        let stage = match fs::read(self.path().join("bin/kmagent")).unwrap().starts_with(b"#!") {
            true => self.wrapped(&format!("[ \"$1\" != --version ] || {{ echo kmagent {OLDER}; exit; }}")),
            false => self.patch("bin/kmagent", VERSION, OLDER),
        };
        stage.write("share/doc/kmagent/GONE", b"no longer there\n", 0o644)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("kmagent")
    }

    /// Puts a file in, and brings the checksums up to date.
    pub fn write(self, name: &str, bytes: &[u8], mode: u32) -> Stage {
        fs::create_dir_all(self.path().join(name).parent().unwrap()).unwrap();
        write(&self.path().join(name), bytes, mode);
        self.summed()
    }

    /// Writes `new` over each `old` in a file.
    pub fn patch(self, name: &str, old: &str, new: &str) -> Stage {
        assert_eq!(old.len(), new.len());
        let mut bytes = fs::read(self.path().join(name)).unwrap();
        let places: Vec<usize> =
            (0..bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old.as_bytes())).collect();
        assert!(!places.is_empty(), "no {old} in {name}");
        for at in places {
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
        self.write(name, &bytes, 0o755)
    }

    fn summed(self) -> Stage {
        let sums =
            r#"find . -type f ! -name SHA256SUMS | sed 's:^\./::' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS"#;
        let mut command = Command::new("sh");
        command.args(["-c", sums]).current_dir(self.path()).stdin(Stdio::null());
        assert_eq!(bin::output(command).code, Some(0));
        self
    }

    /// `install.sh` into `dest`, with nothing in its environment but PATH and `env`.
    pub fn command(&self, dest: &Path, env: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(self.path().join("install.sh"));
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("DESTDIR", dest);
        command.envs(env.iter().copied()).args(args).stdin(Stdio::null());
        command
    }

    pub fn install(&self, dest: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
        bin::output_within(Duration::from_secs(120), self.command(dest, env, args))
    }
}

/// One whose config the stand-in collector can serve: it answers no health check.
pub fn release() -> Stage {
    Stage::new().write("etc/kmagent/config.yaml", b"name: first\n", 0o644)
}

pub fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Asserts that the installer failed, and how.
#[track_caller]
pub fn assert_fails(output: &Output, code: i32, text: &str) {
    assert_eq!(output.code, Some(code), "{output:#?}");
    assert!(output.stderr.contains(text), "no {text:?} in {output:#?}");
}

/// Asserts that it went well, without a complaint.
#[track_caller]
pub fn assert_done(output: &Output) {
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:#?}");
}
