//! The `server` program, as a process that can be killed.

use std::{
    mem,
    process::{ExitStatus, Stdio},
};

use amqp_rpc::codec::ShortString;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use crate::raw::PATIENCE;

pub struct Server {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    said: Vec<String>,
}

impl Server {
    /// Starts it and waits until it serves.
    pub async fn start(uri: &str, queue: &ShortString) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_server"))
            .args(["--url", uri, "--queue", &queue.to_string()])
            .env_remove("AMQP_URL")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let _ = sender.send(line); // nobody asks any more
            }
        });
        let mut server = Self {
            child,
            lines,
            said: Vec::new(),
        };
        server.says(" [x] Awaiting RPC requests").await;
        server
    }

    /// Waits for the next line, which must be this.
    pub async fn says(&mut self, expected: &str) {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        let line = line
            .expect("a line in time")
            .expect("a server that is there");
        assert_eq!(line, expected);
        self.said.push(line);
    }

    /// Ends it at once, with no chance to say or do anything (SIGKILL); gives all that it had said.
    pub async fn killed(&mut self) -> Vec<String> {
        self.child.kill().await.expect("a process");
        self.all().await
    }

    /// Asks it to stop (SIGTERM), and waits until it has; gives all that it said.
    pub async fn stopped(&mut self) -> (ExitStatus, Vec<String>) {
        let pid = self.child.id().expect("a process").to_string();
        let signalled = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(signalled.await.expect("kill").success());
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it stops in time").expect("a process");
        (status, self.all().await)
    }

    async fn all(&mut self) -> Vec<String> {
        while let Some(line) = self.lines.recv().await {
            self.said.push(line);
        }
        mem::take(&mut self.said)
    }
}

/// How often the work of a number was begun.
pub fn executed(said: &[String], n: &str) -> usize {
    let line = format!(" [.] fib({n})");
    said.iter().filter(|said| **said == line).count()
}
