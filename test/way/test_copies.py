"""A filter that dies between the final dot and its answer: the message is sent again, and arrives once. The server
after the filter knows the second copy by XFORWARD RETRY. KILLS=100 for a longer run with our own filter."""

import os
import random
import re
import signal
import socket
import threading
import time

import pytest

from chain import AFTER, filter_line
from content import HEAD
from net import free_port, wait_until
from relay import Relay
from server import Sallyport, smtpd
from smtp_client import Client
from test_kill import Load, arrivals

WHOLE = "smtpd_proxy_options=speed_adjust"
MAIN = "smtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\nworker_processes = 2\nworker_busy_share = 0\n"
KILLS = int(os.environ.get("KILLS", "20"))
CONTENT = HEAD % b"copy" + b"\r\ntext\r\n"
AT_ONCE = ("smtpd_proxy_connection_reuse=yes", "smtpd_proxy_connection_idle_time=60s", "smtpd_proxy_chunking=yes")
ENDS = {"DATA": (b"\r\n.\r\n", ()), "BDAT": (CONTENT[-8:], AT_ONCE)}


@pytest.fixture(autouse=True)
def needs_a_build():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())


class Mortal(Relay):
    """A filter whose first connections end at the final dot, or the end of the last chunk, as if it were killed:

    answered    the next server has answered, and nobody is told
    dot         the end has gone on, and nothing more is known
    before      the end has not gone on
    frozen      the same, but the connection with the next server stays open, in `frozen` with what has not gone on"""

    def __init__(self, target, death, deaths=1, end=ENDS["DATA"][0]):
        self.death, self.deaths, self.end = death, deaths, end
        self.frozen = []
        self.has_chunk = False
        super().__init__(target)

    def _carry(self, near):
        if self.deaths == 0:
            super()._carry(near)
            return
        self.deaths -= 1
        self.is_sent = self.is_answered = False
        far = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=self._answer, args=(far, near), daemon=True).start()
        content = b""
        while self.end not in content:
            piece = near.recv(65536)
            content += piece
            holds = self.end in content and self.death in ("before", "frozen")
            kept = len(content) - content.find(self.end) if holds else 0
            self.is_sent = self.end in content
            self.has_chunk |= b"\r\nBDAT " in content
            far.sendall(piece[:max(0, len(piece) - kept)])
        if self.death == "answered":
            wait_until(lambda: self.is_answered, 10, "the next server's answer")
        if self.death == "frozen":
            self.frozen.append((far, piece[len(piece) - kept:]))
        else:
            far.shutdown(socket.SHUT_RDWR)
        near.shutdown(socket.SHUT_RDWR)

    def _answer(self, far, near):
        try:
            while piece := far.recv(65536):
                self.is_answered = self.is_answered or (self.is_sent and b"queued as" in piece)
                if not self.is_answered:
                    near.sendall(piece)
        except OSError:
            pass


class Chain:
    """Before and after the filter; the filter is the test's, which is told where the server after it is."""

    def __init__(self, make_filter, *options):
        front, after = free_port(), free_port()
        self.port = front
        self.filter = make_filter(after)
        self.server = Sallyport(
            smtpd(f"127.0.0.1:{front}", f"smtpd_proxy_filter=127.0.0.1:{self.filter.port}", WHOLE,
                  "smtpd_proxy_timeout=20s", *options) + smtpd(f"127.0.0.1:{after}", *AFTER), MAIN)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.close()
        self.filter.stop()

    def arrived(self):
        return sum(HEAD % b"copy" in content for content in self.server.mailbox().all())


@pytest.mark.parametrize("verb", ENDS)
@pytest.mark.parametrize("deaths", [1, 3])
@pytest.mark.parametrize("death", ["answered", "dot", "before", "frozen"])
def test_filter_dies_at_the_end(death, deaths, verb):
    end, options = ENDS[verb]
    with Chain(lambda after: Mortal(after, death, deaths, end), *options) as chain:
        with Client(chain.port) as client:
            client.hello()
            if verb == "BDAT":      # needs a connection that has served a message; it passes
                assert client.message(HEAD % b"first" + b"\r\n", quit=False).code == 250
                chain.server.wait_log("removed$")
            assert client.message(CONTENT).code == 250
        assert chain.filter.has_chunk == (verb == "BDAT")
        for far, rest in chain.filter.frozen:
            far.sendall(rest)
            chain.server.wait_log("not queued: a later copy of")
        wait_until(lambda: chain.arrived() >= 1, 10, "the message")
        others = verb == "BDAT"
        chain.server.wait_log("(?s)(removed\n.*){%d}" % (1 + others))
        chain.server.stop()     # what is queued beside it would have been delivered, or is in the queue still
        assert chain.arrived() == 1
        assert not [f for _, _, files in os.walk(os.path.join(chain.server.queue, "active")) for f in files]
        assert not [f for _, _, files in os.walk(os.path.join(chain.server.queue, "incoming")) for f in files]
        log = chain.server.log()
        if death == "answered":
            assert re.search(r"copy \d of (\w+), which is queued as \1$", log, re.M)
        assert len(re.findall("removed$", log, re.M)) == 1 + others, "one message in the queue, ever"


class QueueFiles:
    """Complete messages that stay in the queue, as a mailbox for arrivals()."""

    def __init__(self, server):
        self.server = server

    def mailbox(self):
        return self

    def all(self):
        found = {}      # by id: one that moves on meanwhile may be met in two places
        for place in ("incoming", "active", "deferred"):
            for folder, _, files in os.walk(os.path.join(self.server.queue, place)):
                for name in files:
                    try:
                        with open(os.path.join(folder, name), "rb") as f:
                            if os.fstat(f.fileno()).st_mode & 0o777 == 0o700:
                                found[name] = f.read()
                    except FileNotFoundError:
                        pass
        for content in found.values():
            start = content.index(b"Message-ID: <kill-")
            yield content[start:content.index(b"x\r\n", start) + 3]


def workers(server):
    """Those of the filter service."""
    found = []
    for pid in server.pids():
        try:
            with open(f"/proc/{pid}/comm", encoding="latin-1") as f:
                if f.read().strip() == "sp-filter":
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError):     # gone before it was opened, or before it was read
            continue
    return found


@pytest.mark.parametrize("way,options", [("onward", ()), ("onward", ENDS["BDAT"][1]), ("queues", ()), ("delivers", ())],
                         ids=["onward", "onward-chunks", "queues", "delivers"])
def test_our_filter_is_killed_under_load(way, options):
    """Our own filter, with a server after it, or as the last one, which queues itself: its workers are killed -9. What it
    queues stays in its queue, or is delivered at once, also while nobody knows yet that it is queued."""
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    front, middle, after = free_port(), free_port(), free_port()
    nexthop = after if way == "onward" else None
    line = filter_line(middle, after) if nexthop else smtpd(f"127.0.0.1:{middle}", "filter_nexthop=", command="filter")
    filter = Sallyport(line, MAIN + ("" if way == "delivers" else "defer_transports = virtual\n"))
    server = Sallyport(smtpd(f"127.0.0.1:{front}", f"smtpd_proxy_filter=127.0.0.1:{middle}", WHOLE,
                             "smtpd_proxy_retry_limit=50", *options) + smtpd(f"127.0.0.1:{after}", *AFTER), MAIN)
    end = server if nexthop else filter if way == "delivers" else QueueFiles(filter)
    try:
        filter.start()
        server.start()
        load = Load(front)
        for n in range(KILLS):
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 5, 60, f"mail flowing before kill {n} (seed {seed})")
            time.sleep(chance.random() * 0.03)      # an instant of the load, not a wait for something
            os.kill(chance.choice(wait_until(lambda: workers(filter), 10, "a worker to kill")), signal.SIGKILL)
        load.stop()
        wait_until(lambda: load.acknowledged <= set(arrivals(end)), 60, "every acknowledged message", poll=0.3)
        counts = arrivals(end)
        copies = len(re.findall(r"copy \d+ of \w+, which is queued", server.log() + filter.log()))
        print(f"seed {seed}: {KILLS} kills, {len(load.acknowledged)} acknowledged, {copies} copies known")
        assert not load.refused and not load.unknown, "no client sees it"
        assert {m: c for m, c in counts.items() if c > 1} == {}, "nothing arrives twice"
    finally:
        server.close()
        filter.close()
