"""A scripted SMTP server, standing in for a content filter or a next hop. It records every byte it gets, and at each
phase (banner, ehlo, xforward, mail, rcpt, data, content, dot, quit; bdat: a chunk where none may stand) does what its script says:

    "250 2.0.0 Ok"  answers that (lines joined with \\r\\n; the last CR LF is added)
    CLOSE           closes the connection          STALL    never answers, keeps reading
    DEAF            never answers and never reads again
    RESET           closes with a TCP reset
    b"bytes"        sends exactly these bytes
    HALF            sends the first half of a reply line and closes
    ("250 Ok", CLOSE)   answers that, then does the other
    [a, b, ...]     one of these each time the phase comes, the last for ever
"""

import socket
import struct
import threading

from net import free_port, wait_until

CLOSE, STALL, DEAF, RESET, HALF = (type(name, (), {"__repr__": lambda self: type(self).__name__})()
                                   for name in ("CLOSE", "STALL", "DEAF", "RESET", "HALF"))

PHASES = ("banner", "ehlo", "xforward", "mail", "rcpt", "data", "content", "bdat", "dot", "quit")

ACCEPT = {
    "banner": "220 fake.test ESMTP",
    "ehlo": "250-fake.test\r\n250-PIPELINING\r\n250-SIZE 99999999\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n"
            "250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    "helo": "250 fake.test",
    "xforward": "250 2.0.0 Ok",
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 go on",
    "content": "",
    "bdat": "503 5.5.1 no recipient",
    "dot": "250 2.0.0 Ok: taken",
    "rset": "250 2.0.0 Ok",
    "quit": "221 2.0.0 Bye",
}


class Transcript:
    """One connection: every line (bytes, with its end), and the content of its messages (as on the wire, dots
    stuffed, without the final dot line)."""

    def __init__(self):
        self.raw = b""
        self.lines = []         # command lines, without their end
        self.contents = []      # finished messages
        self.unfinished = b""   # content that no dot ended
        self.ahead = []         # what had come behind each dot before it was answered
        self.has_sender = self.may_have_content = False
        self.ended = False      # the connection is over

    def note(self, phase, is_taken):
        """What a command means for a chunk after it."""
        if phase in ("mail", "rset"):
            self.has_sender, self.may_have_content = phase == "mail" and is_taken, False
        if phase == "rcpt" and is_taken:
            self.may_have_content = self.has_sender

    def commands(self, verb):
        return [line for line in self.lines if line.upper().startswith(verb.upper())]


class _Over(Exception):
    pass


class FakeServer:
    def __init__(self, port=None, **script):
        self.port = port or free_port()
        self.script = {**ACCEPT, **script}
        self.transcripts = []
        self.socks = set()      # of live connections
        self.counts = {}
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.killed = False
        self.listener = None

    def start(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(512)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def stop(self):
        self.stopped.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def kill(self):
        """As kill -9: every connection ends where it is."""
        self.stop()
        with self.lock:
            self.killed = True
            for sock in self.socks:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def messages(self):
        """Contents of all finished messages, dots unstuffed."""
        with self.lock:
            return [unstuffed(c) for t in self.transcripts for c in t.contents]

    def wait_ended(self, n=1, seconds=10):
        """Until n connections are over; their transcripts."""
        def over():
            ended = [t for t in self.transcripts if t.ended]
            return ended if len(ended) >= n else None
        return wait_until(over, seconds, f"{n} ended connections at the fake server")

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            transcript = Transcript()
            with self.lock:
                if self.killed:
                    sock.close()
                    return
                self.transcripts.append(transcript)
                self.socks.add(sock)
            threading.Thread(target=self._serve, args=(sock, transcript), daemon=True).start()

    def _serve(self, sock, transcript):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._session(sock, transcript)
        except (_Over, OSError):
            pass
        finally:
            with self.lock:
                self.socks.discard(sock)
            sock.close()
            transcript.ended = True

    def _session(self, sock, transcript):
        lines = _Lines(sock, transcript)
        self._act(sock, lines, "banner")
        while True:
            line = lines.next()
            transcript.lines.append(line.rstrip(b"\r\n").decode("latin-1"))
            verb = line[:4].upper().strip()
            phase = {b"EHLO": "ehlo", b"HELO": "helo", b"LHLO": "ehlo", b"XFOR": "xforward", b"MAIL": "mail",
                     b"RCPT": "rcpt", b"DATA": "data", b"BDAT": "bdat", b"RSET": "rset", b"QUIT": "quit"}.get(verb)
            if phase is None:
                sock.sendall(b"500 5.5.2 what?\r\n")
                continue
            if phase == "bdat":
                self._chunk(sock, lines, transcript, line)
                continue
            answer = self._act(sock, lines, phase)
            transcript.note(phase, answer.startswith("2"))
            if phase == "data" and answer.startswith("354"):
                self._content(sock, lines, transcript)
            if phase == "quit":
                return

    def _chunk(self, sock, lines, transcript, line):
        """BDAT n LAST; "content" is done when its command has come."""
        if self.script["content"] not in ("", None) and transcript.may_have_content:
            self._act(sock, lines, "content")
        content = lines.exactly(int(line.split()[1]))
        if not transcript.may_have_content:
            self._act(sock, lines, "bdat")
            return
        with self.lock:
            transcript.contents.append(stuffed(content))
            transcript.ahead.append(lines.buffer)
        transcript.note("rset", True)
        self._act(sock, lines, "dot")

    def _content(self, sock, lines, transcript):
        if self.script["content"] not in ("", None):
            self._act(sock, lines, "content")
        content = []
        try:
            while (line := lines.next()) != b".\r\n":
                content.append(line)
        except (_Over, OSError):
            transcript.unfinished = b"".join(content) + lines.buffer
            raise
        with self.lock:
            transcript.contents.append(b"".join(content))
            transcript.ahead.append(lines.buffer)
        transcript.note("rset", True)
        self._act(sock, lines, "dot")

    def _act(self, sock, lines, phase):
        what = self.script[phase]
        if isinstance(what, list):
            with self.lock:
                turn = self.counts.get(phase, 0)
                self.counts[phase] = turn + 1
            what = what[min(turn, len(what) - 1)]
        if isinstance(what, tuple):
            sock.sendall(what[0].encode("latin-1") + b"\r\n")
            what = what[1]
        if what is CLOSE:
            raise _Over
        if what is RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _Over
        if what is DEAF:
            self.stopped.wait()
            raise _Over
        if what is STALL:
            while True:
                lines.next()
        if what is HALF:
            sock.sendall(b"250 2.0")
            raise _Over
        if isinstance(what, bytes):
            sock.sendall(what)
            return ""
        sock.sendall(what.encode("latin-1") + b"\r\n")
        return what


class _Lines:
    def __init__(self, sock, transcript):
        self.sock = sock
        self.buffer = b""
        self.transcript = transcript

    def next(self):
        while b"\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def exactly(self, size):
        while len(self.buffer) < size:
            self._more()
        text, self.buffer = self.buffer[:size], self.buffer[size:]
        return text

    def _more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise _Over
        self.transcript.raw += piece
        self.buffer += piece


def stuffed(content):
    content = content.replace(b"\r\n.", b"\r\n..")
    return b"." + content if content.startswith(b".") else content


def unstuffed(wire):
    wire = wire.replace(b"\r\n..", b"\r\n.")
    return wire[1:] if wire.startswith(b"..") else wire
