#!/usr/bin/env python3
"""Does what the README says, word for word, and compares what is printed.

Every `$ ` line of a ```console fence is run; what follows it must be its standard output, where a line of three dots
stands for any lines. A server runs on in the background until the end, when Ctrl-C must end it in order.
"""
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
ENV = {key: value for key, value in os.environ.items() if key not in ("AMQP_URL", "AMQP_TEST_URL")}
LIMIT = 600  # seconds, the build included


def steps():
    for fence in re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S):
        command, expected = None, []
        for line in fence.splitlines() + ["$ "]:
            if line.startswith("$ "):
                if command:
                    yield command, expected
                command, expected = line[2:], []
            else:
                expected.append(line)


def matches(expected, got):
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line) + "\n" for line in expected)
    return re.fullmatch(pattern, got) is not None


def serve(command, expected):
    """Starts it, and reads what it says before the first line of three dots: it says the rest when it is asked."""
    server = subprocess.Popen(["bash", "-c", "exec " + command], cwd=ROOT, env=ENV, stdout=subprocess.PIPE, text=True,
                              start_new_session=True)
    first = list(itertools.takewhile(lambda line: line.strip() != "...", expected))
    return server, first, "".join(server.stdout.readline() for _ in first)


def main():
    servers, failed = [], 0
    for command, expected in steps():
        if "AMQP_TEST_URL=" in command or command.startswith(("cargo test", "cargo fuzz", "git clone", "cd ")):
            continue  # run by .ci/run itself, or before it
        if "--bin server" in command or "--bin broker" in command:
            server, expected, got = serve(command, expected)
            servers.append(server)
        else:
            got = subprocess.run(command, shell=True, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, text=True,
                                 timeout=LIMIT, check=False).stdout
        ok = matches(expected, got)
        failed += not ok
        print(f"{'ok' if ok else 'FAILED'}: $ {command}", flush=True)
        if not ok:
            print(f"expected:\n{chr(10).join(expected)}\ngot:\n{got}", flush=True)
    for server in reversed(servers):
        os.killpg(server.pid, signal.SIGINT)
    started = time.time()
    for server in servers:
        status = server.wait(timeout=max(1, 20 - (time.time() - started)))
        failed += status not in (0, 7)
        print(f"{'ok' if status in (0, 7) else 'FAILED'}: Ctrl-C, exit status {status}", flush=True)
    sys.exit(1 if failed else 0)


main()
