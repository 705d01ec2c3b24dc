"""The direct profile, smtpd_proxy_filter = direct: the engines run in the server that clients speak to, between session
and queue. What arrives is what was sent, byte for byte, or what the engine made of it; every verdict is the reply to the
end of data; and there is one Received line, with the id of the queue."""

import os
import re

import pytest

from content import compare, messages, split_chain
from fake_server import FakeServer
from net import free_port, wait_until
from server import Sallyport, smtpd
from smtp_client import Client

HEADER_CHECKS = """/^Subject: refuse/ REJECT 5.7.2 not here
/^Subject: discard/ DISCARD away
/^Subject: hold/ HOLD a look
/^Subject: redirect/ REDIRECT other@way.test
/^Subject: bcc/ BCC copy@way.test
/^Subject: filter/ FILTER smtp:[127.0.0.1]:%d
/^Subject: mark/ PREPEND X-Mark: here
/^X-Gone:/ IGNORE
"""
BODY_CHECKS = "/secret/ REPLACE public\n/virus/ REJECT infected\n"
PROGRAM = """#!/bin/sh
cat >/dev/null
echo "PREPEND X-Program: $CLIENT_ADDRESS $QUEUE_ID $RECIPIENT_COUNT" >&3
"""
LINES = {       # listener: its settings besides smtpd_proxy_filter
    "none": [],
    "empty": ["filter_engines = checks"],
    "checks": ["header_checks = regexp:{etc}/header", "body_checks = regexp:{etc}/body"],
    "exec": ["filter_engines = exec", "filter_exec_command = /bin/sh {etc}/program",
             "header_checks = regexp:{etc}/header"],
    "overridden": ["header_checks = regexp:{etc}/header", "body_checks = regexp:{etc}/body",
                   "receive_override_options = no_header_body_checks"],
    "access": ["smtpd_sender_restrictions = check_sender_access texthash:{etc}/senders", "filter_engines = checks"],
    "broken": ["filter_engines = exec", "filter_exec_command = /bin/false"],
}
MESSAGES = messages()


class Direct:
    def __init__(self):
        self.elsewhere = FakeServer().start()
        self.ports = {name: free_port() for name in LINES}
        services = "".join(smtpd(f"127.0.0.1:{self.ports[name]}", "smtpd_proxy_filter=direct",
                                 *("{ %s }" % option for option in options)) for name, options in LINES.items())
        self.server = Sallyport(services, templates={
            "senders": "hold@example.org HOLD odd\ndiscard@example.org DISCARD\n",
            "header": HEADER_CHECKS % self.elsewhere.port, "body": BODY_CHECKS, "program": PROGRAM})

    def submit(self, line, content, **more):
        with Client(self.ports[line], seconds=60) as client:
            return client.submit(content, **more)

    def queue(self):
        return {name for sub in ("incoming", "active", "deferred", "hold")
                for _, _, files in os.walk(os.path.join(self.server.queue, sub)) for name in files}


@pytest.fixture(scope="module")
def direct():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    d = Direct()
    try:
        d.server.start()
        yield d
    finally:
        d.server.close()
        d.elsewhere.stop()


def message(name, subject="x", body=b"hello\r\n", headers=b""):
    return b"Message-ID: <%s@example.org>\r\nSubject: %s\r\n" % (name.encode(), subject.encode()) + headers \
        + b"\r\n" + body


def queue_id(reply):
    """Of a reply that accepts."""
    found = re.fullmatch(r"2\.0\.0 Ok: queued as (\w+)", reply.text)
    assert reply.code == 250 and found, reply
    return found.group(1)


@pytest.mark.parametrize("line", ["none", "empty", "checks"])
@pytest.mark.parametrize("sent", MESSAGES, ids=lambda m: m.name)
def test_content(direct, line, sent):
    """Straight through, and kept for an engine that lets it pass."""
    mark = f"<{sent.name}-{line}@example.org>".encode()
    content = sent.content.replace(f"<{sent.name}@example.org>".encode(), mark)
    arrives = sent.arrives().replace(f"<{sent.name}@example.org>".encode(), mark)
    reply = direct.submit(line, content, bdat=sent.bdat)
    assert reply.code == 250, f"{reply}\n{direct.server.log()[-2000:]}"
    difference = compare(arrives, direct.server.mailbox().wait_for(mark, 30))
    assert difference is None, difference


def test_one_trace_line_with_the_id(direct):
    ident = queue_id(direct.submit("checks", message("trace")))
    arrived = direct.server.mailbox().wait_for(b"<trace@example.org>")
    names, _ = split_chain(arrived)
    assert names.count("received") == 1
    assert re.search(rb"Received: from client\.test \(unknown \[127\.0\.0\.1\]\)\r\n\tby mx\.way\.test \([^)]*\) "
                     rb"with ESMTP id %s\r\n" % ident.encode(), arrived), arrived
    direct.server.wait_log(rf"smtpd\[\d+\]: {ident}: client=unknown\[127\.0\.0\.1\]$")


def test_changed_content(direct):
    sent = message("changed", subject="mark", headers=b"X-Gone: 1\r\n folded\r\n", body=b"a\r\nthe secret\r\n.b\r\n")
    queue_id(direct.submit("checks", sent))
    _, arrived = split_chain(direct.server.mailbox().wait_for(b"<changed@example.org>"))
    assert arrived == b"Message-ID: <changed@example.org>\r\nX-Mark: here\r\nSubject: mark\r\n\r\na\r\npublic\r\n.b\r\n"


def test_tables_run_once_whoever_runs_them(direct):
    """The engine exec is asked before cleanup runs header_checks, which no engine runs here."""
    ident = queue_id(direct.submit("exec", message("once", subject="mark"), rcpts=("a@way.test", "b@way.test")))
    copies = wait_until(lambda: (lambda c: c if len(c) == 2 else None)(
        direct.server.mailbox().find(b"<once@example.org>")), 20, "two copies")
    for copy in copies:
        assert copy.count(b"X-Mark: here\r\n") == 1
        assert copy.count(b"X-Program: 127.0.0.1 %s 2\r\n" % ident.encode()) == 1


def test_override_leaves_the_tables_to_others(direct):
    sent = message("overridden", subject="refuse me", body=b"the secret virus\r\n")
    queue_id(direct.submit("overridden", sent))
    assert compare(sent, direct.server.mailbox().wait_for(b"<overridden@example.org>")) is None


@pytest.mark.parametrize("name, sent, text", [
    ("header", message("refused-1", subject="refuse me"), "5.7.2 not here"),
    ("body", message("refused-2", body=b"a virus\r\n"), "5.7.1 infected"),
])
def test_refused(direct, name, sent, text):
    reply = direct.submit("checks", sent)
    assert (reply.code, reply.text) == (550, text)
    direct.server.wait_log(rf"smtpd\[\d+\]: \w+: reject: {name} .* from unknown\[127\.0\.0\.1\]; "
                           rf"from=<sender@example\.org> to=<user@way\.test> proto=ESMTP helo=<client\.test>: {text}$")


def test_discarded(direct):
    ident = queue_id(direct.submit("checks", message("discarded", subject="discard")))
    direct.server.wait_log(rf"smtpd\[\d+\]: {ident}: discard: header ")
    queue_id(direct.submit("checks", message("after-discarded")))
    direct.server.mailbox().wait_for(b"<after-discarded@example.org>")
    assert direct.server.mailbox().find(b"<discarded@example.org>") == []
    assert ident not in direct.queue()


def test_held(direct):
    ident = queue_id(direct.submit("checks", message("held", subject="hold")))
    assert os.path.exists(os.path.join(direct.server.queue, "hold", ident))
    direct.server.wait_log(rf"smtpd\[\d+\]: {ident}: hold: header ")
    direct.server.run("queue", "release", ident)
    direct.server.mailbox().wait_for(b"<held@example.org>")


def test_redirected(direct):
    queue_id(direct.submit("checks", message("redirected", subject="redirect"), rcpts=("a@way.test", "b@way.test")))
    arrived = direct.server.mailbox().wait_for(b"<redirected@example.org>")
    assert b"\r\nDelivered-To: other@way.test\r\n" in b"\r\n" + arrived


def test_copied(direct):
    queue_id(direct.submit("checks", message("copied", subject="bcc")))
    copies = wait_until(lambda: (lambda c: c if len(c) == 2 else None)(
        direct.server.mailbox().find(b"<copied@example.org>")), 20, "two copies")
    assert sorted(re.search(rb"Delivered-To: (\S+)", c).group(1) for c in copies) == [b"copy@way.test", b"user@way.test"]


def test_sent_elsewhere(direct):
    reply = direct.submit("checks", message("elsewhere", subject="filter"))
    assert reply.code == 250 and "queued as" not in reply.text, reply
    raw = wait_until(lambda: b"".join(t.raw for t in direct.elsewhere.transcripts), 10, "the message elsewhere")
    assert b"MAIL FROM:<sender@example.org>" in raw and b"<elsewhere@example.org>" in raw
    assert direct.server.mailbox().find(b"<elsewhere@example.org>") == []


def test_access_tables_decide_too(direct):
    held = queue_id(direct.submit("access", message("access-1"), sender="hold@example.org"))
    gone = queue_id(direct.submit("access", message("access-2"), sender="discard@example.org"))
    assert os.path.exists(os.path.join(direct.server.queue, "hold", held))
    assert gone not in direct.queue()
    os.unlink(os.path.join(direct.server.queue, "hold", held))


def test_trouble_of_an_engine_is_a_451(direct):
    reply = direct.submit("broken", message("trouble"))
    assert (reply.code, reply.text) == (451, "4.3.0 Error: queue file write error")


def test_client_that_leaves_inside_data_leaves_nothing(direct):
    for line in ("none", "checks"):
        known = direct.server.log().count("lost connection after DATA")
        with Client(direct.ports[line]) as client:
            client.hello()
            client.wants("MAIL FROM:<a@example.org>", 250)
            client.wants("RCPT TO:<user@way.test>", 250)
            client.wants("DATA", 354)
            client.send(b"Message-ID: <left@example.org>\r\n\r\nhalf a mess")
        wait_until(lambda: direct.server.log().count("lost connection after DATA") > known, 10, "the end of it")
        queue_id(direct.submit(line, message(f"after-left-{line}")))
        direct.server.mailbox().wait_for(f"<after-left-{line}@example.org>".encode())
    assert direct.server.mailbox().find(b"<left@example.org>") == []


def test_check_explains_the_word(direct):
    said = direct.server.run("check").stdout
    assert re.search(r"master\.cf:\d+: note: \"127\.0\.0\.1:%d\" runs filter_engines itself" % direct.ports["checks"], said)
    assert re.search(r"master\.cf:\d+: warning: smtpd_proxy_filter = direct, and nothing to look at mail with: "
                     r"\"127\.0\.0\.1:%d\"" % direct.ports["none"], said)
