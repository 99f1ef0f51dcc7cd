//! Which machine the agent under test is for, what runs it where that is another one, and what it cannot do there.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{bin, needs};

/// As `dist/arch` and the tarballs call it.
pub fn name() -> &'static str {
    static NAME: OnceLock<&str> = OnceLock::new();
    NAME.get_or_init(|| {
        let path = bin::real_kmagent();
        let mut head = [0; 20];
        let read = fs::File::open(&path).and_then(|mut file| file.read_exact(&mut head));
        read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // e_machine, elf(5) and elf.h.
        match (&head[..4], u16::from_le_bytes([head[18], head[19]])) {
            (b"\x7fELF", 62) => "x86_64",
            (b"\x7fELF", 183) => "aarch64",
            (b"\x7fELF", 3) => "i686",
            (b"\x7fELF", 40) => "armv7",
            (b"\x7fELF", 243) => "riscv64",
            other => panic!("{}: not a program for a machine that we ship for: {other:?}", path.display()),
        }
    })
}

/// The name that Go has for it, which is the one that is reported to the API.
pub fn goarch() -> String {
    ask("goarch")
}

/// What runs the agent's binary, by its whole path; `None` when the kernel does.
pub fn emulator() -> Option<&'static Path> {
    static EMULATOR: OnceLock<Option<PathBuf>> = OnceLock::new();
    EMULATOR
        .get_or_init(|| {
            let program = ask("runner");
            let path = std::env::var_os("PATH").unwrap_or_default();
            let find = || std::env::split_paths(&path).map(|dir| dir.join(&program)).find(|file| file.is_file());
            (!program.is_empty()).then(|| find().unwrap_or_else(|| panic!("{program} is missing: see tests/prepare")))
        })
        .as_deref()
}

/// Filters that see a bind(2) are for x86-64 and arm64, and an emulator of user mode passes none on.
pub fn can_hand_over() -> bool {
    matches!(name(), "x86_64" | "aarch64") && emulator().is_none()
}

/// `can_hand_over`, for tests that have nothing to do without it.
#[track_caller]
pub fn skips_hand_over() -> bool {
    let reason = format!("an agent for {} cannot watch a collector's binds here", name());
    !needs::that(can_hand_over(), &reason)
}

fn ask(what: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/arch");
    let output = Command::new(&script).args([what, name()]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "dist/arch {what} {}: {output:?}", name());
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
