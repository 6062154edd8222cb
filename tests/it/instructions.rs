//! The hot paths cost as many instructions as they did: counted by callgrind, so that neither the
//! machine nor what else it does matters, and compared with `tests/data/instructions.toml`.
//!
//! `UPDATE_EXPECT=1` rewrites that file: after a change that is meant to cost, or saves, something,
//! and after a new compiler. The work is built by `tests/instructions`, which `tests/run` calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use andon_tests::peers::{need, skip};
use andon_tests::process::work_dir;
use anyhow::{Context as _, Result, ensure};

/// How far a count may be from what is committed.
const TOLERANCE: f64 = 0.03;
/// Rounds of each work; few enough that an observation each fits into the journal's queue.
const ROUNDS: u64 = 10_000;

/// A path, the work that takes it, the work that it includes and that is not to be counted, and
/// readings of a round. What history's packing costs here is mostly what it costs without optimisation:
/// it is a dependency's.
const PATHS: &[(&str, &str, Option<&str>, f64)] = &[
    ("modbus_decode_and_engine_step", "readings", None, 35.0),
    ("journal_encode", "journal", None, 10.0),
    ("journal_follow", "follow", Some("journal"), 10.0),
    ("message_json", "messages", Some("follow"), 10.0),
    ("history_write_and_merge", "history", Some("shop"), 10.0),
    ("history_curves_of_seconds", "curves", Some("history"), 10.0),
];

#[test]
fn a_reading_costs_as_many_instructions_as_is_committed() -> Result<()> {
    let Some(valgrind) = need("valgrind") else { return Ok(()) };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = manifest.join(".work/instructions");
    if !program.is_file() {
        skip("the work whose instructions are counted is not built: run tests/instructions");
        return Ok(());
    }
    let dir = work_dir("instructions")?;
    let count = |work: &str, rounds: u64| instructions(&valgrind, &program, &dir, work, rounds);
    let mut measured = BTreeMap::new();
    for &(path, work, included, readings) in PATHS {
        let base = match included {
            Some(included) => count(included, ROUNDS)?,
            None => count(work, 0)?,
        };
        let spent = count(work, ROUNDS)?.saturating_sub(base);
        measured.insert(path, spent as f64 / (ROUNDS as f64 * readings));
    }
    let committed = manifest.join("data/instructions.toml");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return write(&committed, &measured);
    }
    let text = std::fs::read_to_string(&committed)?;
    let mut differ = Vec::new();
    for (path, now) in &measured {
        let line = text.lines().find_map(|line| line.strip_prefix(path)?.trim().strip_prefix('='));
        let before: f64 =
            line.with_context(|| format!("{path} is not committed"))?.trim().parse()?;
        let change = now / before - 1.0;
        eprintln!("{path}: {now:.1} instructions a reading, {:+.1} %", change * 100.0);
        if change.abs() > TOLERANCE {
            differ.push(format!("{path}: {before:.1} → {now:.1} ({:+.1} %)", change * 100.0));
        }
    }
    ensure!(
        differ.is_empty(),
        "instructions a reading are not what {} says: {}. If that is meant, or the compiler is \
         another (it says which): tests/instructions, then UPDATE_EXPECT=1 cargo test -p \
         andon-tests instructions",
        committed.display(),
        differ.join("; ")
    );
    Ok(())
}

/// Instructions of a whole run, in user space.
fn instructions(
    valgrind: &Path,
    program: &Path,
    dir: &Path,
    work: &str,
    rounds: u64,
) -> Result<u64> {
    let out: PathBuf = dir.join(format!("{work}-{rounds}.out"));
    let output = Command::new(valgrind)
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([work, &rounds.to_string()])
        // What the C library's copies cost depends on the processor; so they are the plainest.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS")
        .env("TMPDIR", dir)
        .output()
        .context("cannot start valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{work} under valgrind failed: {told}");
    let collected = told.lines().find_map(|line| line.split("Collected : ").nth(1));
    let count = collected.with_context(|| format!("callgrind counted nothing: {told}"))?;
    count.trim().parse().context("a count")
}

fn write(path: &Path, measured: &BTreeMap<&str, f64>) -> Result<()> {
    let compiler = Command::new("rustc").arg("--version").output()?;
    let mut text = format!(
        "# Instructions of a reading on its way through andon; ± {:.0} % is tested.\n\
         # Written by UPDATE_EXPECT=1 cargo test -p andon-tests instructions\n\
         # with {}\n",
        TOLERANCE * 100.0,
        String::from_utf8_lossy(&compiler.stdout).trim()
    );
    for (path, count) in measured {
        text.push_str(&format!("{path} = {count:.1}\n"));
    }
    Ok(std::fs::write(path, text)?)
}
