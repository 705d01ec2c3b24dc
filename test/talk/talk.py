"""Golden SMTP dialogues: the language of *.talk files, and what runs one against a listener.

A file is named after the behaviour that it shows. Its head, up to the first C: or S: line, has `key: value` lines:

    profile: plain | proxied | after    which listener of the daemon (plain when not given)
    -o NAME=VALUE                       an override of that listener
    client: 127.0.0.2                   the address the client comes from (127.0.0.1, a stranger; 127.0.0.2 is in mynetworks)
    postfix: yes | no, WHY              whether Debian's Postfix 3.7 must pass it too (yes when not given)
    filter: PHASE=ANSWER                script of the content filter behind a proxied listener (see fake_server.py)
    delivered: N                        how many messages reach the mailbox by this dialogue
    log: /REGEX/                        a line that the log must get

The dialogue:

    C: text         the client sends text and CR LF; lines in a row go out in one write
    C~ text         the same without CR LF
    S: text         the server says exactly this line; between slashes stands a regular expression
    S: 250...       a whole reply of this code, whatever its text
    C: <close>      the client closes its connection
    S: <closed>     the server has closed the connection
    C2: S2:         the same on a second connection, opened at its first line; likewise 3 to 9
    C*3: S*3:       three times; %d in the text counts from 1
    D~ text         after it: the one delivered message has this text somewhere
    D: text         after it: the lines of the one delivered message, without what the chain put above it
    F: text         after it: the lines that the content filter got, without EHLO, XFORWARD, QUIT and Received

In C, D and F text: \\r \\n \\t \\0 \\xHH \\\\ and \\*{N,text} for N times text. $HOST is the name of the server. Lines that
begin with # are comments.
"""

import re
from dataclasses import dataclass, field

LINE = re.compile(r"([CS])(\d?)(?:\*(\d+))?([:~])(?: (.*))?$")
HOST = "mx.way.test"


@dataclass
class Talk:
    name: str
    profile: str = "plain"
    overrides: list = field(default_factory=list)
    client: str = "127.0.0.1"
    postfix: str = "yes"
    script: dict = field(default_factory=dict)
    delivered: int = None
    log: list = field(default_factory=list)
    steps: list = field(default_factory=list)       # (line number, "C" or "S", session, text or bytes)
    content: list = field(default_factory=list)
    parts: list = field(default_factory=list)
    seen: list = field(default_factory=list)

    def listener(self):
        """Talks with the same listener can share one."""
        return (self.profile, tuple(self.overrides), tuple(sorted(self.script.items())))


class Malformed(Exception):
    pass


def unescape(text):
    text = re.sub(r"\\\*\{(\d+),([^}]*)\}", lambda m: int(m.group(1)) * m.group(2), text)

    def one(m):
        word = m.group(1)
        if word[0] == "x":
            return chr(int(word[1:], 16))
        return {"r": "\r", "n": "\n", "0": "\0", "t": "\t", "\\": "\\"}[word]
    return re.sub(r"\\(x[0-9a-fA-F]{2}|[rn0t\\])", one, text).encode("latin-1")


def parse(name, text):
    talk = Talk(name)
    for number, line in enumerate(text.split("\n"), 1):
        line = line.replace("$HOST", HOST)
        if not line or line.startswith("#"):
            continue
        m = LINE.match(line)
        if m:
            who, session, times, kind, rest = m.groups()
            for n in range(1, int(times or 1) + 1):
                said = (rest or "").replace("%d", str(n)) if times else rest or ""
                if who == "C" and said != "<close>":
                    said = unescape(said) + (b"" if kind == "~" else b"\r\n")
                talk.steps.append((number, who, int(session or 1), said))
        elif line[:2] in ("D:", "D~", "F:"):
            {"D:": talk.content, "D~": talk.parts, "F:": talk.seen}[line[:2]].append(unescape(line[3:]))
        elif not _head(talk, line):
            raise Malformed(f"{name}:{number}: {line}")
    if not talk.steps:
        raise Malformed(f"{name}: no dialogue")
    return talk


def _head(talk, line):
    if line.startswith("-o "):
        talk.overrides.append(line[3:].strip())
        return True
    key, colon, value = line.partition(":")
    value = value.strip()
    if not colon:
        return False
    if key in ("profile", "client", "postfix"):
        setattr(talk, key, value)
    elif key == "filter":
        phase, _, answer = value.partition("=")
        talk.script[phase] = answer.replace("\\r\\n", "\r\n")
    elif key == "delivered":
        talk.delivered = int(value)
    elif key == "log":
        talk.log.append(value.strip("/"))
    else:
        return False
    return True


def pattern(text):
    """The golden text as a regular expression: what stands between slashes is one, the rest is literal."""
    parts = re.split(r"(?<!\\)/", text)
    if len(parts) % 2 == 0:
        raise Malformed(f"odd number of slashes: {text}")
    return "".join(part.replace("\\/", "/") if i % 2 else re.escape(part.replace("\\/", "/"))
                   for i, part in enumerate(parts))


def run(talk, connect):
    """Speaks the dialogue; connect() gives a new Client. Raises AssertionError at the first line that differs."""
    clients = {}
    heard = []

    def client(session):
        if session not in clients:
            clients[session] = connect()
        return clients[session]

    def fail(number, wanted, got):
        before = "\n".join(heard[-12:])
        raise AssertionError(f"{talk.name}:{number}: wanted {wanted!r}, got {got!r}; before that:\n{before}")

    pending = {}

    def flush():
        for session, data in pending.items():
            try:
                client(session).send(data)
            except (BrokenPipeError, ConnectionResetError):
                pass    # the server would not hear it all; what it says, or that it is gone, the next step sees
        pending.clear()

    try:
        for number, who, session, said in talk.steps:
            if who == "C":
                if said == "<close>":
                    flush()
                    client(session).close()
                else:
                    pending[session] = pending.get(session, b"") + said
                    heard.append(f"C: {said[:100]!r}")
                continue
            flush()
            try:
                if said == "<gone>":
                    if not client(session).is_closed():
                        fail(number, said, "still open")
                elif said == "<closed>":
                    if not client(session).is_closed() or client(session).buffer:
                        fail(number, said, client(session).buffer or "still open")
                elif said.endswith("..."):
                    reply = client(session).reply()
                    heard.append(f"S: {reply}")
                    if str(reply.code) != said[:3]:
                        fail(number, said, str(reply))
                else:
                    line = client(session).line()
                    heard.append(f"S: {line!r}")
                    text = line.decode("latin-1")
                    if not text.endswith("\r\n") or not re.fullmatch(pattern(said), text[:-2]):
                        fail(number, said, text)
            except (AssertionError, OSError) as e:
                if str(e).startswith(talk.name):
                    raise
                fail(number, said, f"{type(e).__name__}: {e}")
        flush()
    finally:
        for c in clients.values():
            c.close()
