"""A content filter that takes its time. What it accepts it hands on, when it was told where, and answers as it was answered;
what it had, and how many messages at once, is counted. It speaks SMTP as FakeServer does, whose script may be changed at any time."""

import threading
import time

from fake_server import FakeServer, unstuffed
from smtp_client import Client


class SlowFilter(FakeServer):
    def __init__(self, port=None, seconds=0.0, target=None, **script):
        """seconds: a number, or called with how many messages it has at once. target: the port of the server after it."""
        super().__init__(port, **script)
        self.seconds = seconds
        self.target = target
        self.gate = threading.Event()   # closed: no message gets its answer
        self.gate.set()
        self.turns = threading.Semaphore(0)     # with the gate closed: one answer each
        self.now = self.most = 0
        self.seen = []          # contents in the order in which they were complete

    def let(self, n=1):
        """Answers n of those that the closed gate keeps."""
        for _ in range(n):
            self.turns.release()

    def hold(self):
        self.gate.clear()
        return self

    def release(self):
        """All that wait, and all to come."""
        self.gate.set()
        self.let(1000)

    def order(self):
        """Of each message what its Message-ID names it, in order."""
        with self.lock:
            return [c.split(b"Message-ID: <")[1].split(b"@")[0].decode() for c in self.seen]

    def _act(self, sock, lines, phase):
        if phase != "dot":
            return super()._act(sock, lines, phase)
        content = unstuffed(lines.transcript.contents[-1])
        with self.lock:
            self.seen.append(content)
            self.now += 1
            self.most = max(self.most, self.now)
            at_once = self.now
        try:
            self._work(at_once)
        finally:
            with self.lock:
                self.now -= 1
        if self.target and str(self.script["dot"]).startswith("250"):
            try:
                reply = self._pass_on(lines.transcript)
            except AssertionError as e:     # it is gone, or does not want it
                raise OSError("no server after the filter") from e
            sock.sendall(reply.raw)
            return reply.text
        return super()._act(sock, lines, phase)

    def _work(self, at_once):
        if not self.gate.is_set():
            self.turns.acquire(timeout=60)
        time.sleep(self.seconds(at_once) if callable(self.seconds) else self.seconds)   # its work

    def _pass_on(self, transcript):
        with Client(self.target) as after:
            after.hello()
            if transcript.commands("XFORWARD"):
                after.wants(transcript.commands("XFORWARD")[-1], 250)
            after.wants(transcript.commands("MAIL")[-1], 250)
            for rcpt in transcript.commands("RCPT"):
                after.wants(rcpt, 250)
            after.wants("DATA", 354)
            after.send(transcript.contents[-1] + b".\r\n")
            reply = after.reply()
            after.command("QUIT")
            return reply
