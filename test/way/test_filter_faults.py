"""A content filter that refuses, stalls, closes, answers rubbish or never reads, at each phase: the client gets one
"451 4.3.0 Error: queue file write error" within the deadline, and nothing else of it; the session goes on, and the next
message passes. Each way of proxying: streaming, and smtpd_proxy_options=speed_adjust; and both with
commands in groups, and one by one."""

import time

import pytest

from content import HEAD
from fake_server import ACCEPT, CLOSE, DEAF, HALF, RESET, STALL, FakeServer
from net import free_port, wait_until
from server import KINDS, smtpd
from smtp_client import Client

TROUBLE = "451 4.3.0 Error: queue file write error"
TIMEOUT = 1             # smtpd_proxy_timeout, seconds
FAULTS = {
    "close": CLOSE, "reset": RESET, "half": HALF, "stall": STALL,
    "garbage": b"\x00\xff what is this\r\n", "no-code": b"hello there\r\n250 2.0.0 Ok\r\n",
    "one-hundred": "100 2.0.0 wait", "endless": b"250-" + b"x" * 100000, "lines": b"250-x\r\n" * 20000,
    "empty-lines": b"\r\n\r\n\r\n", "wrong-success": "354 2.0.0 eh",
}
MODES = {
    "stream": [],
    "speed_adjust": ["smtpd_proxy_options=speed_adjust"],
    "one_by_one": ["smtpd_proxy_pipelining=no"],
    "one_by_one_speed_adjust": ["smtpd_proxy_pipelining=no", "smtpd_proxy_options=speed_adjust"],
}
MODES_OF = {"ours": MODES, "postfix": ["stream", "speed_adjust"]}
PHASES = ["banner", "ehlo", "xforward", "mail", "rcpt", "data", "dot"]
# Postfix tells the client what a filter says even where that is no SMTP reply; ours must not.
ONLY_OURS = {"garbage", "no-code", "one-hundred", "endless", "lines", "empty-lines"}


def cases():
    for phase in PHASES:
        for fault in FAULTS:
            if fault == "wrong-success" and phase in ("data", "dot"):
                continue        # 354 is right for DATA; at the dot Postfix passes it on
            yield phase, fault
    yield "banner", "refused"
    yield "data", "wrong-code"
    yield "content", "close"
    yield "content", "reset"
    yield "content", "deaf"


class Front:
    """One daemon with a listener for each way of proxying, and one filter whose script each test sets."""

    def __init__(self, kind):
        self.fake = FakeServer().start()
        self.dead = free_port()
        self.ports = {}
        services = ""
        for mode in MODES_OF[kind]:
            for target in (self.fake.port, self.dead):
                options = [f"smtpd_proxy_filter=127.0.0.1:{target}", f"smtpd_proxy_timeout={TIMEOUT}s", *MODES[mode]]
                self.ports[mode, target] = free_port()
                services += smtpd(f"127.0.0.1:{self.ports[mode, target]}", *options)
        self.server = KINDS[kind](services, "smtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\n")

    def port(self, mode, fault):
        return self.ports[mode, self.dead if fault == "refused" else self.fake.port]


@pytest.fixture(scope="module", params=["ours", "postfix"])
def front(request):
    reason = KINDS[request.param].missing()
    if reason:
        pytest.skip(reason)
    f = Front(request.param)
    try:
        f.server.start()
        yield f
    finally:
        f.server.close()
        f.fake.stop()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase,fault", list(cases()), ids=lambda v: v)
def test_fault(front, mode, phase, fault):
    if mode not in MODES_OF[front.server.kind]:
        pytest.skip("Postfix always sends one by one")
    if front.server.kind == "postfix" and fault in ONLY_OURS:
        pytest.skip("Postfix passes it on to the client")
    what = {"refused": None, "wrong-code": "250 2.0.0 eh", "deaf": DEAF}.get(fault, FAULTS.get(fault))
    front.fake.script = {**ACCEPT, **({phase: what} if what is not None else {})}
    content = HEAD % b"fault" + b"\r\n" + b"x" * 70 + b"\r\n"
    if fault == "deaf":
        content = HEAD % b"fault" + b"\r\n" + (b"x" * 70 + b"\r\n") * 130000
    with Client(front.port(mode, fault), seconds=3 * TIMEOUT + 10) as client:
        client.hello()
        begin = time.monotonic()
        reply = client.message(content, quit=False)
        took = time.monotonic() - begin
        assert reply.raw.decode() == TROUBLE + "\r\n"
        assert took < 2 * TIMEOUT + 5, f"{took:.1f} s"
        assert client.buffer == b"", "more than one reply"
        client.wants("RSET", 250)
        if fault != "refused":
            front.fake.script = dict(ACCEPT)
            reply = client.message(HEAD % b"next" + b"\r\nnext\r\n", quit=False)
            assert reply.code == 250, reply
        client.wants("QUIT", 221)


@pytest.mark.parametrize("mode", MODES)
def test_client_that_leaves_gives_the_filter_no_dot(front, mode):
    if mode not in MODES_OF[front.server.kind]:
        pytest.skip("Postfix always sends one by one")
    front.fake.script = dict(ACCEPT)
    before = len(front.fake.messages())
    with Client(front.port(mode, "")) as client:
        client.hello()
        client.wants("MAIL FROM:<a@example.org>", 250)
        client.wants("RCPT TO:<user@way.test>", 250)
        client.wants("DATA", 354)
        client.send(b"Subject: half\r\n\r\nhalf a line")
    front.server.wait_log("lost connection after DATA")
    with Client(front.port(mode, "")) as client:
        assert client.submit(HEAD % b"whole" + b"\r\nwhole\r\n").code == 250
    assert len(front.fake.messages()) == before + 1


def test_log_names_what_happened(front):
    """The client sees one text; the log says which filter, and why."""
    front.fake.script = {**ACCEPT, "mail": CLOSE}
    with Client(front.port("stream", "")) as client:
        assert str(client.submit(b"Subject: x\r\n\r\nx\r\n")) == TROUBLE
    front.server.wait_log(rf"warning: lost connection with proxy 127\.0\.0\.1:{front.fake.port}")
    with Client(front.port("stream", "refused")) as client:
        assert str(client.submit(b"Subject: x\r\n\r\nx\r\n")) == TROUBLE
    front.server.wait_log(rf"warning: connect to proxy filter 127\.0\.0\.1:{front.dead}: .*[Cc]onnection refused")
    front.fake.script = {**ACCEPT, "dot": STALL}
    with Client(front.port("stream", "")) as client:
        assert str(client.submit(b"Subject: x\r\n\r\nx\r\n")) == TROUBLE
    front.server.wait_log(rf"warning: timeout talking to proxy 127\.0\.0\.1:{front.fake.port}")


@pytest.mark.parametrize("mode", MODES)
def test_each_recipient_gets_its_answer(front, mode):
    """One refused, one taken; and a refused MAIL is the answer to every recipient. Whole messages have one answer."""
    if mode not in MODES_OF[front.server.kind]:
        pytest.skip("Postfix always sends one by one")
    front.fake.script = {**ACCEPT, "mail": "550 5.7.1 not you"}
    with Client(front.port(mode, "")) as client:
        client.hello()
        client.wants("MAIL FROM:<a@example.org>", 250)
        if "speed_adjust" in mode:
            client.wants("RCPT TO:<user@way.test>", 250)
            client.wants("DATA", 354)
            client.send(b"x: y\r\n\r\n.\r\n")
            assert str(client.reply()) == "550 5.7.1 not you"
        else:
            for _ in range(3):
                assert str(client.wants("RCPT TO:<user@way.test>", 550)) == "550 5.7.1 not you"
        client.wants("QUIT", 221)
    front.fake.script = dict(ACCEPT)
    with Client(front.port(mode, "")) as client:
        client.hello()
        client.wants("MAIL FROM:<a@example.org>", 250)
        for _ in range(100):        # more than one group
            client.wants("RCPT TO:<user@way.test>", 250)
        client.wants("DATA", 354)
        client.send(b"x: y\r\n\r\n.\r\n")
        assert client.reply().code == 250
        client.wants("QUIT", 221)


@pytest.mark.parametrize("mode", MODES)
def test_quit_comes_with_the_dot(front, mode):
    """To a filter that takes groups; to others when they have answered."""
    if mode not in MODES_OF[front.server.kind]:
        pytest.skip("Postfix always sends one by one")
    takes_groups = front.server.kind == "ours" and not mode.startswith("one_by_one")
    for ehlo in (ACCEPT["ehlo"], ACCEPT["ehlo"].replace("250-PIPELINING\r\n", "")):
        front.fake.script = {**ACCEPT, "ehlo": ehlo}
        before = len(front.fake.transcripts)
        with Client(front.port(mode, "")) as client:
            assert client.submit(HEAD % b"quit" + b"\r\nquit\r\n").code == 250
        talk = front.fake.transcripts[before]
        wait_until(lambda: talk.ended, 10, "the end of the connection")
        assert talk.lines[-1] == "QUIT"
        assert talk.ahead == [b"QUIT\r\n" if takes_groups and "PIPELINING" in ehlo else b""]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("verdict", ["250 2.0.0 Ok: taken", "550 5.7.1 no"])
def test_verdict_of_a_filter_that_closes_behind_it(front, mode, verdict):
    """Even one that has not read our QUIT: its host then sends a reset behind the verdict."""
    if mode not in MODES_OF[front.server.kind]:
        pytest.skip("Postfix always sends one by one")
    front.fake.script = {**ACCEPT, "dot": (verdict, CLOSE)}
    with Client(front.port(mode, "")) as client:
        client.hello()
        for _ in range(30):
            assert str(client.message(HEAD % b"close" + b"\r\nclose\r\n", quit=False)) == verdict
            client.wants("RSET", 250)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase", ["xforward", "mail", "rcpt"])
def test_no_command_is_sent_as_content(front, mode, phase):
    """A filter that answers DATA with 354 though it has refused what came before it in the group: no QUIT for it."""
    if mode not in MODES_OF[front.server.kind]:
        pytest.skip("Postfix always sends one by one")
    front.fake.script = {**ACCEPT, phase: "550 5.7.1 no"}
    before = len(front.fake.transcripts)
    with Client(front.port(mode, "")) as client:
        reply = client.submit(HEAD % b"content" + b"\r\ncontent\r\n")
        assert str(reply) == (TROUBLE if phase == "xforward" else "550 5.7.1 no")
    talk = front.fake.transcripts[before]
    wait_until(lambda: talk.ended, 10, "the end of the connection")
    assert talk.contents == [] and talk.unfinished == b""


@pytest.mark.parametrize("mode", MODES)
def test_two_verdicts_are_none(front, mode):
    """One for each recipient, as LMTP has it, or whatever a second reply means: none is the answer to QUIT."""
    if front.server.kind == "postfix":
        pytest.skip("Postfix takes the first one")
    front.fake.script = {**ACCEPT, "dot": b"250 2.1.5 a ok\r\n550 5.7.1 b spam\r\n"}
    with Client(front.port(mode, "")) as client:
        assert str(client.submit(HEAD % b"two" + b"\r\ntwo\r\n")) == TROUBLE


@pytest.mark.parametrize("mode", MODES)
def test_goodbye_is_no_verdict(front, mode):
    """QUIT came with the dot, and a filter that answers it first has not taken the message."""
    if front.server.kind == "postfix":
        pytest.skip("Postfix passes it on to the client")
    front.fake.script = {**ACCEPT, "dot": "221 2.0.0 Bye\r\n451 4.3.0 no"}
    with Client(front.port(mode, "")) as client:
        assert str(client.submit(HEAD % b"bye" + b"\r\nbye\r\n")) == TROUBLE
