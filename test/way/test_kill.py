"""kill -9 of random processes under load: whatever was acknowledged arrives. KILLS=100 for the long run; SEED repeats one.

Clients send numbered messages through the whole chain, before-filter server, filter, after-filter server, queue,
mailbox, or through one server with the direct profile; master or any of its processes is killed at random instants. A
killed master is started again, as an administrator's supervisor would. Messages that arrive twice are allowed (an answer
lost on its way makes a client, or an agent, try again) and counted; so are those whose client never learned what became
of them."""

import os
import random
import re
import signal
import threading
import time

import pytest

from chain import AFTER, filter_line, front_options
from net import free_port, wait_until
from server import Sallyport, smtpd
from smtp_client import Client

KILLS = int(os.environ.get("KILLS", "20"))
SENDERS = 6


class Load:
    """Clients that send until told to stop; what each message's end was."""

    def __init__(self, port):
        self.port = port
        self.acknowledged, self.refused, self.unknown = set(), set(), set()
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(SENDERS)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a client hangs beyond every deadline"

    def _send(self, sender):
        for n in range(10**9):
            if self.over.is_set():
                return
            mark = f"{sender}-{n}"
            content = b"Message-ID: <kill-%s@example.org>\r\n\r\n" % mark.encode() + b"x" * 3000 + b"\r\n"
            where = self.unknown
            try:
                with Client(self.port, seconds=30) as client:
                    reply = client.submit(content, quit=False)
                    where = self.acknowledged if reply.code == 250 else self.refused
            except (OSError, AssertionError):
                self.over.wait(0.02)    # nobody listens while master is away
            with self.lock:
                where.add(mark)


def arrivals(server):
    """{message: how often it arrived}."""
    counts = {}
    for content in server.mailbox().all():
        mark = re.search(rb"<kill-(\d+-\d+)@", content)
        assert mark and content.endswith(b"x" * 100 + b"\r\n"), f"a damaged message: {content[:300]!r}"
        counts[mark.group(1).decode()] = counts.get(mark.group(1).decode(), 0) + 1
    return counts


def what_waits(server):
    """SIGUSR1 makes every worker log what its sessions wait for; that, and what master said, for a failed test."""
    try:
        os.kill(server.master_pid(), signal.SIGUSR1)
        time.sleep(1)       # only after a failure
    except (OSError, ValueError):
        pass
    return "\n".join(line for line in server.log().split("\n") if "master[" in line or "warning" in line
                     or "wait" in line)[-6000:]


def bring_back(server):
    """Starts it again after master was killed. What is left of the old processes may hold the ports for a moment."""
    wait_until(lambda: server.run("start", check=False).returncode == 0, 30,
               f"a start after a killed master: {server.log()[-1500:]}", poll=0.1)


def chain(front):
    """The lines of the whole chain."""
    middle, after = free_port(), free_port()
    return smtpd(f"127.0.0.1:{front}", *front_options(middle)) + filter_line(middle, after) \
        + smtpd(f"127.0.0.1:{after}", *AFTER)


def direct(front):
    """One server with an engine that keeps each message until its end."""
    return smtpd(f"127.0.0.1:{front}", "smtpd_proxy_filter=direct", "filter_engines=checks")


@pytest.mark.parametrize("services, kills", [(chain, KILLS), (direct, (KILLS + 1) // 2)], ids=["chain", "direct"])
def test_every_acknowledged_message_arrives(services, kills):
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    front = free_port()
    server = Sallyport(services(front), "smtpd_error_sleep_time = 0\nsmtpd_proxy_timeout = 10s\n")
    killed, name = {}, None
    try:
        server.start()
        load = Load(front)
        for n in range(kills):
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 5, 60,
                       f"mail flowing again before kill {n} (seed {seed})")
            time.sleep(chance.random() * 0.05)      # an instant of the load, not a wait for something
            pids = list(server.pids())
            master = pids[0]
            victim = master if chance.random() < 0.1 else chance.choice(pids)
            try:
                with open(f"/proc/{victim}/comm", encoding="latin-1") as f:
                    name = "master" if victim == master else f.read().strip()
                os.kill(victim, signal.SIGKILL)
            except (ProcessLookupError, FileNotFoundError):
                continue
            killed[name] = killed.get(name, 0) + 1
            if victim == master:
                bring_back(server)
        load.stop()
        counts = {}

        def all_there():
            counts.clear()
            counts.update(arrivals(server))
            return load.acknowledged <= set(counts)
        try:
            wait_until(all_there, 60, "every acknowledged message in the mailbox", poll=0.3)
        finally:
            lost = sorted(load.acknowledged - set(counts))
            twice = {m: c for m, c in counts.items() if c > 1}
            print(f"seed {seed}: {sum(killed.values())} kills {killed}; {len(load.acknowledged)} acknowledged, "
                  f"{len(lost)} lost {lost[:10]}, {len(twice)} arrived more than once, {len(load.refused)} refused, "
                  f"{len(load.unknown)} without an answer, {len((load.unknown | load.refused) & set(counts))} of those "
                  f"two kinds arrived all the same")
        assert len(load.acknowledged) > kills
    except AssertionError:
        print(f"seed {seed}, killed {killed}, last {name}\n{what_waits(server)}")
        raise
    finally:
        server.close()
