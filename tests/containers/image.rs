//! The image, built once by the very Dockerfile from release tarballs as dist/stage lays them out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::dockerfile::{Dockerfile, Image};
use crate::support::{bin, process};

const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/docker/Dockerfile");
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn dockerfile(arch: &str) -> Dockerfile {
    Dockerfile::read(Path::new(DOCKERFILE), arch)
}

/// The image with the agent under test and the real collector; only for reading.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| build(&scratch_directory(), "", &bin::collector()))
}

/// The image of a variant, with the agent under test, below an empty directory.
pub fn build(work: &Path, variant: &str, collector: &Path) -> Image {
    let machine = std::env::consts::ARCH.replace("x86", "i686").replace("i686_64", "x86_64");
    let context = work.join("context");
    prepare(&context);
    tarball(&context, &machine, variant, &bin::kmagent(), collector);
    let arch = match machine.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => "386",
    };
    let image = dockerfile(arch).with("VARIANT", variant).build(&context, &work.join("stages"));
    fs::remove_dir_all(context).unwrap();
    image
}

/// A directory that outlives no more than this process: statics are never dropped, so the next one cleans up. On the
/// disk of the build, since an image has 50 MB.
fn scratch_directory() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("image-")?.parse().ok());
        if owner.is_some_and(|owner| !process::alive(owner)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let own = all.join(format!("image-{}", std::process::id()));
    let _ = fs::remove_dir_all(&own);
    fs::create_dir_all(&own).unwrap();
    own
}

/// What a builder finds in the repository, but for the tarballs.
pub fn prepare(context: &Path) {
    fs::create_dir_all(context.join("dist")).unwrap();
    fs::create_dir_all(context.join("target/dist")).unwrap();
    let docker = Path::new(DOCKERFILE).parent().unwrap();
    let status = Command::new("cp").arg("-a").arg(docker).arg(context.join("dist")).status();
    assert!(status.unwrap().success());
}

/// A release for one machine. Builders look at a tarball's content and not at its name, so this one need not be
/// compressed.
pub fn tarball(context: &Path, machine: &str, variant: &str, agent: &Path, collector: &Path) {
    let name = format!("kmagent-{VERSION}-{machine}-linux-musl{variant}");
    let staged = context.join(&name);
    let mut stage = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dist/stage"));
    let output = stage.arg(&staged).arg(agent).arg(collector).output().unwrap();
    assert!(output.status.success(), "dist/stage: {}", String::from_utf8_lossy(&output.stderr));
    let to = context.join(format!("target/dist/{name}.tar.gz"));
    let status = Command::new("tar").arg("-C").arg(context).arg("-cf").arg(to).arg(&name).status();
    assert!(status.unwrap().success());
    fs::remove_dir_all(staged).unwrap();
}

/// Everything in the image, links with where they lead.
fn listing(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap().flatten() {
        let path = below.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        let target = if kind.is_symlink() { fs::read_link(entry.path()).unwrap() } else { PathBuf::new() };
        match kind.is_dir() {
            true => listing(root, &path, found),
            false => found.push(format!("{} {}", path.display(), target.display()).trim().to_string()),
        }
    }
}

#[test]
fn each_architecture_gets_its_own_programs_and_nothing_else() {
    let directory = super::TempDir::new();
    let context = directory.join("context");
    prepare(&context);
    for machine in ["x86_64", "aarch64", "i686"] {
        let program = directory.join(machine);
        fs::write(&program, machine).unwrap();
        tarball(&context, machine, "", &program, &program);
    }
    // What else `make dist` leaves there.
    fs::write(context.join(format!("target/dist/kmagent-{VERSION}-x86_64-linux-musl.tar.gz.sha256")), "").unwrap();
    symlink("x", context.join("target/dist/kmagent-0.0.0-x86_64-linux-musl.tar.gz")).unwrap();
    for (arch, machine) in [("amd64", "x86_64"), ("arm64", "aarch64"), ("386", "i686")] {
        let image = dockerfile(arch).build(&context, &directory.join(arch));
        for program in ["usr/local/bin/kmagent", "usr/local/lib/kmagent/kmagent-collector"] {
            assert_eq!(fs::read_to_string(image.root.join(program)).unwrap(), machine, "{program} for {arch}");
        }
        let mut files = Vec::new();
        listing(&image.root, Path::new(""), &mut files);
        files.retain(|file| !file.starts_with("usr/local/share/doc/kmagent/"));
        files.sort();
        let expected = [
            "kmagent usr/local/bin/kmagent",
            "usr/local/bin/kmagent",
            "usr/local/lib/kmagent/kmagent-collector",
            "usr/local/share/kmagent/config.yaml",
        ];
        assert_eq!(files, expected, "{arch}");
        assert!(image.root.join("usr/local/share/doc/kmagent/LICENSE").is_file());
        assert_eq!(image.labels["org.opencontainers.image.version"], VERSION);
    }
}
