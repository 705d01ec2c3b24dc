"""Which worker takes a connection: as few as have time, and another one when those hang or are gone."""

import os
import re
import signal
import threading
from collections import Counter

import pytest

from net import free_port, wait_until
from server import Sallyport, smtpd
from smtp_client import Client

SESSIONS, THREADS = 400, 8


@pytest.fixture(autouse=True)
def needs_a_build():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())


@pytest.fixture
def served():
    """(server, port) with four workers."""
    port = free_port()
    server = Sallyport(smtpd(f"127.0.0.1:{port}"), "worker_processes = 4\nsmtpd_client_connection_count_limit = 0\n")
    server.start()
    yield server, port
    server.close()


def session(port):
    with Client(port, seconds=10) as client:
        client.hello()
        client.command("QUIT")


def several_at_once(port):
    def some():
        for _ in range(SESSIONS // THREADS):
            session(port)
    threads = [threading.Thread(target=some) for _ in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def workers(server):
    """Counter: how many sessions each has had."""
    return Counter(int(pid) for pid in re.findall(r"smtpd\[(\d+)\]: disconnect from", server.log()))


def state(pid):
    """Of the process, a letter; Z: a zombie, or gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def all_logged(server, count):
    wait_until(lambda: sum(workers(server).values()) >= count, 10, "the sessions in the log")
    return workers(server)


def test_one_takes_what_one_can_do(served):
    server, port = served
    several_at_once(port)
    busiest = all_logged(server, SESSIONS).most_common(1)[0][1]
    assert busiest >= SESSIONS * 0.9


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "is killed"])
def test_another_takes_its_place(served, how):
    server, port = served
    for _ in range(20):
        session(port)
    first = all_logged(server, 20).most_common(1)[0][0]
    os.kill(first, how)
    wait_until(lambda: state(first) in "TZ", 10, "its end")
    try:
        for _ in range(20):
            session(port)
        after = all_logged(server, 40)
        assert sum(n for pid, n in after.items() if pid != first) >= 20
    finally:
        if how == signal.SIGSTOP:
            os.kill(first, signal.SIGCONT)
