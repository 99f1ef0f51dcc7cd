//! The agent is a program and no library, so each target takes the modules that `src/main.rs` declares as its own.

use std::path::Path;
use std::{env, fs};

fn main() {
    let src = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../src").canonicalize().unwrap();
    println!("cargo:rerun-if-changed={}", src.display());
    let main = fs::read_to_string(src.join("main.rs")).unwrap();
    let names = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let modules: String = names
        .map(|name| {
            let file = src.join(format!("{name}.rs"));
            let path = if file.exists() { file } else { src.join(name).join("mod.rs") };
            format!("#[allow(dead_code)]\n#[path = {:?}]\nmod {name};\n", path.display().to_string())
        })
        .collect();
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("modules.rs"), modules).unwrap();
}
