"""The whole way: client -> front -> filter -> after -> queue -> mailbox, with every mix of our boxes and others', and
what arrives compared byte by byte with what was sent."""

import pytest

from chain import Chain
from content import compare, messages, split_chain, without_headers
from net import wait_until
from smtp_client import Client

CHAINS = [
    ("postfix", "relay", "postfix"),    # proves the messages and the comparison: no box is ours
    ("postfix", "spampd", "postfix"),
    ("ours", "ours", "ours"),
    ("postfix", "ours", "ours"),
    ("ours", "spampd", "ours"),
    ("ours", "ours", "postfix"),
    ("ours", "relay", "postfix"),
    ("ours at once", "relay", "postfix"),
    ("ours at once", "ours", "ours"),
    ("postfix", "ours", "postfix"),
]
MESSAGES = messages()


@pytest.fixture(scope="module", params=CHAINS, ids="-".join)
def chain(request):
    reason = Chain.missing(*request.param)
    if reason:
        pytest.skip(reason)
    with Chain(*request.param) as running:
        yield running


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_content(chain, message):
    with Client(chain.port, seconds=60) as client:
        reply = client.submit(message.content, bdat=message.bdat)
    assert reply.code == 250, f"{reply}\n{chain.logs()}"
    arrived = chain.mailbox().wait_for(f"<{message.name}@example.org>".encode(), 30)
    arrived = without_headers(arrived, chain.marks) if chain.marks else arrived
    difference = compare(message.arrives(), arrived)
    assert difference is None, difference


def test_envelope_and_trace(chain):
    """Two recipients get a copy each, with the sender's address; Received says who the client was, once per server that
    is not a relay; and the after-filter's log names the client, not its neighbour."""
    mark = b"<trace@example.org>"
    content = b"Message-ID: " + mark + b"\r\nSubject: trace\r\n\r\ntrace\r\n"
    with Client(chain.port, source="127.0.0.77") as client:
        client.wants(None, 220)
        client.wants("EHLO stranger.test", 250)
        reply = client.message(content, sender="a+b=c@example.org", rcpts=("one@way.test", "two@way.test"))
    assert reply.code == 250, f"{reply}\n{chain.logs()}"
    copies = wait_until(lambda: (lambda c: c if len(c) == 2 else None)(chain.mailbox().find(mark)), 20, "two copies")
    for copy in copies:
        names, _ = split_chain(without_headers(copy, chain.marks))
        top = copy.partition(b"\r\n\r\n")[0]
        assert b"Return-Path: <a+b=c@example.org>" in top
        assert b"from stranger.test (unknown [127.0.0.77])" in top
        assert names.count("received") >= 2
    assert {c[c.index(b"Delivered-To:"):].split(b"\r\n")[0] for c in copies} == \
        {b"Delivered-To: one@way.test", b"Delivered-To: two@way.test"}
    if chain.names[1] != "spampd":
        chain.after.wait_log(r": client=\S+ .*orig_client=unknown\[127\.0\.0\.77\]")


def test_one_session_many_messages(chain):
    with Client(chain.port) as client:
        client.hello()
        for n in range(5):
            content = b"Message-ID: <many-%d@example.org>\r\n\r\n%d\r\n" % (n, n)
            assert client.message(content, quit=False).code == 250, chain.logs()
        client.wants("QUIT", 221)
    for n in range(5):
        chain.mailbox().wait_for(b"<many-%d@example.org>" % n)
    if chain.names[0] == "ours at once":
        next_server = chain.after if chain.names[1] == "relay" else chain.filter
        next_server.wait_log(r"disconnect from .* bdat=([2-9]|\d/[2-9])")


def test_no_recipient_no_message(chain):
    with Client(chain.port) as client:
        client.hello()
        client.wants("MAIL FROM:<a@example.org>", 250)
        client.wants("RCPT TO:<>", 501)
        client.wants("DATA", 554)


def test_client_that_leaves_inside_data_leaves_nothing(chain):
    """No end of data, no message: neither the filter nor the after-filter server may take it for one."""
    mark = b"<left@example.org>"
    with Client(chain.port) as client:
        client.hello()
        client.wants("MAIL FROM:<a@example.org>", 250)
        client.wants("RCPT TO:<user@way.test>", 250)
        client.wants("DATA", 354)
        client.send(b"Message-ID: " + mark + b"\r\n\r\nhalf a mess")
    chain.front.wait_log(r"lost connection after DATA")
    with Client(chain.port) as client:      # what was sent before has had its time when this one has arrived
        assert client.submit(b"Message-ID: <after-left@example.org>\r\n\r\nx\r\n").code == 250
    chain.mailbox().wait_for(b"<after-left@example.org>")
    assert chain.mailbox().find(mark) == []
