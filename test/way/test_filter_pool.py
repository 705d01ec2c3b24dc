"""Several filters: a message goes to the one with the least work; one that is gone, closes early, is busy (421), hangs
or is killed shows to no client, as long as one of them, or the same one again, answers in time."""

import collections
import re
import threading

import pytest

from content import HEAD
from fake_server import ACCEPT, CLOSE, RESET, STALL, FakeServer
from net import free_port, wait_until
from server import Sallyport, smtpd
from smtp_client import Client

WHOLE = "smtpd_proxy_options=speed_adjust"
RETRY_MS = 1000
REUSE = ["smtpd_proxy_connection_reuse=yes", "smtpd_proxy_connection_idle_time=60s"]
AT_ONCE = [WHOLE, "smtpd_proxy_chunking=yes", *REUSE]
BUSY = "421 4.3.2 busy"
BYE = ("421 4.3.2 bye", CLOSE)
FAULTS = {"close": CLOSE, "reset": RESET, "421": BUSY}
PHASES = ["banner", "ehlo", "xforward", "mail", "rcpt", "data", "content", "dot"]
MAIN = "smtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\nworker_processes = 2\nworker_busy_share = 0\n"


def content(name):
    return HEAD % name.encode() + b"\r\ntext\r\n"


def ports(filters):
    return ",".join(f"127.0.0.1:{f if isinstance(f, int) else f.port}" for f in filters)


class Front:
    """One before-filter server; its filters are the test's."""

    def __init__(self, filters, *options, services=""):
        self.port = free_port()
        self.server = Sallyport(smtpd(f"127.0.0.1:{self.port}", f"smtpd_proxy_filter={ports(filters)}",
                                      "smtpd_proxy_timeout=5s", *options) + services, MAIN)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.close()

    def send(self, name):
        with Client(self.port) as client:
            return client.submit(content(name))


@pytest.fixture(autouse=True)
def needs_a_build():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())


def start(n, **script):
    return [FakeServer(**script).start() for _ in range(n)]


@pytest.fixture(scope="module")
def pair():
    """A front for whole messages, one streamed, one that keeps connections and sends groups; two filters each time."""
    filters = start(2)
    modes = {"whole": [WHOLE], "stream": [],
             "reuse": [WHOLE, "smtpd_proxy_connection_reuse=yes"]}
    ways = {name: free_port() for name in modes}
    services = "".join(smtpd(f"127.0.0.1:{ways[name]}", f"smtpd_proxy_filter={ports(filters)}", "smtpd_proxy_timeout=5s",
                             "smtpd_proxy_slow_start_time=0s", *modes[name]) for name in modes)
    server = Sallyport(services, MAIN)
    server.start()
    yield server, filters, ways
    server.close()
    for f in filters:
        f.stop()


@pytest.mark.parametrize("mode", ["whole", "reuse"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", FAULTS)
def test_whole_message_outlives_a_filter(pair, mode, phase, fault):
    """Every filter fails once, at this phase; the message passes all the same, once."""
    server, filters, ways = pair
    what = FAULTS[fault]
    if phase == "content" and fault == "421":
        pytest.skip("said inside content, and closed: below")
    for f in filters:
        f.counts = {}
        f.script = {**ACCEPT, phase: [what, ACCEPT[phase] or b""]}
    before = sum(len(f.messages()) for f in filters)
    with Client(ways[mode]) as client:
        assert client.submit(content(f"{phase}-{fault}")).code == 250
    for f in filters:
        f.script = dict(ACCEPT)
    taken = sum(len(f.messages()) for f in filters) - before
    failed_after_dot = sum(f.counts.get("dot", 0) for f in filters) if phase == "dot" else 0
    assert taken == (failed_after_dot or 1), "a copy for each filter that got the dot, no more"


def test_closing_is_said_inside_content(pair):
    server, filters, ways = pair
    for f in filters:
        f.counts = {}
        f.script = {**ACCEPT, "content": [b"421 4.3.2 closing\r\n", b""]}
    with Client(ways["whole"]) as client:
        assert client.submit(content("closing")).code == 250
    for f in filters:
        f.script = dict(ACCEPT)


@pytest.mark.parametrize("phase,code", [("banner", 250), ("mail", 421), ("rcpt", 421)])
def test_streamed_message_may_choose_until_mail(pair, phase, code):
    server, filters, ways = pair
    for f in filters[:1] if phase == "banner" else filters:
        f.script = {**ACCEPT, phase: BUSY}
    with Client(ways["stream"]) as client:
        assert client.submit(content(phase), quit=False).code == code
    for f in filters:
        f.script = dict(ACCEPT)


@pytest.mark.parametrize("options", [[WHOLE], []], ids=["whole", "stream"])
def test_one_of_two_is_not_there(options):
    good = start(1)[0]
    with Front([free_port(), good], "smtpd_proxy_ejection_time=60s", *options) as front:
        for i in range(10):
            assert front.send(str(i)).code == 250
        front.server.stop()
        log = front.server.log()
        assert log.count("connect to proxy filter") <= 2, "it is left alone"
        assert "ejected for 60000ms" in log
    assert len(good.messages()) == 10
    good.stop()


def test_filter_that_vanishes_and_comes_back():
    """The only one is away when the message is complete; it is sent when the filter is back."""
    port = free_port()
    with Front([port], WHOLE) as front:
        replies = []
        client = threading.Thread(target=lambda: replies.append(front.send("late")))
        client.start()
        front.server.wait_log("Connection refused")
        late = FakeServer(port).start()
        client.join(10)
        assert [r.code for r in replies] == [250]
        front.server.wait_log(f"proxy 127.0.0.1:{port}: back")
        late.stop()


def test_deadline_of_retries():
    with Front([free_port(), free_port()], WHOLE, "smtpd_proxy_retry_time=1s") as front:
        assert front.send("nobody").code == 451
        front.server.stop()
        assert 2 <= front.server.log().count("connect to proxy filter") <= 60, "tried, and not without end"


def test_message_that_ends_every_filter_is_given_up():
    filters = start(2, dot=RESET)
    with Front(filters, WHOLE, "smtpd_proxy_retry_limit=3") as front:
        assert front.send("poison").code == 451
    assert sum(f.counts.get("dot", len(f.messages())) for f in filters) == 4
    for f in filters:
        f.stop()


def test_no_second_copy_when_it_is_not_wanted():
    filters = start(2, dot=CLOSE)
    with Front(filters, WHOLE, "smtpd_proxy_retry_after_dot=no") as front:
        assert front.send("once").code == 451
    assert sum(len(f.messages()) for f in filters) == 1
    for f in filters:
        f.stop()


def test_filter_that_says_no_has_not_got_lost():
    """421 for the dot is an answer: another filter is asked, though a lost one would not be followed by another."""
    filters = start(2, dot=[BUSY, ACCEPT["dot"]])
    with Front(filters, WHOLE, "smtpd_proxy_retry_after_dot=no") as front:
        assert front.send("busy").code == 250
    for f in filters:
        f.stop()


def words(filters, attribute):
    return [word for f in filters for t in f.transcripts for line in t.commands("XFORWARD") for word in line.split()
            if word.startswith(attribute)]


@pytest.mark.parametrize("answer", [CLOSE, BUSY, BYE], ids=["lost", "421", "421-closed"])
def test_second_copy_has_the_first_one_s_id(answer):
    """The same IDENT; and to a server that announces RETRY, that it is a copy: what stands behind a filter that lost
    it, and answers 421, may have the message."""
    filters = start(2, dot=[answer, ACCEPT["dot"]], ehlo=ACCEPT["ehlo"] + " RETRY")
    with Front(filters, WHOLE) as front:
        assert front.send("copy").code == 250
    assert len(set(words(filters, "IDENT="))) == 1
    assert sorted(words(filters, "RETRY=")) in (["RETRY=1"], ["RETRY=1", "RETRY=2"])
    for f in filters:
        f.stop()


@pytest.mark.parametrize("phase,copies", [("mail", []), ("dot", ["RETRY=1"])])
def test_second_copy_of_what_went_at_once(phase, copies):
    """421 to the chunk may mean a copy; 421 to what stood before it does not."""
    fake = FakeServer(ehlo=ACCEPT["ehlo"] + " RETRY").start()
    with Front([fake], *AT_ONCE) as front, Client(front.port) as client:
        client.hello()
        assert client.message(content("first"), quit=False).code == 250
        fake.counts = {}
        fake.script = {**fake.script, phase: [BYE, ACCEPT[phase]]}
        assert client.message(content("second"), quit=False).code == 250
    assert words([fake], "RETRY=") == copies
    fake.stop()


class Slow(FakeServer):
    """Answers the dot after a number of other messages have been answered elsewhere."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()

    def _act(self, sock, lines, phase):
        if phase == "dot":
            self.gate.wait(60)
        return super()._act(sock, lines, phase)


class Paced(FakeServer):
    """Takes its time, in seconds, before what it does at a phase."""

    def __init__(self, **seconds):
        super().__init__()
        self.seconds = seconds

    def _act(self, sock, lines, phase):
        self.stopped.wait(self.seconds.get(phase, 0))
        return super()._act(sock, lines, phase)


def test_verdict_has_a_time_of_its_own():
    """A filter that greets late has the message just in time, and half as long again for its verdict: it is heard."""
    late = Paced(banner=2, dot=1.7).start()
    with Front([late], WHOLE, "smtpd_proxy_timeout=3s") as front:
        assert front.send("late").code == 250
    assert len(late.messages()) == 1
    late.stop()


@pytest.mark.parametrize("options", [[WHOLE], []], ids=["whole", "stream"])
def test_silent_filter_is_followed_by_another(options):
    """With no other setting: it has a third of the time, and is left alone then."""
    silent, good = FakeServer(banner=STALL).start(), start(1)[0]
    with Front([silent, good], "smtpd_proxy_timeout=3s", "smtpd_proxy_ejection_time=60s", *options) as front:
        for i in range(3):
            assert front.send(str(i)).code == 250
        front.server.stop()
        timeouts = re.findall(r"timeout talking to proxy .* phase=greeting after=(\d+)ms", front.server.log())
        assert len(timeouts) == 1 and 1000 <= int(timeouts[0]) < 2500
        assert "ejected for 60000ms" in front.server.log()
    for f in (silent, good):
        f.stop()


def test_message_without_time_says_nothing_of_a_filter():
    """Half of what its client's patience has left, for a filter that may be silent for longer: another one has the
    message, and the first one has not failed."""
    silent, good = FakeServer(banner=STALL).start(), start(1)[0]
    with Front([silent, good], WHOLE, "smtpd_proxy_timeout=60s", "smtpd_proxy_concurrency_limit=4",
               "smtpd_proxy_own_patience=4s", "smtpd_proxy_stranger_patience=4s") as front:
        assert front.send("short").code == 250
        front.server.stop()
        assert front.server.log().count("timeout talking to proxy") == 1
        assert "ejected" not in front.server.log()
    assert len(silent.transcripts) == 1
    for f in (silent, good):
        f.stop()


def test_work_goes_where_it_is_done():
    """One of three never finishes while the others do: it gets its first few and no more. Both workers count."""
    slow, quick = Slow().start(), start(2)
    with Front([slow, *quick], WHOLE, "smtpd_proxy_timeout=60s") as front:
        threads = [threading.Thread(target=front.send, args=(str(i),)) for i in range(4)]
        for t in threads:
            t.start()
        wait_until(lambda: sum(t.is_alive() for t in threads) == len(slow.messages()) >= 1, 10,
                   "only the slow one has work")
        for i in range(40):
            assert front.send(f"more-{i}").code == 250
        stuck = len(slow.messages())
        slow.gate.set()
        for t in threads:
            t.join(20)
        assert stuck <= 2, f"{stuck} messages at the one that does not answer"
        assert min(len(f.messages()) for f in quick) >= 15, "the others take turns"
    for f in (slow, *quick):
        f.stop()


def test_concurrency_of_an_endpoint():
    """Two at once, whatever the number of workers; the others wait and are served."""
    slow = Slow().start()
    with Front([slow], WHOLE, "smtpd_proxy_timeout=60s", "smtpd_proxy_endpoint_concurrency=2") as front:
        replies = []
        threads = [threading.Thread(target=lambda n=i: replies.append(front.send(str(n)).code)) for i in range(6)]
        for t in threads:
            t.start()
        wait_until(lambda: len(slow.messages()) == 2, 10, "two messages at the filter")
        front.server.wait_log("(?s)(client=.*){6}")
        assert len(slow.transcripts) == 2
        slow.gate.set()
        for t in threads:
            t.join(20)
        assert replies == [250] * 6
    slow.stop()


def test_names_and_unix_sockets(tmp_path):
    """localhost is a name: each of its addresses is an endpoint, and one that nobody serves is passed by."""
    good = start(1)[0]
    for endpoint in (f"localhost:{good.port}", f"unix:{tmp_path}/none,inet:localhost:{good.port}"):
        port = free_port()
        for options in ([WHOLE], []):
            server = Sallyport(smtpd(f"127.0.0.1:{port}", f"smtpd_proxy_filter={endpoint}", *options), MAIN)
            with server, Client(port) as client:
                assert client.submit(content("name")).code == 250
    assert len(good.messages()) == 4
    good.stop()


def test_name_that_is_unknown():
    """One that is too long to ask a name server for: there may be none here that answers."""
    port, name = free_port(), "x" * 64 + ".invalid"
    server = Sallyport(smtpd(f"127.0.0.1:{port}", f"smtpd_proxy_filter={name}:25",
                             "smtpd_proxy_timeout=1s", WHOLE), MAIN)
    with server, Client(port) as client:
        assert client.submit(content("name")).code == 451
        server.wait_log(f"connect to proxy filter: {name}: ")


def test_connections_are_kept():
    filters = start(1)
    with Front(filters, WHOLE, "smtpd_proxy_connection_reuse=yes", "smtpd_proxy_connection_reuse_limit=3",
               "smtpd_proxy_connection_idle_time=60s") as front:
        with Client(front.port) as client:      # one client, so one worker
            client.hello()
            for i in range(7):
                assert client.message(content(str(i)), quit=False).code == 250
        used = collections.Counter(len(t.contents) for t in filters[0].transcripts)
        assert used == {3: 2, 1: 1}
        assert all(t.commands("EHLO") == t.commands("EHLO")[:1] for t in filters[0].transcripts)
    filters[0].stop()


@pytest.mark.parametrize("options", [[], REUSE, ["smtpd_proxy_pipelining=no"]], ids=["groups", "kept", "one-by-one"])
def test_mail_has_its_own_answer(options):
    """A server that opens at MAIL hands on what the filter says of it there, over a connection that died, too."""
    fake = FakeServer(mail=[ACCEPT["mail"], CLOSE, "550 5.7.1 no sender", ACCEPT["mail"]]).start()
    if REUSE != options:
        fake.script["mail"].pop(1)
    with Front([fake], "smtpd_delay_open_until_valid_rcpt=no", *options) as front, Client(front.port) as client:
        client.hello()
        assert client.message(content("taken"), quit=False).code == 250
        assert str(client.command("MAIL FROM:<a@example.org>")) == "550 5.7.1 no sender"
        assert client.message(content("taken"), quit=False).code == 250
    assert len(fake.messages()) == 2
    fake.stop()


def test_refused_message_leaves_a_clean_connection():
    """RSET comes first when the transaction before was not finished."""
    fake = FakeServer(rcpt=["550 5.1.1 no", ACCEPT["rcpt"]]).start()
    with Front([fake], WHOLE, "smtpd_proxy_pipelining=no", "smtpd_proxy_connection_reuse=yes",
               "smtpd_proxy_connection_idle_time=60s") as front:
        with Client(front.port) as client:
            client.hello()
            assert client.message(content("refused"), quit=False).code == 550
            assert client.message(content("taken"), quit=False).code == 250
    verbs = [line.split()[0] for line in fake.transcripts[0].lines]
    assert verbs[:9] == ["EHLO", "XFORWARD", "MAIL", "RCPT", "RSET", "XFORWARD", "MAIL", "RCPT", "DATA"]
    fake.stop()


@pytest.mark.parametrize("mode", [["smtpd_proxy_pipelining=no"], []], ids=["one-by-one", "groups"])
@pytest.mark.parametrize("way", [[WHOLE], []], ids=["whole", "stream"])
@pytest.mark.parametrize("ehlo", ["250-fake.test\r\n250 PIPELINING", ACCEPT["ehlo"]], ids=["plain", "xforward"])
def test_kept_connection_that_died_is_replaced(mode, way, ehlo):
    """Closed by the filter without a word, or with 421: nobody is told, and nothing counts as failed."""
    fake = FakeServer(mail=[ACCEPT["mail"], CLOSE, ACCEPT["mail"], BUSY, ACCEPT["mail"]], ehlo=ehlo).start()
    with Front([fake], *way, *mode, "smtpd_proxy_connection_reuse=yes", "smtpd_proxy_connection_idle_time=60s") as front:
        with Client(front.port) as client:
            client.hello()
            for i in range(3):
                assert client.message(content(str(i)), quit=False).code == 250
        front.server.stop()
        assert "proxy 127" not in front.server.log()
    assert len(fake.transcripts) == 3
    fake.stop()


STUFFED = HEAD % b"dots" + b"\r\n.\r\n..\r\n.x\r\n"


def verbs(transcript):
    return [line.split()[0] for line in transcript.lines]


def test_small_message_goes_at_once():
    """Over a kept connection: everything in one group, and the content as it is."""
    seen = []

    class Watched(FakeServer):
        def _act(self, sock, lines, phase):
            if phase == "xforward":
                seen.append(lines.buffer)
            return super()._act(sock, lines, phase)

    fake = Watched().start()
    with Front([fake], *AT_ONCE) as front, Client(front.port) as client:
        client.hello()
        for text in (content("first"), STUFFED, content("third")):
            assert client.message(text, quit=False).code == 250
    assert verbs(fake.transcripts[0])[:14] == ["EHLO", "XFORWARD", "MAIL", "RCPT", "DATA", "BDAT"] \
        + ["XFORWARD", "MAIL", "RCPT", "BDAT"] * 2
    assert fake.transcripts[0].commands("BDAT")[0] == "BDAT 0 LAST", "asked before anything is risked"
    assert fake.messages()[1].endswith(STUFFED) and seen[1].endswith(STUFFED), "one group, with the content"
    fake.stop()


NOT_AT_ONCE = {     # options, the filter's script, recipients, size
    "off": (["smtpd_proxy_chunking=no"], {}, 1, 10),
    "one-by-one": (["smtpd_proxy_pipelining=no"], {}, 1, 10),
    "one-copy-at-most": (["smtpd_proxy_retry_after_dot=no"], {}, 1, 10),
    "not-announced": ([], {"ehlo": ACCEPT["ehlo"].replace("250-CHUNKING\r\n", "")}, 1, 10),
    "not-known": ([], {"bdat": "502 5.5.2 what?"}, 1, 10),
    "rcpt-has-no-status": ([], {"rcpt": "250 Ok"}, 1, 10),
    "verdict-has-that-of-rcpt": ([], {"dot": "250 2.1.5 Ok"}, 1, 10),
    "two-recipients": ([], {}, 2, 10),
    "large": ([], {}, 1, 70000),
    "in-a-file": (["smtpd_spool_memory_limit=4096"], {}, 1, 5000),
}


@pytest.mark.parametrize("case", NOT_AT_ONCE)
def test_what_does_not_go_at_once(case):
    options, script, rcpts, size = NOT_AT_ONCE[case]
    fake = FakeServer(**script).start()
    text = content("large") + (b"x" * 70 + b"\r\n") * (size // 72)
    with Front([fake], *AT_ONCE, *options) as front, Client(front.port) as client:
        client.hello()
        for _ in range(3):
            assert client.message(text, rcpts=[f"r{n}@way.test" for n in range(rcpts)], quit=False).code == 250
    [talk] = fake.transcripts
    assert talk.commands("BDAT") in ([], ["BDAT 0 LAST"]) and len(talk.commands("DATA")) == 3
    assert all(m.endswith(text) for m in fake.messages())
    fake.stop()


# What the filter answers at a phase: the client's reply, messages at the filter, connections with it.
REFUSED = [
    ("xforward", "501 5.5.4 bad value", 250, 1, 2),     # and takes the message: then it is taken
    ("mail", "550 5.7.1 no sender", 550, 0, 2), ("rcpt", "450 4.1.1 later", 450, 0, 2),
    ("dot", "550 5.7.1 no content", 550, 1, 1), ("dot", "452 4.3.1 full", 452, 1, 1),
    ("xforward", BYE, 250, 1, 2), ("mail", BYE, 250, 1, 2), ("dot", BYE, 250, 2, 2),
    ("mail", b"354 what\r\n", 451, 0, 2), ("dot", b"garbage\r\n", 451, 1, 2), ("dot", b"221 bye\r\n", 451, 1, 2),
    ("dot", "502 5.5.2 what?", 451, 1, 2), ("dot", "250 2.1.5 Ok", 451, 1, 2),
    ("xforward", CLOSE, 250, 1, 2), ("mail", RESET, 250, 1, 2), ("content", CLOSE, 250, 1, 2), ("dot", CLOSE, 250, 2, 2),
    ("dot", b"250 Ok\r\n250 again\r\n", 451, 1, 2),
]


@pytest.mark.parametrize("phase,what,code,taken,connections", REFUSED)
def test_what_is_said_to_a_message_that_went_at_once(phase, what, code, taken, connections):
    """The reply to the chunk is the verdict; what was refused before it was not taken; the next message passes."""
    fake = FakeServer().start()
    with Front([fake], *AT_ONCE, "smtpd_proxy_ejection_time=1s", "smtpd_proxy_retry_limit=1") as front, \
            Client(front.port) as client:
        client.hello()
        assert client.message(content("first"), quit=False).code == 250
        fake.counts = {}
        fake.script = {**ACCEPT, phase: [what, ACCEPT[phase] or b""]}
        assert client.message(content("second"), quit=False).code == code
        assert len(fake.messages()) - 1 == taken
        assert client.message(content("third"), quit=False).code == 250
    assert len(fake.transcripts[0].commands("DATA")) == 1 + (connections == 1)
    assert len(fake.transcripts) == connections
    fake.stop()


def test_kept_connection_that_died_is_no_loss_of_content():
    """Even where none may be lost: nothing was heard of the message, and a fresh connection has it."""
    fake = FakeServer().start()
    with Front([fake], *AT_ONCE, "smtpd_proxy_retry_limit=0") as front, Client(front.port) as client:
        client.hello()
        assert client.message(content("first"), quit=False).code == 250
        fake.counts = {}
        fake.script = {**ACCEPT, "xforward": [CLOSE, ACCEPT["xforward"]]}
        assert client.message(content("second"), quit=False).code == 250
    assert len(fake.messages()) == 2
    fake.stop()


@pytest.mark.parametrize("phase", ["xforward", "mail", "rcpt"])
def test_one_reply_too_many_is_no_verdict(phase):
    """The filter answers a command twice, and refuses the message, but later: what it said to RCPT is not taken for
    that. The connection is not used again."""
    slow = Slow().start()
    slow.gate.set()
    with Front([slow], *AT_ONCE) as front, Client(front.port) as client:
        client.hello()
        assert client.message(content("first"), quit=False).code == 250
        slow.gate.clear()
        slow.counts = {}
        slow.script = {**ACCEPT, phase: [(ACCEPT[phase], ACCEPT[phase]), ACCEPT[phase]], "dot": ["550 5.7.1 no", ACCEPT["dot"]]}
        assert client.message(content("second"), quit=False).code == 451
        slow.gate.set()
        wait_until(lambda: slow.counts.get("dot"), 10, "the refusal")
        assert client.message(content("third"), quit=False).code == 250
    assert len(slow.transcripts) == 2
    slow.stop()


def test_idle_connections_are_left():
    fake = start(1)[0]
    with Front([fake], WHOLE, "smtpd_proxy_connection_reuse=yes", "smtpd_proxy_connection_idle_time=1s") as front:
        assert front.send("one").code == 250
        [talk] = fake.wait_ended(1, 5)
        assert talk.lines[-1] == "QUIT"
    fake.stop()


def test_health_is_asked():
    """Ejected before any message came, and back when it greets again; one question an interval, of all workers."""
    fake = FakeServer(banner=[CLOSE, ACCEPT["banner"]]).start()
    good = start(1)[0]
    with Front([fake, good], WHOLE, "smtpd_proxy_health_interval=1s") as front:
        assert front.send("first").code == 250      # the worker begins to ask with its first message
        front.server.wait_log(f"proxy 127.0.0.1:{fake.port}: ejected for 1000ms|ejected")
        front.server.wait_log(f"proxy 127.0.0.1:{fake.port}: back")
    for f in (fake, good):
        f.stop()


def test_hanging_filter_costs_one_message_its_greeting_time():
    fake, good = FakeServer(banner=STALL).start(), start(1)[0]
    with Front([fake, good], WHOLE, "smtpd_proxy_greeting_timeout=1s", "smtpd_proxy_ejection_time=60s") as front:
        for i in range(6):
            assert front.send(str(i)).code == 250
        front.server.stop()
        assert front.server.log().count("timeout talking to proxy") == 1
    for f in (fake, good):
        f.stop()


def test_all_filters_are_restarted_while_messages_flow():
    """Killed in the middle of what they do, one after the other and both at once: no 4xx, and each message at least once."""
    filters = start(2)
    over = threading.Event()
    replies = collections.Counter()
    names = set()
    with Front(filters, WHOLE) as front:
        def client(number):
            turn = 0
            while not over.is_set():
                name = f"{number}-{turn}"
                code = front.send(name).code
                replies[code] += 1
                names.add(name)
                turn += 1

        threads = [threading.Thread(target=client, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        seen = []
        for which in ([0], [1], [0], [1], [0, 1], [0, 1]):
            done = sum(replies.values())
            for i in which:
                filters[i].kill()
                seen += filters[i].messages()
            front.server.wait_log("proxy .*: ejected for ")     # refused, or lost in the middle
            for i in which:
                filters[i] = FakeServer(filters[i].port).start()
            wait_until(lambda: sum(replies.values()) >= done + 20, 20, "messages to flow again")
        over.set()
        for t in threads:
            t.join(20)
    for f in filters:
        seen += f.messages()
        f.stop()
    assert set(replies) == {250}, replies
    found = b"".join(seen)
    assert all(HEAD % name.encode() in found for name in names)
