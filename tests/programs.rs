#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)] // how a test reports
//! The programs as a user meets them: what they print, in which order, and how they end.
//!
//! Every program gets its broker by URL, on a port of its own; `.ci/run` walks the usual port.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// Far longer than anything here takes, on any machine.
const LIMIT: Duration = Duration::from_mins(1);

const BROKER: &str = env!("CARGO_BIN_EXE_broker");
const CLIENT: &str = env!("CARGO_BIN_EXE_client");
const DEMO: &str = env!("CARGO_BIN_EXE_demo");
const SERVER: &str = env!("CARGO_BIN_EXE_server");

/// A program, which never sees the URL of anybody's real broker.
fn program(path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_remove("AMQP_URL")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn output(path: &str, arguments: &[&str]) -> Output {
    program(path, arguments)
        .output()
        .expect("the program starts")
}

/// Standard output, standard error and the exit status.
fn said(path: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let Output {
        status,
        stdout,
        stderr,
    } = output(path, arguments);
    let text = |octets| String::from_utf8(octets).expect("text");
    (text(stdout), text(stderr), status.code())
}

/// A program that runs until it is told to stop; it ends with the test.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(path: &str, arguments: &[&str]) -> Self {
        let mut child = program(path, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || forward(stdout, &sender));
        Self { child, lines }
    }

    fn next_line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line in time")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill");
        assert!(sent.success());
    }

    /// Waits for the end: the exit status and what was said on standard error.
    fn wait(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if started.elapsed() > LIMIT => panic!("it did not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut stderr)
            .expect("text");
        (status.code(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(output: impl Read, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let _ = lines.send(line);
    }
}

/// A broker of this test's own, and its URL.
fn broker() -> (Running, String) {
    let broker = Running::start(BROKER, &["--listen", "127.0.0.1:0"]);
    let line = broker.next_line();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("amqp://"))
        .expect("a URL")
        .to_owned();
    (broker, url)
}

fn server(url: &str) -> Running {
    let server = Running::start(SERVER, &["--url", url]);
    assert_eq!(server.next_line(), " [x] Awaiting RPC requests");
    server
}

/// Starts a program whose output nobody reads, as behind `| head` once that has left.
fn said_to_nobody(path: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = program(path, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

#[test]
fn a_program_whose_reader_has_left_ends_without_a_word() {
    let (_broker, url) = broker();
    for (path, arguments) in [(DEMO, &[][..]), (SERVER, &["--url", &url])] {
        assert_eq!(said_to_nobody(path, arguments), (Some(1), String::new()));
    }
}

#[test]
fn the_demo_shows_the_conversation_and_ends() {
    let (stdout, stderr, status) = said(DEMO, &[]);
    assert_eq!((stderr.as_str(), status), ("", Some(0)));
    assert!(stdout.ends_with("\nfib(30) = 832040\n"), "{stdout}");
    let in_order = [
        "protocol header",
        "connection.start ",
        "connection.start-ok",
        "connection.tune ",
        "connection.open ",
        "queue.declare",
        "basic.consume",
        "basic.publish",
        "header  2 octets",
        "body    \"30\"",
        "basic.deliver",
        "basic.ack",
        "connection.close",
    ];
    let mut rest = stdout.as_str();
    for expected in in_order {
        let at = rest
            .find(expected)
            .unwrap_or_else(|| panic!("{expected} is due in {rest}"));
        rest = &rest[at..];
    }
    assert!(!stdout.contains('\u{1b}'), "no colour where nobody sees it");
    assert!(!stdout.contains("guest"), "the password is hidden");
}

/// What the demo shows when this octet of what the client sends is inverted: all of it, the last line, the exit status.
fn flipped(octet: u64) -> (String, String, Option<i32>) {
    let (stdout, stderr, status) = said(DEMO, &["--flip", &octet.to_string()]);
    assert_eq!(stderr, "", "octet {octet}");
    let last = stdout.lines().last().expect("a sentence").to_owned();
    (stdout, last, status)
}

#[test]
fn an_inverted_octet_has_its_consequence() {
    // HDR-3, FRAME-2, METH-2, FRAME-6, RPC-7, RPC-18, TYPE-13
    let cases: [(u64, &str, i32, &str); 10] = [
        (
            2,
            "literal, the 3rd of its 4 octets, 51 comes as ae",
            3,
            "answered with the protocol header",
        ),
        (
            258,
            "response, the 15th of its 16 octets, 73 comes as 8c",
            8,
            "closed the connection with 403",
        ),
        (
            315,
            "frame-end, which is one octet, ce comes as 31",
            7,
            "closed the connection with 501",
        ),
        (
            321,
            "size, the 3rd of its 4 octets, 00 comes as ff",
            5,
            "Then nobody said anything for 8 s: each waits for the other.",
        ),
        (
            338,
            "method, the 3rd of its 4 octets, 00 comes as ff",
            7,
            "closed the connection with 540",
        ),
        (
            340,
            "reserved-1, the 1st of its 2 octets, 00 comes as ff",
            0,
            "Nothing came of it: fib(30) = 832040.",
        ),
        (
            402,
            "routing-key, the 2nd of its 10 octets, 72 comes as 8d",
            4,
            "No server: there is no queue",
        ),
        (
            424,
            "body-size, the 1st of its 8 octets, 00 comes as ff",
            9,
            "closed the channel with 406",
        ),
        (
            520,
            "body, the 1st of its 2 octets, 33 comes as cc",
            6,
            "expected a whole number from 0 to 93",
        ),
        (
            549,
            "",
            2,
            "There is no octet 549: the caller sent 549, which are 0 to 548.",
        ),
    ];
    for (octet, mark, status, came) in cases {
        let (stdout, last, got) = flipped(octet);
        assert!(last.contains(came), "octet {octet}: {last}");
        assert!(
            mark.is_empty() || stdout.contains(&format!("✗ octet {octet}: {mark}")),
            "{stdout}"
        );
        assert_eq!(got, Some(status), "octet {octet}: {last}");
    }
    let (stdout, ..) = said(DEMO, &["--hex", "--flip", "520"]);
    let row = "         ✗ cc 30                         body         \"\\xcc0\"\n";
    assert!(stdout.contains(row), "{stdout}");
}

#[test]
fn no_inverted_octet_hangs_or_panics() {
    // SEC-11: among them those after which both sides wait, until the demo has waited long enough.
    const STEP: u64 = 17;
    const AT_ONCE: u64 = 8;
    let some =
        |first: u64| (first * STEP..549).step_by(usize::try_from(STEP * AT_ONCE).expect("few"));
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            scope.spawn(move || {
                for octet in some(first) {
                    let (_, last, status) = flipped(octet);
                    assert!(
                        last.starts_with(&format!("Octet {octet} belongs to ")),
                        "{last}"
                    );
                    assert!((0..=9).contains(&status.expect("no signal")), "{last}");
                }
            });
        }
    });
}

#[test]
fn a_page_that_cannot_be_written_is_named() {
    let (stdout, stderr, status) = said(DEMO, &["--html", "/nowhere/page.html"]);
    assert!(stdout.ends_with("fib(30) = 832040\n"), "{stdout}");
    assert!(
        stderr.starts_with("Cannot write /nowhere/page.html: "),
        "{stderr}"
    );
    assert_eq!(status, Some(1));
}

#[test]
fn a_request_goes_round() {
    let (_broker, url) = broker();
    let server = server(&url);
    let (stdout, stderr, status) = said(CLIENT, &["30", "--url", &url]);
    assert_eq!(stdout, " [x] Requesting fib(30)\n [.] Got 832040\n");
    assert_eq!((stderr.as_str(), status), ("", Some(0)));
    assert_eq!(server.next_line(), " [.] fib(30)");
}

#[test]
fn two_servers_share_the_work() {
    // QOS-9: the request of 34 keeps one of them busy, so the small ones go to the other.
    let (_broker, url) = broker();
    let servers = [server(&url), server(&url)];
    for _ in 0..4 {
        assert_eq!(said(CLIENT, &["10", "--url", &url]).2, Some(0));
    }
    for server in &servers {
        assert_eq!(
            [server.next_line(), server.next_line()],
            [" [.] fib(10)", " [.] fib(10)"],
            "round robin"
        );
    }
}

#[test]
fn every_failure_is_one_sentence_and_a_status() {
    let (_broker, url) = broker();
    let wrong = url.replace("guest:guest", "guest:wrong");
    let nowhere = format!("amqp://127.0.0.1:{}", free_port());
    let no_vhost = url.replace("%2f", "nope");
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["30", "--url", &nowhere],
            3,
            "No broker listens at 127.0.0.1:",
        ),
        (
            &["30", "--url", &url],
            4,
            "No server: there is no queue 'rpc_queue'.",
        ),
        (
            &["30", "--url", &wrong],
            8,
            "refused the login of user 'guest': check user and password",
        ),
        (
            &["30", "--url", &no_vhost],
            8,
            "does not let user 'guest' into virtual host 'nope'",
        ),
        (
            &["30", "--url", "amqps://localhost"],
            2,
            "amqps:// (TLS) is not supported yet",
        ),
        (
            &["30", "--url", "http://localhost"],
            2,
            "expected a URI that begins with amqp://",
        ),
    ];
    for (arguments, status, sentence) in cases {
        let (stdout, stderr, got) = said(CLIENT, arguments);
        assert_eq!(
            (stdout.as_str(), got),
            ("", Some(status)),
            "{arguments:?}: {stderr}"
        );
        assert!(stderr.contains(sentence), "{arguments:?}: {stderr}");
        assert!(
            status == 2 || stderr.trim_end().lines().count() == 1,
            "one sentence: {stderr}"
        );
    }
}

#[test]
fn a_url_that_cannot_be_read_is_not_repeated() {
    // SASL-12: it may hold a password, and what is printed ends in logs.
    for path in [CLIENT, SERVER] {
        let mut command = program(path, if path == CLIENT { &["30"] } else { &[] });
        let output = command
            .env("AMQP_URL", "amqp://me:se#cret@host/")
            .output()
            .expect("it starts");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.starts_with("The URL cannot be used") && !stderr.contains("cret"),
            "{stderr}"
        );
    }
}

#[test]
fn a_number_out_of_range_is_refused_before_anything_is_sent() {
    for n in ["abc", "-1", "94", ""] {
        let (stdout, stderr, status) = said(CLIENT, &[n]);
        assert_eq!((stdout.as_str(), status), ("", Some(2)));
        assert!(
            stderr.contains("expected a whole number from 0 to 93"),
            "{stderr}"
        );
    }
}

#[test]
fn a_queue_without_a_server_is_told_apart_and_waited_for_if_asked() {
    let (_broker, url) = broker();
    let first = server(&url);
    first.signal("INT");
    assert_eq!(
        first.wait(),
        (Some(0), String::new()),
        "Ctrl-C is a clean end"
    );

    let (_, stderr, status) = said(CLIENT, &["10", "--url", &url]);
    assert_eq!(status, Some(4));
    assert!(
        stderr.contains("exists, but nobody consumes from it (0 requests wait there)"),
        "{stderr}"
    );

    let waiting = Running::start(CLIENT, &["10", "--url", &url, "--wait"]);
    assert_eq!(waiting.next_line(), " [x] Requesting fib(10)");
    let _second = server(&url);
    assert_eq!(waiting.next_line(), " [.] Got 55");
    assert_eq!(waiting.wait().0, Some(0));
}

#[test]
fn many_calls_end_with_a_summary() {
    let (_broker, url) = broker();
    let _server = server(&url);
    for mode in ["direct", "exclusive"] {
        let arguments = [
            "9",
            "--url",
            &url,
            "--count",
            "50",
            "--concurrency",
            "5",
            "--reply-mode",
            mode,
        ];
        let (stdout, stderr, status) = said(CLIENT, &arguments);
        assert_eq!((stderr.as_str(), status), ("", Some(0)));
        let [calls, latency] = stdout.lines().collect::<Vec<_>>()[..] else {
            panic!("two lines: {stdout}")
        };
        assert!(
            calls.starts_with("50 calls in ") && calls.ends_with(" s: 50 answered"),
            "{calls}"
        );
        for percentile in ["p50 ", "p95 ", "p99 ", "max "] {
            assert!(latency.contains(percentile), "{latency}");
        }
    }
}

#[test]
fn of_several_places_the_first_that_answers_is_taken() {
    let (_broker, url) = broker();
    let _server = server(&url);
    let nowhere = format!("amqp://127.0.0.1:{}", free_port());
    let several = format!("{nowhere} {url}");
    let (stdout, _, status) = said(CLIENT, &["10", "--url", &several]);
    assert_eq!(
        (stdout.lines().last(), status),
        (Some(" [.] Got 55"), Some(0))
    );
    let (_, stderr, status) = said(CLIENT, &["10", "--url", &format!("{nowhere} {nowhere}")]);
    assert_eq!(status, Some(3));
    assert!(
        stderr.contains("The other place that was named failed, too."),
        "{stderr}"
    );
}

#[test]
fn a_ping_says_who_is_there() {
    let (_broker, url) = broker();
    let (stdout, stderr, status) = said(CLIENT, &["ping", "--url", &url]);
    assert!(
        stdout.starts_with("The broker answers in ") && status == Some(4),
        "{stdout}"
    );
    assert!(
        stderr.starts_with("No server: there is no queue 'rpc_queue'."),
        "{stderr}"
    );
    let _server = server(&url);
    let (stdout, _, status) = said(CLIENT, &["ping", "--url", &url]);
    let last = "Queue 'rpc_queue': 1 server, 0 requests wait.";
    assert_eq!((stdout.lines().last(), status), (Some(last), Some(0)));
}

#[test]
fn no_reply_in_time_is_said_in_time() {
    let (_broker, url) = broker();
    let _server = server(&url);
    let (stdout, stderr, status) = said(CLIENT, &["93", "--url", &url, "--timeout", "1"]);
    assert_eq!(
        (stdout.as_str(), status),
        (" [x] Requesting fib(93)\n", Some(5))
    );
    assert!(stderr.starts_with("No reply within 1 s"), "{stderr}");
    // The server gave it up at the same deadline, so the next request is served (RPC-10).
    assert_eq!(
        said(CLIENT, &["10", "--url", &url]).0,
        " [x] Requesting fib(10)\n [.] Got 55\n"
    );
}

#[test]
fn a_server_outlives_its_broker_and_says_so() {
    // CLOSE-15
    let (broker, url) = broker();
    let server = server(&url);
    broker.signal("TERM");
    assert_eq!(broker.wait(), (Some(0), String::new()));
    let lost = server.next_line();
    assert!(lost.ends_with(" Trying until it works again."), "{lost}");
    assert!(lost.contains("CONNECTION_FORCED"), "{lost}");

    let address = url.split(['@', '/']).nth(3).expect("host and port");
    let _again = Running::start(BROKER, &["--listen", address]);
    assert_eq!(server.next_line(), " [x] Awaiting RPC requests again");
    let (stdout, ..) = said(CLIENT, &["10", "--url", &url]);
    assert_eq!(stdout, " [x] Requesting fib(10)\n [.] Got 55\n");
    server.signal("TERM");
    assert_eq!(server.wait(), (Some(0), String::new()));
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let (_broker, url) = broker();
    let server = server(&url);
    let client = Running::start(CLIENT, &["93", "--url", &url, "--timeout", "60"]);
    assert_eq!(server.next_line(), " [.] fib(93)");
    server.signal("INT"); // the request in hand would be finished first
    client.signal("INT");
    let (status, said_last) = client.wait();
    assert_eq!(
        status,
        Some(130),
        "a client that is interrupted closes its connection"
    );
    assert!(
        said_last.starts_with("Interrupted. A server that has the request hears nothing of that"),
        "{said_last}"
    );
    let started = Instant::now();
    while started.elapsed() < LIMIT && said(CLIENT, &["1", "--url", &url]).2 != Some(4) {} // its consumer is cancelled
    server.signal("INT");
    assert_eq!(server.wait().0, Some(130));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (_, stderr, status) = said(BROKER, &["--listen", &address]);
    assert_eq!(status, Some(3));
    assert!(
        stderr.starts_with(&format!("Something listens at {address} already")),
        "{stderr}"
    );
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn a_broker_without_descriptors_says_so_once_and_goes_on() {
    // SEC-8: a dozen are its own, so that some of sixty connections have to wait.
    let limited = "ulimit -n 48 && exec \"$0\" --listen 127.0.0.1:0";
    let mut broker = Running::start("/bin/sh", &["-c", limited, BROKER]);
    let stderr = broker.child.stderr.take().expect("piped");
    let (sender, warnings) = mpsc::channel();
    std::thread::spawn(move || forward(stderr, &sender));
    let line = broker.next_line();
    let (_, address) = line.split_once('@').expect("a URL");
    let (address, _) = address.split_once('/').expect("a virtual host");

    let connect = || TcpStream::connect(address).expect("the kernel takes it");
    let connections: Vec<_> = (0..60).map(|_| connect()).collect();
    let warning = warnings.recv_timeout(LIMIT).expect("a line in time");
    let said =
        "connections wait until they can be accepted error=Too many open files (os error 24)";
    assert!(warning.ends_with(said), "{warning}");

    drop(connections);
    let mut late = connect();
    late.set_read_timeout(Some(LIMIT)).expect("a limit");
    late.write_all(b"AMQP\0\0\x09\x01").expect("it listens");
    let mut start = [0; 11];
    late.read_exact(&mut start).expect("connection.start");
    assert_eq!((start[0], &start[7..]), (1, &[0, 10, 0, 10][..]));

    broker.signal("INT");
    let more: Vec<_> = warnings.iter().collect();
    assert_eq!(more, [""; 0], "it was said once");
}
