//! What this host is called.

/// Its NetBIOS name, as every process has it in its environment; empty without that.
pub fn name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
