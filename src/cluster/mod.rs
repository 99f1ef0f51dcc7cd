//! `kmagent cluster`: the collectors of a Kubernetes cluster, configured from afar (DESIGN.md, "Kubernetes").

pub mod kubernetes;
