//! Whether there is memory for a second collector: the numbers.

use std::path::{Path, PathBuf};

/// Where systemd and containers mount the hierarchy (cgroups(7), version 2).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What can be had without swapping or being killed: of the host's, and of what our own control groups leave us.
    pub available: u64,
    /// What the old collector has in RAM (VmRSS, proc_pid_status(5)).
    pub of_old: u64,
}

/// `None` when the kernel does not say.
pub fn memory(collector: u32) -> Option<Memory> {
    // MemAvailable, proc_meminfo(5).
    let host = field(Path::new("/proc/meminfo"), "MemAvailable:")?;
    let of_old = field(Path::new(&format!("/proc/{collector}/status")), "VmRSS:")?;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let available = groups(&own).filter_map(|group| left_in(&group)).fold(host, u64::min);
    Some(Memory { available, of_old })
}

/// Our control group and those around it; the line of version 2 begins with `0::`. None where only version 1 is.
fn groups(own: &str) -> impl Iterator<Item = PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let innermost = path.map(|path| Path::new(CGROUPS).join(path));
    std::iter::successors(innermost, |group| Some(group.parent()?.to_path_buf()))
        .take_while(|group| group.starts_with(CGROUPS))
}

/// What a group may still use. File pages that nobody uses now count as used there, and are given up first.
fn left_in(group: &Path) -> Option<u64> {
    let number = |file: &str| fs_err::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min()?;
    let used = number("memory.current")?;
    let stat = fs_err::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    Some(limit.saturating_sub(used.saturating_sub(idle.unwrap_or(0))))
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(file).ok()?;
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
        let found: Vec<_> = groups("1:name=systemd:/x\n0::/system.slice/kmagent.service\n").collect();
        let expected = ["/system.slice/kmagent.service", "/system.slice", ""].map(|end| format!("{CGROUPS}{end}"));
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(groups("0::/\n").collect::<Vec<_>>(), [PathBuf::from(CGROUPS)]);
        assert_eq!(groups("4:memory:/x\n").count(), 0);
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
        fs_err::remove_dir_all(group).unwrap();
    }
}
