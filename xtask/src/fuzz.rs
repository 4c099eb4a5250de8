//! Builds the targets of `fuzz/` with coverage and runs each of them for a while.
//!
//! The same instrumentation that `cargo fuzz` asks for, but on the stable tool chain and with nothing to install: the
//! coverage passes are code generation options, and `libfuzzer-sys` brings libFuzzer as source. Overflow checks and
//! debug assertions are on, so arithmetic on hostile numbers fails here rather than wraps.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

/// Which targets to run, and for how long.
#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Targets to run; all of them when none is named.
    targets: Vec<String>,
    /// Seconds to run each target.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// One input may take this long, far above the 100 ms that bad input is allowed: a loaded machine must not fail a run.
const SECONDS_PER_INPUT: u32 = 5;

/// Resident memory of the whole process, corpus included.
const MEMORY_LIMIT_MIB: u32 = 1024;

/// What rustc must add to every crate so that libFuzzer sees which branches an input took.
const COVERAGE_FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Coverflow-checks=on",
    "-Cdebug-assertions=on",
];

/// Builds and runs the targets. Fails when one does not build, is unknown, or finds an input that breaks it; the input
/// is left in `fuzz/artifacts/TARGET/`.
pub(crate) fn run(root: &Path, args: &FuzzArgs) -> Result<()> {
    let fuzz = root.join("fuzz");
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(&fuzz);
    let metadata: Value = serde_json::from_str(&crate::output_of(&mut cargo)?)?;
    let chosen = choose(&target_names(&metadata)?, &args.targets)?;
    let target_directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
    let host = host_triple()?;
    build(&fuzz, &host)?;
    let programs = Path::new(target_directory).join(&host).join("release");
    for target in &chosen {
        run_target(&fuzz, target, &programs.join(target), args.seconds)?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The names of the fuzz targets: the binaries of the package.
fn target_names(metadata: &Value) -> Result<Vec<String>> {
    let targets = list(&metadata["packages"]).iter().flat_map(|package| list(&package["targets"]));
    let binaries = targets.filter(|target| list(&target["kind"]).iter().any(|kind| kind == "bin"));
    let names: Vec<String> =
        binaries.filter_map(|target| target["name"].as_str().map(String::from)).collect();
    if names.is_empty() {
        bail!("fuzz/Cargo.toml declares no [[bin]] target");
    }
    Ok(names)
}

fn choose(known: &[String], asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target `{unknown}`; there are: {}", known.join(", "));
    }
    Ok(if asked.is_empty() { known.to_vec() } else { asked.to_vec() })
}

fn host_triple() -> Result<String> {
    let version = crate::output_of(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_string())
}

fn build(fuzz: &Path, host: &str) -> Result<()> {
    // Naming the target keeps the flags away from build scripts and procedural macros, which cannot link with them.
    let built = Command::new("cargo")
        .args(["build", "--release", "--bins", "--target", host])
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE_FLAGS.join("\x1f"))
        .current_dir(fuzz)
        .status()
        .context("cannot start cargo")?;
    if !built.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(())
}

/// Runs one target from its seeds (`fuzz/seeds/TARGET/`, only read) and its growing corpus (`fuzz/corpus/TARGET/`).
fn run_target(fuzz: &Path, target: &str, program: &Path, seconds: u32) -> Result<()> {
    let corpus = fuzz.join("corpus").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .args(Some(fuzz.join("seeds").join(target)).filter(|seeds| seeds.is_dir()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .current_dir(fuzz);
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprint!("{log}");
        bail!("{target} found an input that breaks it: see {}", artifacts.display());
    }
    let statistic = |name: &str| log.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
    println!(
        "fuzz: {target}: {} inputs, {} of them new, in {seconds} s; nothing found",
        statistic("stat::number_of_executed_units:"),
        statistic("stat::new_units_added:")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_binaries_of_the_fuzz_workspace() {
        let metadata = serde_json::json!({"packages": [{"targets": [
            {"kind": ["lib"], "name": "fuzz"}, {"kind": ["bin"], "name": "gguf"}, {"kind": ["bin"], "name": "template"},
        ]}]});
        assert_eq!(target_names(&metadata).expect("targets"), ["gguf", "template"]);
        assert!(target_names(&serde_json::json!({})).is_err());
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let known = ["gguf".to_string(), "template".to_string()];
        assert_eq!(choose(&known, &[]).expect("all"), known);
        assert_eq!(choose(&known, &known[1..]).expect("one"), known[1..]);
        let error = choose(&known, &["onnx".into()]).expect_err("unknown").to_string();
        assert!(error.contains("onnx") && error.contains("gguf, template"), "{error}");
    }
}
