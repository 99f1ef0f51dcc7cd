//! `dist/install.sh` and what it installs.

mod template;
