"""Clients that are gone around the final dot, and come back with the same message: it is filtered once. Also when the
worker that has the first copy is kept from its processor (stopped) while the client goes and the retry reaches another.
RUNS=1000 for a long run; SEED repeats one. And the other way round: what is no retry is filtered each time. The same where a
retry finds no room at the filter, and would be queued unfiltered."""

import os
import random
import re
import signal
import socket
import struct
import threading
import time

import pytest

from content import HEAD
from fake_server import FakeServer
from net import free_port, wait_until
from server import Sallyport, smtpd
from slow_filter import SlowFilter
from smtp_client import Client
from test_admission import hold_front, mark

RUNS = int(os.environ.get("RUNS", "200"))
SCAN = 0.03
MAIN = "worker_processes = 2\nworker_busy_share = 0\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\n"
MOMENTS = ("inside the content", "dot unread", "in the filter", "reply unread")


class Filter(FakeServer):
    """Works for a while on each message."""

    def _act(self, sock, lines, phase):
        if phase == "dot":
            self.stopped.wait(SCAN)
        return super()._act(sock, lines, phase)


class Front:
    def __init__(self):
        self.filter = Filter().start()
        self.port = free_port()
        self.server = Sallyport(smtpd(f"127.0.0.1:{self.port}", f"smtpd_proxy_filter=127.0.0.1:{self.filter.port}",
                                      "smtpd_proxy_options=speed_adjust"), MAIN)
        self.next = 0

    def content(self):
        self.next += 1
        return HEAD % b"dot-%d" % self.next + b"\r\n" + (b"x" * 70 + b"\r\n") * 40

    def scans(self, content):
        """How often the filter has had it: below our Received line."""
        with self.filter.lock:
            return sum(c.endswith(content) for t in self.filter.transcripts for c in t.contents)

    def to_data(self, source=None):
        client = Client(self.port, source=source)
        client.hello()
        client.wants("MAIL FROM:<sender@example.org>", 250)
        client.wants("RCPT TO:<user@way.test>", 250)
        client.wants("DATA", 354)
        return client


@pytest.fixture(scope="module", name="front")
def _front():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    f = Front()
    try:
        f.server.start()
        yield f
    finally:
        f.server.close()
        f.filter.stop()


def end(client, how):
    if how == "RST":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def retry(front, content):
    """The same message again; the reply comes in time."""
    with front.to_data() as client:
        client.send(content + b".\r\n")
        assert client.reply().code == 250
        client.wants("QUIT", 221)


class Stopped:
    """The worker that serves the client from this address: stopped, until told to go on."""

    def __init__(self, front, source):
        found = front.server.wait_log(r"\[(\d+)\]: connect from unknown\[%s\]" % re.escape(source))
        self.pid = int(found.group(1))
        self.is_stopped = False

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)
        self.is_stopped = True
        wait_until(self._has_stopped, 5, "a stopped worker")

    def _has_stopped(self):
        with open(f"/proc/{self.pid}/stat", encoding="latin-1") as f:
            return f.read().rpartition(")")[2].split()[0] == "T"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.is_stopped:
            os.kill(self.pid, signal.SIGCONT)


def kill_at(front, moment, how, source, content):
    """The first try, whose client is gone at this moment; its worker, which learns of that later."""
    client = front.to_data(source)
    worker = Stopped(front, source)
    if moment == "inside the content":
        worker.stop()
        client.send(content[:-20])
    elif moment == "dot unread":
        worker.stop()
        client.send(content + b".\r\n")
    else:
        client.send(content + b".\r\n")
        wait_until(lambda: front.scans(content), 5, "the message in the filter", poll=0.001)
        if moment == "reply unread":
            assert client.sock.recv(1, socket.MSG_PEEK)
        worker.stop()
    end(client, how)
    return worker


@pytest.mark.parametrize("how", ("FIN", "RST"))
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_retry_waits_for_a_worker_that_does_not_know_yet(front, moment, how):
    content, source = front.content(), f"127.3.{MOMENTS.index(moment) + 1}.{1 + (how == 'RST')}"
    reply = []

    def again():
        retry(front, content)
        reply.append(250)

    with kill_at(front, moment, how, source, content):
        before = front.scans(content)
        thread = threading.Thread(target=again)
        thread.start()
        wrong = time.monotonic() + 0.15     # for the second scan to come, if it is to come
        while time.monotonic() < wrong and front.scans(content) == before:
            thread.join(0.005)
    thread.join(20)
    assert reply == [250]
    assert front.scans(content) == 1


def test_a_worker_that_hangs_is_not_waited_for_long(front):
    content, source = front.content(), "127.3.9.1"
    with kill_at(front, "reply unread", "RST", source, content):
        begin = time.monotonic()
        retry(front, content)
        assert 0.5 < time.monotonic() - begin < 5
    assert front.scans(content) == 2


def test_at_any_moment(front):
    """Clients at once, each killed at its own moment, from before the dot to after the reply."""
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    plans = [(front.content(), chance.uniform(-0.002, SCAN + 0.02), chance.choice(("FIN", "RST")),
              chance.choice((0, 0, 0.001, 0.01))) for _ in range(RUNS)]
    faults, done, turns = [], [], iter(plans)

    def run(content, offset, how, pause):
        client = front.to_data()
        client.send(content)
        if offset >= 0:
            client.send(b".\r\n")
        time.sleep(abs(offset))
        end(client, how)
        time.sleep(pause)
        retry(front, content)
        if front.scans(content) != 1:
            faults.append((offset, how, pause, front.scans(content)))

    def some():
        for plan in turns:
            run(*plan)
            done.append(plan)

    threads = [threading.Thread(target=some) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not faults and len(done) == RUNS, f"seed {seed}"


@pytest.mark.parametrize("talk", ("one session", "two sessions", "without QUIT"))
def test_an_acknowledged_message_is_new_when_it_comes_again(front, talk):
    content = front.content()
    clients = []
    for n in range(2):
        if n == 0 or talk != "one session":
            clients.append(Client(front.port))
            clients[-1].hello()
        assert clients[-1].message(content, quit=talk == "two sessions").code == 250
        assert front.scans(content) == n + 1
    for client in clients:
        client.close()


def test_alike_messages_at_once_are_all_filtered(front):
    content, replies = front.content(), []

    def send():
        with Client(front.port) as client:
            replies.append(client.submit(content).code)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert replies == [250] * 20
    assert front.scans(content) == 20


def test_a_retry_without_room_is_told_what_is_remembered():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    later = SlowFilter().start()
    with hold_front(later.port) as chain:
        later.target = chain.after_port
        chain.filter.hold()
        first = chain.begin("again")
        wait_until(lambda: chain.filter.order() == ["again"], 10, "the message in the filter")
        first.leave()
        chain.wait_number(1, "verdicts_running")
        chain.filter.let()
        chain.wait_number(1, "verdicts")
        chain.filter.gate.set()
        queued = re.search(r"(\w+): removed$", chain.server.wait_log("removed$").string, re.M).group(1)
        busy = chain.fill(0)
        while chain.number("admission_turned_total", "stranger", step="hold") == 0:
            assert len(busy) < 1000, "there is always room"
            before = chain.judged()
            busy.append(chain.begin(f"busy-{len(busy)}"))
            wait_until(lambda: chain.judged() > before, 10, "the number of that", poll=0.02)
        assert str(chain.send("again")) == f"250 2.0.0 Ok: queued as {queued}"
        chain.server.wait_log(r"(?s)(\w+): admission: step hold: .*\1: remembered: END-OF-MESSAGE: 250 ")
        chain.wait_number(0, "verdicts")
        assert "again" not in chain.filter.order() + later.order()
        assert len(chain.mailbox().find(mark("again"))) == 1
        chain.send("again")     # its client has heard the first reply: this is another message
        wait_until(lambda: len(chain.mailbox().find(mark("again"))) == 2, 10, "the second message")
        assert later.order().count("again") == 1
    later.stop()
