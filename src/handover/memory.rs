//! Whether there is memory for a second collector.

use std::path::Path;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the host can give without swapping (MemAvailable, proc_meminfo(5)).
    pub available: u64,
    /// What the old collector has in RAM (VmRSS, proc_pid_status(5)).
    pub of_old: u64,
}

/// `None` when the kernel does not say.
pub fn memory(collector: u32) -> Option<Memory> {
    let available = field(Path::new("/proc/meminfo"), "MemAvailable:")?;
    let of_old = field(Path::new(&format!("/proc/{collector}/status")), "VmRSS:")?;
    Some(Memory { available, of_old })
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(file).ok()?;
    in_bytes(text.lines().find_map(|line| line.strip_prefix(name))?)
}

fn in_bytes(field: &str) -> Option<u64> {
    field.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
