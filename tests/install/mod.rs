//! `dist/install.sh` and what it installs: into directories as anybody, and into root file systems of their own as
//! root.

mod busybox;
mod debian;
mod destdir;
mod elsewhere;
mod from_1x;
mod injected;
mod packages;
mod root;
mod stage;
mod systemd;
mod takeover;
mod tarball;
mod template;
mod tree;
