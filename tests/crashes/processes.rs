//! The `server` program, as a process that can be killed.

use std::process::{ExitStatus, Stdio};

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
        let mut server = Self { child, lines };
        assert_eq!(server.line().await, " [x] Awaiting RPC requests");
        server
    }

    /// What it says next.
    pub async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        line.expect("a line in time")
            .expect("a server that is there")
    }

    /// Ends it at once, with no chance to say or do anything (SIGKILL); gives what it had said before.
    pub async fn killed(mut self) -> Vec<String> {
        self.child.kill().await.expect("a process");
        self.rest().await
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub async fn stopped(mut self) -> (ExitStatus, Vec<String>) {
        let pid = self.child.id().expect("a process").to_string();
        let signalled = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(signalled.await.expect("kill").success());
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it stops in time").expect("a process");
        (status, self.rest().await)
    }

    async fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(line) = self.lines.recv().await {
            rest.push(line);
        }
        rest
    }
}
