//! What a collector that is handed over must be run with.

/// The variable that the Go runtime reads its switches from (<https://go.dev/doc/godebug>).
pub const GODEBUG: &str = "GODEBUG";

/// A value of GODEBUG with which a Go program listens with plain TCP: Go 1.24 made Multipath TCP the default for
/// listeners, and the kernel does not steer that (EOPNOTSUPP).
pub fn plain_tcp(godebug: Option<&str>) -> String {
    let others = godebug.unwrap_or_default().split(',').map(str::trim);
    let others = others.filter(|entry| !entry.is_empty() && !entry.starts_with("multipathtcp="));
    others.chain(["multipathtcp=0"]).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_added_to_those_that_are_set() {
        for (set, with) in [
            (None, "multipathtcp=0"),
            (Some(""), "multipathtcp=0"),
            (Some("netdns=go"), "netdns=go,multipathtcp=0"),
            (Some("multipathtcp=1, gctrace=1,"), "gctrace=1,multipathtcp=0"),
        ] {
            assert_eq!(plain_tcp(set), with);
        }
    }
}
