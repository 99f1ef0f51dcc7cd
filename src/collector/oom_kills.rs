//! Whether the kernel has killed for want of memory while a process ran: to the parent it is SIGKILL, like any other.
//!
//! Only counters are read, at the start and after a SIGKILL: of our own control group, in which what we start runs too;
//! else of the host, which says no more than maybe.

use std::path::{Path, PathBuf};

use super::handover::memory;
use crate::os::files;

/// Of the host (proc_pid_vmstat in proc(5)).
const HOST: &str = "/proc/vmstat";
/// Of a control group, version 2 and version 1 (Linux 4.13): processes in it that any lack of memory has killed.
const OF_GROUP: [&str; 2] = ["memory.events", "memory.oom_control"];

/// A counter and what it was.
#[derive(Debug)]
pub struct OomKills {
    counter: PathBuf,
    before: u64,
}

impl OomKills {
    /// `None` where the kernel does not count.
    pub fn before_start() -> Option<OomKills> {
        OomKills::read(memory::own_groups(), Path::new(HOST))
    }

    /// Of the innermost group that has a counter.
    fn read(groups: Vec<PathBuf>, host: &Path) -> Option<OomKills> {
        let of_groups = groups.iter().flat_map(|group| OF_GROUP.map(|name| group.join(name)));
        let mut counters = of_groups.chain([host.to_path_buf()]);
        counters.find_map(|counter| Some(OomKills { before: count(&counter)?, counter }))
    }

    /// What is to be added to "was killed by SIGKILL"; empty when the kernel has not killed.
    pub fn reason(&self) -> &'static str {
        match count(&self.counter).is_some_and(|count| count > self.before) {
            false => "",
            true if self.counter.ends_with("vmstat") => ", maybe because memory ran out",
            true => " because memory ran out",
        }
    }
}

fn count(counter: &Path) -> Option<u64> {
    let text = files::read_text(counter, files::MAX_KERNEL_FILE).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::os::unix::files::test_dir::{Dir, write};

    #[test]
    fn the_innermost_group_that_counts_is_asked_before_the_host() {
        let dir = Dir::new();
        let (v1, v2, host) = (dir.join("v1"), dir.join("v2"), dir.join("vmstat"));
        for group in [&v1, &v2] {
            std::fs::create_dir(group).unwrap();
        }
        write(&host, "pgmajfault 7\noom_kill 4\n");
        write(v1.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        write(v2.join("memory.events"), "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n");
        let read = |groups: &[&PathBuf]| OomKills::read(groups.iter().map(|&group| group.clone()).collect(), &host);
        let missing = dir.join("missing");
        let seen = [read(&[&missing, &v1]), read(&[&v2, &v1]), read(&[&missing])].map(Option::unwrap);
        assert_eq!(seen.each_ref().map(|kills| (kills.before, kills.reason())), [(2, ""), (1, ""), (4, "")]);
        write(&host, "pgmajfault 7\noom_kill 5\n");
        write(v1.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        write(v2.join("memory.events"), "low 0\noom_kill 2\n");
        let reasons = seen.each_ref().map(OomKills::reason);
        assert_eq!(reasons[..2], [" because memory ran out"; 2]);
        assert_eq!(reasons[2], ", maybe because memory ran out");
        // A counter that is gone, as with its group, says nothing.
        std::fs::remove_file(v2.join("memory.events")).unwrap();
        assert_eq!(seen[1].reason(), "");
        write(&host, "pgmajfault 7\n");
        assert!(read(&[]).is_none());
    }
}
