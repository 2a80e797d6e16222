//! Instructions of one process, counted by valgrind's callgrind: a figure that no neighbour on the machine changes.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use amqp_rpc_benches::{process::Running, work::Outcome};

/// Runs a program under callgrind. All threads count; kernels do not.
///
/// What libc does to copy, fill and compare octets is left out: callgrind counts a `rep movsb` as one instruction per
/// octet, so that the figure would be one of sizes.
pub fn count(program: &Path, arguments: &[String]) -> Outcome<u64> {
    let (mut command, profile) = valgrind(program, arguments);
    let status = command
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("valgrind, which is a package of its own: {error}"))?;
    if !status.success() {
        return Err(format!("{} {arguments:?}: {status}", program.display()).into());
    }
    read(&profile)
}

/// The same of a server, which says when it is ready, while `work` gives it something to do.
pub fn count_server(
    program: &Path,
    arguments: &[String],
    work: impl FnOnce() -> Outcome<()>,
) -> Outcome<u64> {
    let (mut command, profile) = valgrind(program, arguments);
    let server = Running::start(&mut command)?;
    work()?;
    drop(server);
    read(&profile)
}

fn valgrind(program: &Path, arguments: &[String]) -> (Command, PathBuf) {
    let profile = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(arguments);
    (command, profile)
}

fn read(profile: &Path) -> Outcome<u64> {
    let text = fs::read_to_string(profile)?;
    fs::remove_file(profile)?;
    Ok(own(&text))
}

/// The instructions of all functions but libc's for memory.
fn own(profile: &str) -> u64 {
    // `fn=(7) name` names a function once, `fn=(7)` means it ever after, and so do `cfn=` of what it calls. Then come
    // lines of a position and a cost; the one after `calls=` is the cost of the callee, which counts under its name.
    let (mut is_memory, mut memory, mut callee, mut total) = (HashMap::new(), false, false, 0);
    for line in profile.lines() {
        let named = line
            .strip_prefix("fn=")
            .or_else(|| line.strip_prefix("cfn="));
        if let Some((id, name)) = named.map(|named| named.split_once(' ').unwrap_or((named, ""))) {
            if !name.is_empty() {
                is_memory.insert(id, moves_memory(name));
            }
            if line.starts_with("fn=") {
                memory = is_memory.get(id).copied().unwrap_or(false);
            }
        } else if line.starts_with("calls=") {
            callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line
                .split(' ')
                .nth(1)
                .and_then(|cost| cost.parse().ok())
                .unwrap_or(0);
            if !callee && !memory {
                total += cost;
            }
            callee = false;
        }
    }
    total
}

fn moves_memory(name: &str) -> bool {
    ["memcpy", "memmove", "memset", "memcmp", "bcmp"]
        .iter()
        .any(|function| name.trim_start_matches('_').starts_with(function))
}

#[cfg(test)]
mod tests {
    #[test]
    fn costs_count_where_they_arise_and_memory_does_not() {
        let profile = "\
positions: line
events: Ir
fn=(1) main
16 400
cfn=(2) __memmove_avx_unaligned_erms
calls=1 50
16 1000
+2 7
fn=(2)
50 1000
fn=(3) memory_of_a_message
3 20

fn=(1)
* 1
totals: 1428
";
        assert_eq!(super::own(profile), 400 + 7 + 20 + 1);
    }
}
