"""A raw SMTP client: sends the exact bytes it is told to, reads replies with a deadline, checks nothing by itself."""

import re
import socket

from net import Deadline, Timeout


class Closed(AssertionError):
    """The server closed the connection where the test wanted a reply."""


class Reply:
    def __init__(self, raw):
        self.raw = raw
        self.lines = raw.decode("latin-1").split("\r\n")[:-1]
        last = self.lines[-1]
        self.code = int(last[:3]) if re.match(r"\d{3}", last) else 0
        self.text = "\n".join(line[4:] for line in self.lines)

    def __repr__(self):
        return " / ".join(self.lines)


class Client:
    def __init__(self, port, host="127.0.0.1", source=None, seconds=20):
        self.seconds = seconds
        self.buffer = b""
        self.sock = socket.socket()
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(seconds)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        """All of it, as it is."""
        self.sock.settimeout(self.seconds)
        self.sock.sendall(data)

    def line(self, seconds=None):
        """One line with its end. b"" at the end of the connection (what is left unended comes first)."""
        deadline = Deadline(seconds or self.seconds)
        while b"\n" not in self.buffer:
            self.sock.settimeout(max(0.001, deadline.left()))
            try:
                piece = self.sock.recv(65536)
            except socket.timeout:
                raise Timeout(f"no reply within {deadline.seconds} s; so far: {self.buffer!r}") from None
            except ConnectionResetError:
                piece = b""
            if not piece:
                rest, self.buffer = self.buffer, b""
                return rest
            self.buffer += piece
        end = self.buffer.index(b"\n") + 1
        line, self.buffer = self.buffer[:end], self.buffer[end:]
        return line

    def reply(self, seconds=None):
        raw = b""
        while True:
            line = self.line(seconds)
            if not line.endswith(b"\r\n"):
                raise Closed(f"closed inside a reply: {raw + line!r}")
            raw += line
            if line[3:4] != b"-":
                return Reply(raw)

    def command(self, line, seconds=None):
        self.send(line if isinstance(line, bytes) else line.encode() + b"\r\n")
        return self.reply(seconds)

    def wants(self, line, code, seconds=None):
        """A command (None: the greeting) whose reply must have this code."""
        reply = self.reply(seconds) if line is None else self.command(line, seconds)
        assert reply.code == code, f"{line!r}: wanted {code}, got {reply}"
        return reply

    def is_closed(self, seconds=None):
        """Waits for the end of the connection; what the server says before it is kept in .buffer."""
        deadline = Deadline(seconds or self.seconds)
        while True:
            self.sock.settimeout(max(0.001, deadline.left()))
            try:
                piece = self.sock.recv(65536)
            except socket.timeout:
                return False
            except ConnectionResetError:
                return True
            if not piece:
                return True
            self.buffer += piece

    def hello(self, name="client.test"):
        self.wants(None, 220)
        return self.wants(f"EHLO {name}", 250)

    def submit(self, content, sender="sender@example.org", rcpts=("user@way.test",), bdat=False, quit=True,
               seconds=None):
        """A whole message on an open session; the reply to its end. content: CR LF lines, dots not stuffed."""
        self.hello()
        return self.message(content, sender, rcpts, bdat, quit, seconds)

    def message(self, content, sender="sender@example.org", rcpts=("user@way.test",), bdat=False, quit=True,
                seconds=None):
        """As submit(), after the greeting and EHLO. The first reply that is not the wanted one is the result."""
        body = " BODY=8BITMIME" if any(c > 127 for c in content) else ""
        reply = self.command(f"MAIL FROM:<{sender}>{body}", seconds)
        for rcpt in rcpts:
            if reply.code != 250:
                return reply
            reply = self.command(f"RCPT TO:<{rcpt}>", seconds)
        if reply.code != 250:
            return reply
        if bdat:
            self.send(b"BDAT %d LAST\r\n" % len(content) + content)
        else:
            reply = self.command("DATA", seconds)
            if reply.code != 354:
                return reply
            self.send(stuffed(content) + b".\r\n")
        reply = self.reply(seconds)
        if quit:
            self.command("QUIT")
        return reply

    def close(self):
        self.sock.close()


def stuffed(content):
    """Wire form of content whose lines all end in CR LF, RFC 5321 4.5.2."""
    assert not content or content.endswith(b"\r\n"), "DATA cannot carry a last line without its end"
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..")
