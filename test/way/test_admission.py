"""Admission: whose message has the filter, who waits, who is refused before its body is sent, what becomes of those for
whom there is no room, and of a verdict that nobody heard. The filter is the test's, and takes its time.

Clients are told apart by address: 127.0.0.1 is of our own networks, all others of 127/8 are strangers."""

import os
import re
import signal
import threading
import time

import pytest

import prometheus
from chain import AFTER
from content import HEAD, compare
from net import free_port, wait_until
from server import Sallyport, smtpd
from slow_filter import SlowFilter
from smtp_client import Client

OWN = "127.0.0.1"
BUSY = "4.3.2 Error: server is busy, try again later"
MAIN = """mynetworks = 127.0.0.1/32
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
worker_processes = 2
worker_busy_share = 0
minimal_backoff_time = 1s
maximal_backoff_time = 1s
"""
SCAN = "scan unix - - n - - smtp\n    -o smtp_send_xforward_command=yes\n"
_next_address = [1]


def stranger():
    """An address that no client had before."""
    _next_address[0] += 1
    return f"127.0.{1 + _next_address[0] // 250}.{1 + _next_address[0] % 250}"


def content(name, size=0):
    return HEAD % name.encode() + b"\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 78 + b"\r\n") * (size // 80)


def mark(name):
    return b"<%s@example.org>" % name.encode()


class Sending:
    """One message, from its own thread."""

    def __init__(self, port, name, source=None):
        self.port, self.name, self.source = port, name, source or stranger()
        self.reply = None
        self.stage = "MAIL"
        self.seconds = None     # from the final dot to the reply
        self.client = Client(port, source=self.source, seconds=60)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self._talk(self.client)
        except (OSError, AssertionError) as e:
            self.stage = e

    def _talk(self, client):
        client.hello()
        self.reply = client.command("MAIL FROM:<sender@example.org>")
        if self.reply.code != 250:
            return
        client.wants("RCPT TO:<user@way.test>", 250)
        client.wants("DATA", 354)
        self.stage = "DATA"
        client.send(content(self.name) + b".\r\n")
        begin = time.monotonic()
        self.reply = client.reply()
        self.seconds = time.monotonic() - begin

    def wait(self, code=None, seconds=30):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"{self.name} from {self.source}: no answer"
        if code is not None:
            assert self.reply is not None and self.reply.code == code, f"{self.name}: {self.reply} {self.stage}"
        return self.reply

    def leave(self):
        self.client.sock.shutdown(2)
        self.client.close()


class Front:
    """A before-filter server with admission, a filter, and the server after it with a mailbox."""

    def __init__(self, *options, slots=1, main="", services="", **script):
        self.port, self.after_port = free_port(), free_port()
        self.filter = SlowFilter(target=self.after_port, **script).start()
        self.name = f"127.0.0.1:{self.filter.port}"
        front = smtpd(f"127.0.0.1:{self.port}", f"smtpd_proxy_filter={self.name}", "smtpd_proxy_options=speed_adjust",
                      f"smtpd_proxy_concurrency_limit={slots}", "syslog_name=front",
                      *(option if option.startswith("{") else "{ " + option + " }" for option in options))
        self.server = Sallyport(front + smtpd(f"127.0.0.1:{self.after_port}", *AFTER) + services, MAIN + main)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.filter.release()
        self.server.close()
        self.filter.stop()

    def begin(self, name, source=None):
        return Sending(self.port, name, source)

    def send(self, name, source=None, code=250):
        return self.begin(name, source).wait(code)

    def numbers(self):
        return prometheus.parse(self.server.run("metrics").stdout)

    def number(self, name, who=None, **labels):
        if who:
            labels["class"] = who
        if "admission" in name or "filter" in name:
            labels.setdefault("filter", self.name)
        return prometheus.value(self.numbers(), "sallyport_" + name, **labels)

    def wait_number(self, wanted, name, who=None, **labels):
        wait_until(lambda: self.number(name, who, **labels) == wanted, 10, f"{name} {who or ''} = {wanted}", poll=0.05)

    def fill(self, waiting=1, source=None):
        """Keeps the filter busy: one message in it, and others that wait. It was quick until now, so they are let in."""
        for i in range(3):
            self.send(f"taught-{i}", OWN)
        self.filter.seen.clear()
        self.filter.hold()
        all = [self.begin("in-filter", source)]
        wait_until(lambda: self.filter.now == 1, 10, "a message in the filter")
        self.wait_number(1, "filter_slots", kind="used")
        for i in range(waiting):
            all.append(self.begin(f"waiting-{i}", source))
            wait_until(lambda: sum(self.waiting().values()) == i + 1, 10, f"{i + 1} messages that wait")
        return all

    def waiting(self):
        numbers = self.numbers()
        return {who: prometheus.value(numbers, "sallyport_admission_waiting", filter=self.name, **{"class": who})
                for who in ("own", "auth", "good", "stranger")}

    def judged(self):
        """Messages of strangers that were told at MAIL what becomes of them."""
        return sum(value for (name, labels), value in self.numbers().items()
                   if name in ("sallyport_admission_admitted_total", "sallyport_admission_turned_total")
                   and {("filter", self.name), ("class", "stranger")} <= set(labels))

    def mailbox(self):
        return self.server.mailbox()


@pytest.fixture(autouse=True)
def needs_a_build():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())


# ---- slots ----

def test_slow_sender_holds_no_slot():
    with Front() as front, Client(front.port, source=stranger()) as slow:
        slow.hello()
        slow.wants("MAIL FROM:<slow@example.org>", 250)
        slow.wants("RCPT TO:<user@way.test>", 250)
        slow.wants("DATA", 354)
        slow.send(content("slow")[:-30])
        front.wait_number(1, "admission_coming", "stranger")
        assert front.number("filter_slots", kind="used") == 0
        for i in range(3):
            front.send(f"quick-{i}")
        slow.send(content("slow")[-30:] + b".\r\n")
        assert slow.reply().code == 250
        assert front.filter.order() == ["quick-0", "quick-1", "quick-2", "slow"]
        assert front.filter.most == 1


def test_no_more_than_slots_at_once():
    with Front(slots=3) as front:
        front.filter.seconds = 0.02
        all = [front.begin(str(i)) for i in range(30)]
        for one in all:
            one.wait(250)
        assert front.filter.most == 3
        front.wait_number(30, "admission_granted_total", "stranger")


def test_classes_have_their_turns():
    """Nine messages of our own networks for each of a stranger; within a class who came first."""
    with Front("smtpd_proxy_own_share=90", "smtpd_proxy_stranger_share=10", "smtpd_proxy_stranger_patience=60s",
               "smtpd_proxy_own_patience=60s", main="smtpd_client_connection_rate_limit = 0\n") as front:
        all = front.fill(0)
        for who, source in (("stranger", None), ("own", OWN)):
            for i in range(3):
                all.append(front.begin(f"{who}-{i}", source))
                wait_until(lambda: front.waiting()[who] == i + 1, 10, f"{who}-{i} to wait")
        front.filter.release()
        for one in all:
            one.wait(250)
        order = front.filter.order()
        assert order[0] == "in-filter"
        assert order.index("own-2") <= 4, order
        for who in ("own", "stranger"):
            assert [name for name in order if name.startswith(who)] == [f"{who}-{i}" for i in range(3)]


def test_dead_worker_holds_no_slot():
    with Front(slots=2, main="smtpd_proxy_retry_limit = 0\n") as front:
        front.filter.hold()
        all = [front.begin(f"lost-{i}") for i in range(2)]
        wait_until(lambda: front.filter.now == 2, 10, "both slots taken")
        waiting = front.begin("waits")
        front.wait_number(1, "admission_waiting", "stranger")
        assert front.number("filter_slots", kind="used") == 2
        for pid in set(re.findall(r"front/smtpd\[(\d+)\]: \w+: client=", front.server.log())):
            os.kill(int(pid), signal.SIGKILL)
        front.wait_number(0, "filter_slots", kind="used")
        front.filter.release()
        for i in range(4):
            front.send(f"after-{i}")
        front.wait_number(0, "admission_waiting", "stranger")
        for one in [*all, waiting]:
            assert one.wait() is None or one.reply.code == 250      # only one that another worker had


def test_records_of_clients_outlive_a_restart():
    with Front("smtpd_proxy_good_client_messages=1", "smtpd_proxy_good_client_age=0") as front:
        client = stranger()
        front.send("first", client)
        front.wait_number(1, "admission_granted_total", "stranger")
        front.server.stop()
        front.server.start()
        front.send("second", client)
        front.wait_number(1, "admission_granted_total", "good")


def test_no_process_has_the_file_in_its_memory():
    """A page on its way to the disk would hold up who changes it."""
    with Front() as front:
        front.send("one")
        path = os.path.join(front.server.folder, "data", "admission")
        assert os.path.getsize(path) > 0
        for pid in front.server.pids():
            with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
                assert path not in f.read()


def test_reload_while_messages_wait():
    with Front() as front:
        all = front.fill(3)
        front.server.run("reload")
        front.server.wait_log("reload")
        new = front.begin("new")
        wait_until(lambda: front.waiting()["stranger"] == 4, 10, "the new one to wait with the others")
        front.filter.release()
        for one in [*all, new]:
            one.wait(250)
        assert front.filter.most == 1, "old workers and new ones share the slots"
        assert len(front.filter.order()) == 5


def slower_beyond(n, seconds):
    return lambda at_once: seconds if at_once <= n else seconds * (at_once / n) ** 2


def test_adaptive_limit_is_found():
    """Beyond four at once the filter gets slower than it gets more done."""
    with Front("smtpd_proxy_concurrency_mode=adaptive", "smtpd_proxy_concurrency_minimum=1", slots=40) as front:
        front.filter.seconds = slower_beyond(4, 0.02)
        front.filter.target = None
        over = threading.Event()
        limits = []

        def client(source):
            while not over.is_set():
                with Client(front.port, source=source) as c:
                    c.hello()
                    while not over.is_set() and c.message(content("adaptive"), quit=False).code in (250, 451):
                        pass

        threads = [threading.Thread(target=client, args=(OWN,), daemon=True) for _ in range(24)]
        for t in threads:
            t.start()

        def settled():
            limits.append(front.number("filter_slots", kind="limit"))
            return len(limits) > 40 and 3 <= min(limits[-10:]) and max(limits[-10:]) <= 6
        try:
            wait_until(settled, 120, "a limit about four", poll=0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {limits}") from None
        finally:
            over.set()
            for t in threads:
                t.join(20)
        assert front.filter.most < 20, "it never went far beyond"


# ---- patience ----

def test_who_cannot_be_answered_in_time_is_refused_at_mail():
    """Before the body; who is let in has its answer in time; and everybody is served in the end."""
    with Front("smtpd_proxy_stranger_patience=4s") as front:
        front.filter.seconds = 0.2
        for i in range(10):
            front.send(f"teach-{i}")
        refused, late = [], []

        def client(i):
            source = stranger()
            while True:
                one = front.begin(f"load-{i}", source)
                reply = one.wait()
                if reply.code == 250:
                    late.append(one.seconds)
                    return
                assert one.stage == "MAIL", f"refused after its body: {reply}"
                assert str(reply) == f"451 {BUSY}"
                refused.append(one.name)
                time.sleep(0.2)     # as a client that comes back

        threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        assert len(late) == 40
        assert max(late) < 4
        assert refused
        assert front.filter.most == 1 and len(front.filter.order()) == 50
        front.wait_number(0, "filter_slots", kind="used")
        assert front.number("admission_late_total", "stranger") == 0


def test_complete_message_without_a_slot_in_time_is_answered():
    """What was predicted does not come: the filter hangs. The client hears 451 within its patience, and is not scanned."""
    with Front("smtpd_proxy_stranger_patience=2s") as front:
        front.fill(0, OWN)
        one = front.begin("late")
        assert str(one.wait(451, 15)) == f"451 {BUSY}" and one.seconds < 10
        front.server.wait_log(r"not filtered: no slot in time after \d+ ms")
        front.filter.release()
        front.wait_number(1, "admission_late_total", "stranger")
        assert front.filter.order() == ["in-filter"]


def test_filter_that_hangs_is_tried_by_who_finds_a_slot():
    """Nobody else sends a body that will not be answered."""
    with Front("smtpd_proxy_own_patience=3s", "smtpd_proxy_stranger_patience=3s") as front:
        lost, = front.fill(0, OWN)
        lost.wait(451)
        front.wait_number(1, "filter_messages_total", outcome="lost")
        probe = front.begin("probe")
        wait_until(lambda: "probe" in front.filter.order(), 10, "the next message in the filter")
        with Client(front.port, source=stranger()) as client:
            client.hello()
            assert str(client.command("MAIL FROM:<sender@example.org>")) == f"451 {BUSY}"
        front.filter.release()
        probe.wait(250)
        front.send("after")


# ---- clients that leave ----

def test_client_that_leaves_while_it_waits_is_not_scanned():
    with Front() as front:
        first, leaves, stays = front.fill(2)
        leaves.leave()
        front.server.wait_log("not filtered: its client left")
        front.wait_number(1, "admission_waiting", "stranger")
        front.filter.release()
        first.wait(250)
        stays.wait(250)
        assert front.filter.order() == ["in-filter", "waiting-1"]
        front.wait_number(1, "admission_left_total", "stranger")


def leaves_in_filter(front, name):
    """A client that left while the filter works, and the filter's verdict after that."""
    front.filter.hold()
    one = front.begin(name)
    wait_until(lambda: name in front.filter.order(), 10, "a message in the filter")
    one.leave()
    front.wait_number(1, "verdicts_running")
    front.filter.release()
    front.wait_number(1, "verdicts")


def test_verdict_that_nobody_heard_is_told_to_the_retry():
    with Front() as front:
        leaves_in_filter(front, "unheard")
        queued = re.search(r"queued as (\w+)", str(front.send("unheard"))).group(1)
        front.server.wait_log("remembered: END-OF-MESSAGE: 250 2.0.0 Ok: queued as " + queued)
        assert front.filter.order() == ["unheard"]
        front.mailbox().wait_for(mark("unheard"))
        front.wait_number(0, "verdicts")
        assert front.number("verdicts_hits_total") == 1
        front.send("unheard")       # its client has heard the first reply: this is another message
        wait_until(lambda: len(front.mailbox().find(mark("unheard"))) == 2, 10, "the second message")


def test_retry_waits_for_the_scan_of_the_one_that_left():
    with Front(slots=2) as front:
        front.filter.hold()
        one = front.begin("running")
        wait_until(lambda: front.filter.now == 1, 10, "a message in the filter")
        one.leave()
        front.wait_number(1, "verdicts_running")
        retry = front.begin("running")
        front.wait_number(1, "verdicts_waits_total")
        front.filter.release()
        retry.wait(250)
        assert front.filter.order() == ["running"]
        front.mailbox().wait_for(mark("running"))


def test_retry_has_one_patience_for_all_its_waiting():
    """The scan that it waits for ends without a verdict, and its own begins with what is left."""
    with Front("smtpd_proxy_stranger_patience=4s", slots=2) as front:
        front.filter.hold()
        one = front.begin("running")
        wait_until(lambda: front.filter.now == 1, 10, "a message in the filter")
        one.leave()
        front.wait_number(1, "verdicts_running")
        retry = front.begin("running")
        front.wait_number(1, "verdicts_waits_total")
        retry.wait(451)
        assert retry.seconds < 6


def test_refusal_that_nobody_heard_is_told_to_the_retry():
    with Front(dot="550 5.7.1 not this one") as front:
        leaves_in_filter(front, "refused")
        assert str(front.send("refused", code=550)) == "550 5.7.1 not this one"
        assert front.filter.order() == ["refused"]


def test_memory_outlives_a_restart():
    with Front() as front:
        leaves_in_filter(front, "kept")
        front.server.stop()
        front.server.start()
        front.send("kept")
        assert front.filter.order() == ["kept"]
        front.mailbox().wait_for(mark("kept"))


def test_without_memory_the_retry_is_scanned_again():
    with Front("smtpd_proxy_verdict_memory=no") as front:
        front.filter.hold()
        one = front.begin("twice")
        wait_until(lambda: front.filter.now == 1, 10, "a message in the filter")
        one.leave()
        front.filter.release()
        front.mailbox().wait_for(mark("twice"))
        front.send("twice")
        assert front.filter.order() == ["twice", "twice"]
        wait_until(lambda: len(front.mailbox().find(mark("twice"))) == 2, 10, "both")


def test_two_messages_that_are_alike_arrive_both():
    with Front() as front:
        with Client(front.port, source=stranger()) as client:
            client.hello()
            for _ in range(2):
                assert client.message(content("alike"), quit=False).code == 250
        front.send("alike")
        wait_until(lambda: len(front.mailbox().find(mark("alike"))) == 3, 10, "three messages")
        assert len(front.filter.order()) == 3


def half_close(client):
    """It says all that it has to say and closes its side, but still reads."""
    client.hello()
    client.wants("MAIL FROM:<sender@example.org>", 250)
    client.wants("RCPT TO:<user@way.test>", 250)
    client.wants("DATA", 354)
    client.send(content("half") + b".\r\n")
    client.sock.shutdown(1)


def test_half_closed_client_is_answered_when_a_slot_is_free():
    with Front() as front, Client(front.port, source=stranger()) as client:
        half_close(client)
        assert client.reply().code == 250
        front.mailbox().wait_for(mark("half"))
        assert front.filter.order() == ["half"]


def test_half_closed_client_has_nothing_to_wait_for():
    with Front() as front, Client(front.port, source=stranger()) as client:
        first, = front.fill(0)
        half_close(client)
        front.server.wait_log("not filtered: its client left")
        front.filter.release()
        first.wait(250)
        assert front.filter.order() == ["in-filter"]
        front.wait_number(1, "admission_left_total", "stranger")
        assert front.number("admission_late_total", "stranger") == 0


# ---- the ladder ----

def climb(front, step):
    """Keeps the filter busy until a message finds no room and goes the way of this step. All that were sent, it last."""
    front.filter.seconds = 0.3      # so that few messages are enough, long before the first of them loses patience
    all = front.fill(0)
    front.filter.seconds = 0
    turned = 0
    while turned == 0:
        assert len(all) < 1000, f"never on {step}: {front.server.log()}"
        before = front.judged()
        one = front.begin(f"climb-{len(all)}")
        wait_until(lambda: one.stage == "DATA" or not one.thread.is_alive(), 10, "a word on MAIL")
        wait_until(lambda: front.judged() > before, 10, "the number of that", poll=0.02)
        all.append(one)
        turned = front.number("admission_turned_total", "stranger", step=step)
    front.server.wait_log(rf"admission: clients of class stranger for filter {front.name}: "
                          rf"step full -> {step} \(pressure \d+%\)")
    return all


def test_cheap_filter():
    cheap = SlowFilter().start()
    with Front("smtpd_proxy_stranger_patience=3s", "smtpd_proxy_stranger_steps=full, cheap 50",
               f"smtpd_proxy_cheap_filter=127.0.0.1:{cheap.port}") as front:
        all = climb(front, "cheap")
        all[-1].wait(250)
        assert cheap.order() == [all[-1].name]
        front.server.wait_log(rf": admission: step cheap: to filter 127\.0\.0\.1:{cheap.port}$")
        front.filter.release()
        for one in all:
            one.wait(250)
        assert sorted(front.filter.order() + cheap.order()) == sorted(one.name for one in all)
        assert f"filter {front.name}: clients of class stranger: step cheap (pressure " in front.server.run("status").stdout
    cheap.stop()


def test_cheap_filter_without_room():
    """Where hold is no step, what it has no room for is refused, and has not gone elsewhere."""
    cheap = SlowFilter(seconds=0.5).start()      # which is known from the first message on
    with Front("smtpd_proxy_stranger_patience=3s", "smtpd_proxy_stranger_steps=full, cheap 50",
               f"smtpd_proxy_cheap_filter=127.0.0.1:{cheap.port}") as front:
        name = f"127.0.0.1:{cheap.port}"
        climb(front, "cheap")[-1].wait(250)
        cheap.hold()
        for i in range(20):
            one = front.begin(f"cheap-{i}")
            wait_until(lambda: one.stage == "DATA" or not one.thread.is_alive(), 10, "a word on MAIL")
            if one.stage != "DATA":
                break
        one.wait(451)
        front.wait_number(1, "admission_turned_total", "stranger", filter=name, step="full")
        assert front.number("admission_turned_total", "stranger", filter=name, step="cheap") == 0
        assert front.server.run("status").stdout.count("of class") == 1
        cheap.release()
    cheap.stop()


def test_every_step_has_its_turn():
    """The cheap filter takes some, the queue what that has no room for; the load of all of them leads on to 451 and 421."""
    cheap, later = SlowFilter(seconds=0.5).start(), SlowFilter().start()
    with Front("smtpd_proxy_stranger_patience=3s",
               "smtpd_proxy_stranger_steps=full, cheap 50, hold 1000, 451 1500, 421 2000",
               f"smtpd_proxy_cheap_filter=127.0.0.1:{cheap.port}",
               f"smtpd_proxy_hold_filter=scan:[127.0.0.1]:{later.port}", services=SCAN) as front:
        all = climb(front, "cheap")
        all[-1].wait(250)
        cheap.hold()
        ends = []
        while not ends or ends[-1].reply is None or ends[-1].reply.code != 421:
            assert len(ends) < 1000, front.server.log()[-3000:]
            one = front.begin(f"more-{len(ends)}")
            wait_until(lambda: one.stage == "DATA" or not one.thread.is_alive(), 10, "a word on MAIL")
            ends.append(one)
            for spent in ends:
                if not spent.thread.is_alive():
                    spent.client.close()
        cheap.release()
        front.filter.release()
        for one in all + ends:
            one.wait()
        codes = [one.reply.code for one in ends]
        assert set(codes) == {250, 451, 421} and codes.index(451) < codes.index(421)
        log = front.server.log()
        assert ": admission: step hold: into the queue" in log
        for step in ("full -> cheap", "cheap -> hold", "hold -> 451", "451 -> 421"):
            assert f"clients of class stranger for filter {front.name}: step {step} (pressure " in log
    cheap.stop()
    later.stop()


def hold_front(filter_port, **script):
    return Front("smtpd_proxy_stranger_patience=3s", "smtpd_proxy_stranger_steps=full, hold 50",
                 f"smtpd_proxy_hold_filter=scan:[127.0.0.1]:{filter_port}", services=SCAN, **script)


def test_hold_filters_from_the_queue():
    """Accepted at once, filtered later, and delivered, with the client that it came from."""
    later = SlowFilter().start()
    later.hold()
    with hold_front(later.port) as front:
        later.target = front.after_port
        all = climb(front, "hold")
        held = all[-1]
        held.wait(250)
        assert held.name not in front.filter.order()
        front.server.wait_log(": admission: step hold: into the queue, and from there to filter scan:")
        wait_until(lambda: held.name in later.order(), 10, "the message at the filter behind the queue")
        assert not front.mailbox().find(mark(held.name)), "never without a word of the filter"
        later.release()
        arrived = front.mailbox().wait_for(mark(held.name))
        assert compare(content(held.name), arrived) is None
        assert any(f"ADDR={held.source}" in line for t in later.transcripts for line in t.commands("XFORWARD"))
        front.server.wait_log(rf"orig_client=\S*\[{re.escape(held.source)}\]")
    later.stop()


def banner(front):
    with Client(front.port, source=OWN) as client:
        return client.reply().text


def test_session_from_before_a_reload_goes_no_way_that_its_worker_does_not_have():
    """The ladder is that of the new configuration, with a hold filter that the old worker knows nothing of."""
    later = SlowFilter().start()
    with Front("smtpd_proxy_stranger_patience=3s", services=SCAN) as front, \
            Client(front.port, source=stranger()) as old:
        old.hello()
        with open(os.path.join(front.server.config, "main.cf"), encoding="ascii") as f:
            main = f.read()
        front.server.write("main.cf", main + "smtpd_banner = new\nsmtpd_proxy_stranger_steps = full, hold 50\n"
                           f"smtpd_proxy_hold_filter = scan:[127.0.0.1]:{later.port}\n")
        front.server.run("reload")
        wait_until(lambda: banner(front) == "new", 10, "the new worker")
        all = climb(front, "hold")
        all[-1].wait(250)
        assert str(old.command("MAIL FROM:<sender@example.org>")) == f"451 {BUSY}"
        front.filter.release()
        for one in all:
            one.wait(250)
    later.stop()


def test_what_the_filter_behind_the_queue_refuses_is_on_hold():
    later = SlowFilter(dot="550 5.7.1 a bad one").start()
    with hold_front(later.port) as front:
        held = climb(front, "hold")[-1]
        held.wait(250)
        queue_id = re.search(r"queued as (\w+)", str(held.reply)).group(1)
        front.server.wait_log(f"{queue_id}: the filter refused what was accepted without it: on hold")
        listed = front.server.run("queue", "list").stdout
        assert re.search(rf"^{queue_id}!", listed, re.M) and "550 5.7.1 a bad one" in listed, listed
        assert "sender non-delivery notification" not in front.server.log()
        assert not front.mailbox().find(mark(held.name))
        # Let go, it goes through the filter again, and only so to the mailbox.
        front.server.run("queue", "release", queue_id)
        wait_until(lambda: later.order().count(held.name) == 2, 10, "the second visit to the filter")
        wait_until(lambda: f"{queue_id}!" in front.server.run("queue", "list").stdout, 10, "on hold again")
        later.target, later.script["dot"] = front.after_port, "250 2.0.0 Ok"
        front.server.run("queue", "release", queue_id)
        front.mailbox().wait_for(mark(held.name))
        wait_until(lambda: "empty" in front.server.run("queue", "list").stdout, 10, "an empty queue")
    later.stop()


@pytest.mark.parametrize("step", ["451", "421"])
def test_step_refuses(step):
    with Front("smtpd_proxy_stranger_patience=3s", f"smtpd_proxy_stranger_steps=full, {step} 50") as front:
        all = climb(front, step)
        with Client(front.port, source=stranger()) as client:
            client.hello()
            assert str(client.command("MAIL FROM:<sender@example.org>")) == f"{step} {BUSY}"
            if step == "451":
                client.wants("RSET", 250)
            else:
                assert client.is_closed(5)
        assert front.number("admission_step", "own") == 0
        front.filter.release()
        for one in all:
            if one.stage == "DATA":
                one.wait(250)


def test_steps_are_entered_at_once_and_left_slowly():
    with Front("smtpd_proxy_stranger_patience=3s", "smtpd_proxy_stranger_steps=full, 451 50") as front:
        began = time.monotonic()
        all = climb(front, "451")
        assert front.server.run("status").stdout.count("of class") == 1
        front.filter.release()
        for one in all:
            if one.stage == "DATA":
                one.wait(250)
        front.send("low")
        is_there = front.number("admission_step", "stranger") == 3 and "step 451 -> full" not in front.server.log()
        assert is_there or time.monotonic() - began > 5, "not yet"
        wait_until(lambda: front.number("admission_step", "stranger") == 0, 10, "the step to be left", poll=0.2)
        assert "of class" not in front.server.run("status").stdout
        front.send("later")
        front.server.wait_log(r"step 451 -> full \(pressure \d+%\)")
        assert front.server.log().count("step full -> 451") == 1
        front.wait_number(2, "admission_step_changes_total", "stranger")
