//! Two things that are made before the library is compiled.
//!
//! src/applets, the small programs that a machine may lack: compiled here, they are there whatever program of the crate is
//! built. `cargo run --bin chapter05 -- ip addr` builds one program, and assembles a root filesystem in which `ip` is another.
//!
//! And in an edition for students the sources of features that are tasks are sealed (`handout --hide-library`): these are
//! unsealed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/applets");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    applets(&out);
    unseal(Path::new("src"), &out)
}

/// Where this fails, nothing else does: the root filesystem goes without the applets, as it does without whatever else is
/// missing.
fn applets(out: &Path) {
    let program = out.join("applets");
    println!("cargo::rustc-env=COOPERAGE_APPLETS={}", program.display());
    let variable = |name| env::var_os(name).unwrap_or_default();
    let mut compiler = Command::new(variable("RUSTC"));
    compiler.args([
        "--edition",
        "2024",
        "--crate-name",
        "applets",
        "--crate-type",
        "bin",
        "src/applets/main.rs",
    ]);
    compiler.args(["-C", "opt-level=s", "-C", "strip=symbols", "-C", "panic=abort"]);
    compiler.arg("--target").arg(variable("TARGET")).arg("-o").arg(&program);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        compiler.arg("-C").arg(option);
    }
    let failure = match compiler.output() {
        Ok(done) if done.status.success() => return,
        Ok(done) => String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_string(),
        Err(error) => error.to_string(),
    };
    println!("cargo::warning=src/applets was not built: {failure}");
}

fn unseal(directory: &Path, out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            unseal(&path, out)?;
        } else if path.extension().is_some_and(|extension| extension == "sealed") {
            println!("cargo::rerun-if-changed={}", path.display());
            let digits: Vec<u8> = fs::read(&path)?.into_iter().filter(u8::is_ascii_hexdigit).collect();
            let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
            let text: Vec<u8> =
                digits.chunks_exact(2).map(|two| (value(two[0]) << 4 | value(two[1])) ^ 0xa5).collect();
            let name = path.with_extension("rs");
            fs::write(out.join(name.file_name().unwrap_or_default()), text)?;
        }
    }
    Ok(())
}
