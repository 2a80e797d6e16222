//! The programs of a measurement: how they come to be, run and end.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::work::Outcome;

/// A process that is ended when this is dropped.
pub struct Running(Child);

impl Running {
    /// Starts it, and waits for the first line that it prints, which [`Running::start_and_hear`] also returns.
    pub fn start(command: &mut Command) -> Outcome<Self> {
        Self::start_and_hear(command).map(|(running, _)| running)
    }

    pub fn start_and_hear(command: &mut Command) -> Outcome<(Self, String)> {
        let mut running = Self(command.stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        match line.is_empty() {
            true => Err(format!("{command:?} ended before it was ready").into()),
            false => Ok((running, line)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).unwrap_or(i32::MAX);
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// NAME=PATH on a command line: a program of somebody else's, and what to call it.
///
/// # Errors
///
/// There is no `=`.
pub fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("NAME=PATH is wanted")?;
    Ok((name.into(), path.into()))
}

/// Builds programs with optimisation, and says in which directory they are.
///
/// # Errors
///
/// They cannot be built; Cargo has said why.
pub fn build(packages: &[Package]) -> Outcome<PathBuf> {
    let programs = std::env::current_exe()?;
    let programs = programs.parent().ok_or("no directory")?;
    let target = programs.parent().ok_or("no target directory")?;
    eprintln!("building");
    for Package { directory, what } in packages {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let status = Command::new("cargo")
            .args(["build", "--quiet", "--release", "--target-dir"])
            .arg(target)
            .args(*what)
            .current_dir(&directory) // where Cargo looks for its configuration
            .status()?;
        if !status.success() {
            return Err(format!("cargo build in {}: {status}", directory.display()).into());
        }
    }
    Ok(programs.to_path_buf())
}

/// A part of what is to be built.
pub struct Package {
    /// As seen from benches/.
    pub directory: &'static str,
    /// Options that name programs.
    pub what: &'static [&'static str],
}
