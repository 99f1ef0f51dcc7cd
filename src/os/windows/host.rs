//! What this host is called.

/// Its NetBIOS name, as every process has it in its environment; empty without that.
pub fn name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Another one in each container, and after each boot; not known yet.
pub fn instance() -> Option<String> {
    None
}

pub fn machine_id() -> Option<String> {
    None
}
