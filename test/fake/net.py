"""Ports, deadlines and bounded waits. Nothing here sleeps for a fixed time: every wait ends as soon as what it waits
for is there, and fails loudly at its deadline."""

import os
import select
import socket
import time

_next_port = 20000 + (os.getpid() * 37) % 9000


class Timeout(AssertionError):
    """A deadline passed. An AssertionError: the test that waited has failed."""


class Deadline:
    def __init__(self, seconds):
        self.seconds = seconds
        self.at = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.at - time.monotonic())

    def passed(self):
        return time.monotonic() >= self.at


def free_port():
    """A loopback port that nobody listens on. Below the range that the kernel gives to outgoing connections, so that
    none of those can take it before the server binds it; the same number is not given out twice."""
    global _next_port
    while True:
        _next_port += 1
        if _next_port > 32000:
            _next_port = 20000
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", _next_port))
            except OSError:
                continue
            return _next_port


def wait_until(condition, seconds=10, what="the condition", poll=0.01):
    """Calls condition() until it returns something true, and returns that."""
    deadline = Deadline(seconds)
    pause = select.poll()
    while True:
        value = condition()
        if value:
            return value
        if deadline.passed():
            raise Timeout(f"not within {seconds} s: {what}")
        pause.poll(poll * 1000)


def is_listening(port):
    """Asks the kernel, not the server: a connection made to find out would be logged and counted there."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as f:
            if any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
                   for row in map(str.split, f.readlines()[1:])):
                return True
    return False


def wait_listening(port, seconds=10):
    wait_until(lambda: is_listening(port), seconds, f"a listener on port {port}")
