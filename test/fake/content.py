"""The messages of the way tests, and the comparison of what arrived with what was sent."""

import re

# Headers that servers put above a message on its way. Only those at the top are taken away: what follows them must be
# the message, byte for byte.
CHAIN = ("received", "return-path", "delivered-to", "x-original-to")

HEAD = b"From: sender@example.org\r\nTo: user@way.test\r\nSubject: way\r\nMessage-ID: <%s@example.org>\r\n" \
       b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"


class Message:
    def __init__(self, name, content, bdat=False):
        self.name = name
        self.content = content
        self.bdat = bdat

    def arrives(self):
        """What a mailbox must hold: lines ended, also the last."""
        return self.content if self.content.endswith(b"\r\n") else self.content + b"\r\n"


def messages():
    """Every one has its own Message-ID, NAME@example.org, so that it is found again."""
    def make(name, headers, body, bdat=False):
        return Message(name, HEAD % name.encode() + headers + b"\r\n" + body, bdat)

    mime8 = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    every_byte = bytes(c for c in range(1, 256) if c not in b"\r\n")
    line = b"0123456789abcdefghijklmnopqrstuvwxyz" * 2 + b"\r\n"
    return [
        make("tiny", b"", b"x\r\n"),
        make("empty-body", b"", b""),
        Message("no-body", HEAD % b"no-body" + b"X-Last: header\r\n\r\n"),
        make("eight-bit", mime8, "Grüße, 日本語, ελληνικά\r\n".encode() + every_byte + b"\r\n"),
        make("dots", b"", b".\r\n..\r\n...\r\n.x\r\n..x\r\nx.\r\n\r\n.\r\n"),
        make("only-dots", b"", b".\r\n" * 500 + b"..\r\n" * 500),
        make("starts-with-dot", b"", b".first\r\n"),
        make("blank-lines", b"", b"\r\n" * 300),
        make("from-lines", b"", b"From me\r\n>From you\r\nFrom \r\n"),
        make("long-998", b"", b"a" * 998 + b"\r\n" + b"b" * 998 + b"\r\n"),
        make("long-1000", b"", b"a" * 999 + b"\r\n" + b"b" * 1000 + b"\r\n" + b"c" * 1001 + b"\r\n"),
        make("long-2048", b"", b"".join(b"%c" % (97 + n - 2046) * n + b"\r\n" for n in range(2046, 2051))),
        make("long-100k", b"", b"z" * 100000 + b"\r\nend\r\n"),
        make("dot-after-long", b"", b"y" * 2048 + b".\r\n" + b"y" * 4096 + b".\r\n.\r\n"),
        make("many-headers", b"".join(b"X-Header-%d: value %d\r\n" % (n, n) for n in range(1500)), b"body\r\n"),
        make("folded-headers", b"X-Folded: a\r\n" + b"\tb b b b b\r\n" * 300, b"body\r\n"),
        make("multipart", b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n",
             b"preamble\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: application/octet-stream\r\n"
             b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\nepilogue\r\n"),
        make("no-final-newline", b"", b"last line has no end", bdat=True),
        make("bdat-dots", b"", b".\r\n..\r\n.\r\nend\r\n", bdat=True),
        make("one-megabyte", b"", line * (1048576 // len(line))),
        make("nine-megabytes", b"", (b"." + line) * (9 * 1048576 // (len(line) + 1))),
    ]


def split_chain(content, also=()):
    """(names of the chain's headers at the top, the rest)."""
    names = []
    pattern = re.compile(rb"([!-9;-~]+)[ \t]*:.*?\r\n(?![ \t])", re.S)
    at = 0
    while (m := pattern.match(content, at)) and m.group(1).decode().lower() in CHAIN + tuple(also):
        names.append(m.group(1).decode().lower())
        at = m.end()
    return names, content[at:]


def without_headers(content, names):
    """Takes away the headers of these names (lower case) wherever they stand; for filters that mark what they saw."""
    head, gap, body = content.partition(b"\r\n\r\n")
    kept = [h for h in re.split(rb"\r\n(?![ \t])", head) if h.split(b":")[0].decode("latin-1").lower() not in names]
    return b"\r\n".join(kept) + gap + body


def compare(sent, arrived, also=()):
    """None when `arrived` is the chain's headers followed by `sent`; else where and how they differ."""
    _, rest = split_chain(arrived, also)
    if rest == sent:
        return None
    n = min(len(sent), len(rest))
    at = next((i for i in range(n) if sent[i] != rest[i]), n)
    return (f"first difference at byte {at} (sent {len(sent)} bytes, arrived {len(rest)}): "
            f"sent ...{sent[max(0, at - 30):at + 30]!r}, arrived ...{rest[max(0, at - 30):at + 30]!r}")
