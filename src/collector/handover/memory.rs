//! Whether there is memory for a second collector: the numbers.

use std::path::{Path, PathBuf};

use crate::os::files::{self, MAX_KERNEL_FILE};

/// Where systemd and containers mount the hierarchy of control groups, and of version 1 the one that limits memory
/// (cgroups(7)).
const UNIFIED: &str = "/sys/fs/cgroup";
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What can be had without swapping or being killed: of the host's, and of what our own control groups leave us.
    pub available: u64,
    /// What the old collector has in RAM (VmRSS, proc_pid_status(5)).
    pub of_old: u64,
}

/// `None` when the kernel does not say, or its groups are not mounted where they should be.
pub fn memory(collector: u32) -> Option<Memory> {
    // MemAvailable, proc_meminfo(5).
    let host = field(Path::new("/proc/meminfo"), "MemAvailable:")?;
    let of_old = field(Path::new(&format!("/proc/{collector}/status")), "VmRSS:")?;
    let own = files::read_text(Path::new("/proc/self/cgroup"), MAX_KERNEL_FILE).unwrap_or_default();
    let available = match innermost(&own) {
        None => host,
        Some((root, _)) if !root.join("cgroup.procs").exists() => return None,
        Some((root, group)) => around(root, &group).filter_map(left_in).fold(host, u64::min),
    };
    Some(Memory { available, of_old })
}

/// Our own control group, which a child begins in too, and those around it, from the inside out.
pub(in crate::collector) fn own_groups() -> Vec<PathBuf> {
    let own = files::read_text(Path::new("/proc/self/cgroup"), MAX_KERNEL_FILE).unwrap_or_default();
    let Some((root, group)) = innermost(&own) else { return Vec::new() };
    around(root, &group).map(Path::to_path_buf).collect()
}

/// The hierarchy that limits our memory and our own group in it; `None` when the kernel has none.
fn innermost(own: &str) -> Option<(&'static Path, PathBuf)> {
    // Hierarchy, controllers, path. Version 2 has the number 0, and what no hierarchy of version 1 has.
    let lines = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(":/"));
    let v1 = lines().find(|(controllers, _)| controllers.split(',').any(|controller| controller == "memory"));
    let (_, path) = v1.or_else(|| lines().find(|(controllers, _)| controllers.is_empty()))?;
    let root = Path::new(if v1.is_some() { MEMORY } else { UNIFIED });
    Some((root, root.join(path)))
}

/// A group and those around it. In a container those of the host, the innermost perhaps, are not there.
fn around<'a>(root: &'a Path, group: &'a Path) -> impl Iterator<Item = &'a Path> {
    group.ancestors().take_while(move |group| group.starts_with(root))
}

/// What a group may still use. File pages that nobody uses now count as used there, and are given up first.
fn left_in(group: &Path) -> Option<u64> {
    let number = |file: &&str| files::read_text(&group.join(file), MAX_KERNEL_FILE).ok()?.trim().parse::<u64>().ok();
    let limit = ["memory.max", "memory.high", "memory.limit_in_bytes"].iter().filter_map(number).min()?;
    let used = ["memory.current", "memory.usage_in_bytes"].iter().find_map(number)?;
    let stat = files::read_text(&group.join("memory.stat"), MAX_KERNEL_FILE).unwrap_or_default();
    // In version 1 the groups within are counted apart.
    let idle = |line: &str| line.trim_start_matches("total_").strip_prefix("inactive_file ")?.parse::<u64>().ok();
    Some(limit.saturating_sub(used.saturating_sub(stat.lines().filter_map(idle).max().unwrap_or(0))))
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = files::read_text(file, MAX_KERNEL_FILE).ok()?;
    in_bytes(text.lines().find_map(|line| line.strip_prefix(name))?)
}

fn in_bytes(field: &str) -> Option<u64> {
    field.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_both_numbers() {
        let Memory { available, of_old } = memory(std::process::id()).unwrap();
        assert!(available > 1 << 20 && of_old > 1 << 20, "{available} {of_old}");
        assert_eq!(memory(u32::MAX), None);
        assert_eq!(in_bytes("\t  12 kB"), Some(12288));
        assert_eq!(in_bytes("12"), None);
    }

    #[test]
    fn control_groups_are_asked_from_the_inside_out() {
        for (own, root, path) in [
            ("1:name=systemd:/x\n0::/system.slice/kmagent.service\n", UNIFIED, "/system.slice/kmagent.service"),
            ("0::/\n", UNIFIED, "/"),
            ("5:cpu,memory:/a/b\n1:name=systemd:/x\n0::/c\n", MEMORY, "/a/b"),
        ] {
            let expected = if path == "/" { root.to_string() } else { format!("{root}{path}") };
            let found = innermost(own).unwrap();
            assert_eq!(found, (Path::new(root), PathBuf::from(&expected)), "{own}");
            let depth = expected.matches('/').count() - root.matches('/').count();
            assert_eq!(around(found.0, &found.1).last(), Some(Path::new(root)), "{own}");
            assert_eq!(around(found.0, &found.1).count(), depth + 1, "{own}");
        }
        assert_eq!(innermost("1:name=systemd:/x\n4:cpu:/y\n"), None);
        assert_eq!(innermost(""), None);
    }

    #[test]
    fn a_group_leaves_its_limit_less_what_is_really_used() {
        let group = std::env::temp_dir().join(format!("kmagent-cgroup-{}", std::process::id()));
        fs_err::create_dir_all(&group).unwrap();
        let write = |file: &str, text: &str| fs_err::write(group.join(file), text).unwrap();
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left_in(&group), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in(&group), Some(300));
        write("memory.high", "800\n");
        write("memory.stat", "file 1\ninactive_file 200\n");
        assert_eq!(left_in(&group), Some(300));
        fs_err::remove_dir_all(&group).unwrap();
        fs_err::create_dir_all(&group).unwrap();
        write("memory.limit_in_bytes", "900\n");
        write("memory.usage_in_bytes", "700\n");
        write("memory.stat", "inactive_file 1\ntotal_inactive_file 50\n");
        assert_eq!(left_in(&group), Some(250));
        fs_err::remove_dir_all(group).unwrap();
    }
}
