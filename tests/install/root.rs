//! A root file system with an init of its own: in namespaces of its own, made from a root of `tests/system/root`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::stage::Stage;
use super::tree::{Tree, tree};
use crate::support::bin::{self, Output};
use crate::support::temp_dir::TempDir;
use crate::support::wait;
use crate::support::{needs, process};

/// Of a whole installation, a probation and a stop included, on a host that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whether such a root can be had and the agent under test runs in it: that takes root, and a program without
/// libraries.
pub fn available() -> bool {
    static IS_STATIC: OnceLock<bool> = OnceLock::new();
    let is_static = *IS_STATIC.get_or_init(|| {
        let elf = fs::read(bin::kmagent()).unwrap();
        // The name of a dynamic linker; the tests on the static binary come to this too.
        !elf.windows(8).any(|bytes| bytes == b"/ld-linu" || bytes == b"/ld-musl")
    });
    needs::root() && needs::that(is_static, "it takes a static agent (KMAGENT_BIN)")
}

/// Mounts what a system needs over the root, and becomes its init. Where a lower directory is given, the root is an
/// overlay on it.
const BOOT: &str = r#"
dir=$1 lower=$2 root=$1/root
if [ -n "$lower" ]; then
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
else
    mount --bind "$root" "$root"
fi
mount -t proc proc "$root/proc"
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
chmod 1777 "$root/tmp"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/console" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
ip link set lo up
exec chroot "$root" /bin/busybox init
"#;

pub struct Root {
    dir: TempDir,
    lower: Option<PathBuf>,
    child: Option<Child>,
}

impl Root {
    /// Busybox and nothing else, booted by busybox's init, which runs what /etc/init.d/rcS finds.
    pub fn busybox() -> Root {
        let root = Root { dir: TempDir::new(), lower: None, child: None };
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(made("busybox")).arg(root.dir.join("root")).stdin(Stdio::null());
        assert_eq!(bin::output(copy).code, Some(0));
        root.prepare("for script in /etc/init.d/S??*; do [ ! -x \"$script\" ] || \"$script\" start; done");
        root.booted()
    }

    /// A Debian, whose process 1 only takes in orphans.
    pub fn debian() -> Root {
        let root = Root { dir: TempDir::new(), lower: Some(made("debian")), child: None };
        for name in ["root", "upper", "work", "upper/etc"] {
            fs::create_dir(root.dir.join(name)).unwrap();
        }
        fs::write(root.dir.join("upper/etc/inittab"), "::sysinit:/bin/true\n").unwrap();
        root.booted()
    }

    /// A Debian that OpenRC has brought up.
    pub fn openrc() -> Root {
        let root = Root::debian();
        // What else Debian has for these levels is of no use in here.
        root.run(&["sh", "-c", "openrc sysinit; openrc boot; openrc default"]);
        root
    }

    fn prepare(&self, rc: &str) {
        let etc = self.dir.join("root/etc");
        fs::write(etc.join("inittab"), "::sysinit:/etc/init.d/rcS\n").unwrap();
        fs::create_dir(etc.join("init.d")).unwrap();
        super::stage::write(&etc.join("init.d/rcS"), format!("#!/bin/sh\n{rc}\n").as_bytes(), 0o755);
    }

    fn booted(mut self) -> Root {
        self.boot();
        self
    }

    fn boot(&mut self) {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--net", "--fork", "--kill-child=KILL", "--propagation=private"]);
        command.args(["sh", "-euc", BOOT, "boot"]).arg(self.dir.path()).arg(self.lower.clone().unwrap_or_default());
        self.child = Some(command.stdin(Stdio::null()).spawn().expect("unshare is missing"));
        wait::wait_for("an init", PATIENCE, || {
            let pid = process::descendants(self.child.as_ref().unwrap().id()).into_iter().next()?;
            let name = process::command_line(pid);
            (name.last().map(String::as_str) == Some("init")).then_some(())
        });
    }

    /// As when the power fails: everything ends at once, and what is on the disk is booted anew.
    pub fn reboot(&mut self) {
        self.halt();
        self.boot();
    }

    fn halt(&mut self) {
        if let Some(mut child) = self.child.take() {
            let init = process::descendants(child.id());
            let _ = child.kill();
            let _ = child.wait();
            wait::wait_until("the end of the system", || init.iter().all(|&pid| !process::alive(pid)));
        }
    }

    /// Its process 1, as this host numbers it.
    fn init(&self) -> u32 {
        process::descendants(self.child.as_ref().unwrap().id())[0]
    }

    /// The root, as this host sees it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/root", self.init()).into()
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn write(&self, path: &str, text: &str, mode: u32) {
        fs::create_dir_all(self.join(path).parent().unwrap()).unwrap();
        super::stage::write(&self.join(path), text.as_bytes(), mode);
    }

    /// All that an installation could touch; not what only a program of the system writes, as an account's is made.
    pub fn tree(&self) -> Tree {
        let mut without =
            vec!["/etc/.pwd.lock", "/var/log", "/var/cache", "/etc/init.d/.depend.start", "/etc/init.d/.depend.stop"];
        without.extend(["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"]);
        if self.lower.is_some() {
            without.extend(["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share", "/usr/libexec"]);
        }
        tree(&self.path(), &without)
    }

    /// Makes a directory of the host the one of that name below /tmp.
    pub fn bind(&self, source: &Path, name: &str) {
        let target = self.dir.join("root/tmp").join(name);
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init().to_string(), "--mount", "sh", "-euc"]);
        command
            .args([r#"mkdir -p "$2"; umount "$2" 2>/dev/null || :; mount --bind "$1" "$2""#, "bind"])
            .arg(source)
            .arg(&target);
        let output = bin::output(command);
        assert_eq!(output.code, Some(0), "{output:?}");
    }

    /// A program of this host's that gets the root by its path, `place`.
    pub fn outside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init().to_string(), "--mount", program]).stdin(Stdio::null());
        command
    }

    pub fn place(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// A command in there, as root, with nothing in its environment but PATH and `env`.
    pub fn command(&self, env: &[(&str, &str)], words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init().to_string(), "--mount", "--pid", "--net", "--root", "--wd"]);
        command.args(["/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]);
        command.args(env.iter().map(|(name, value)| format!("{name}={value}"))).args(words).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        bin::output_within(PATIENCE, self.command(&[], words))
    }

    /// install.sh of that release.
    pub fn install(&self, stage: &Stage, env: &[(&str, &str)], args: &[&str]) -> Output {
        self.bind(&stage.path(), "kmagent");
        let words: Vec<&str> = ["/tmp/kmagent/install.sh"].into_iter().chain(args.iter().copied()).collect();
        bin::output_within(PATIENCE, self.command(env, &words))
    }

    /// What `kmagent status --json` says in there.
    pub fn status(&self) -> Option<Value> {
        let output = self.run(&["/usr/local/bin/kmagent", "status", "--json"]);
        if output.code == Some(0) { serde_json::from_str(&output.stdout).ok() } else { None }
    }

    #[track_caller]
    pub fn wait_status(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        wait::wait_for(what, PATIENCE, || self.status().filter(|status| condition(status)))
    }

    /// Our processes in there, by this host's numbers.
    pub fn processes(&self) -> Vec<u32> {
        let is_ours = |pid: &u32| process::command_line(*pid).join(" ").contains("kmagent");
        process::descendants(self.init()).into_iter().filter(is_ours).collect()
    }

    /// What `make` makes, in the network of this system.
    pub fn in_its_network<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.init())).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                use std::os::fd::AsFd;
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                make()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A root of `tests/system/root`.
fn made(name: &str) -> PathBuf {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/root"));
    command.arg(name).stdin(Stdio::null());
    let output = bin::output_within(Duration::from_secs(600), command);
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.trim().into()
}
