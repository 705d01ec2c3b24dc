"""Ports, deadlines and bounded waits. Nothing here sleeps for a fixed time: every wait ends as soon as what it waits
for is there, and fails loudly at its deadline."""

import fcntl
import functools
import itertools
import os
import select
import socket
import tempfile
import time

PORTS = range(20000, 32000)     # below those that the kernel gives to outgoing connections
PORTS_OF_ONE = 1000             # so many belong to one test run: others may go on beside it


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


@functools.cache
def _own_ports():
    """Numbers that no other test run gives out while this one lives, over and over; and the lock that says so."""
    for first in PORTS[::PORTS_OF_ONE]:
        try:
            lock = open(f"{tempfile.gettempdir()}/sallyport-test-ports-{first}", "w", encoding="ascii")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        return itertools.cycle(range(first, first + PORTS_OF_ONE)), lock
    raise Timeout("every range of ports is another test run's")


def free_port():
    """A loopback port that nobody listens on, and that no outgoing connection can take before the server binds it."""
    for port in itertools.islice(_own_ports()[0], PORTS_OF_ONE):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Timeout("no free port")


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
    for table in filter(os.path.exists, ("/proc/net/tcp", "/proc/net/tcp6")):     # the second only where IPv6 is
        with open(table, encoding="ascii") as f:
            if any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
                   for row in map(str.split, f.readlines()[1:])):
                return True
    return False


def wait_listening(port, seconds=10):
    wait_until(lambda: is_listening(port), seconds, f"a listener on port {port}")
