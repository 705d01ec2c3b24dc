"""stress, as Postfix has it: the session that takes the last of maxproc places, and those after it, get the settings of
stress=yes, until the service has had room for stress_time. Sessions that began before keep theirs."""

import re
import time

import pytest

from net import free_port, wait_until
from server import Sallyport, smtpd
from smtp_client import Client

SECONDS = 2         # stress_time
ON_LOOPBACK = ("stress_loopback=yes", f"stress_time={SECONDS}s")
VALUES = ("smtpd_hard_error_limit=20", "{ smtpd_timeout = ${stress?{1}:{300}}s }",
          "{ smtpd_recipient_restrictions = ${stress?{check_recipient_access static:{450 4.7.9 busy}}},"
          " permit_mynetworks, reject }")


class Stressed:
    """One server; listeners that come under stress and such that never do."""

    def __init__(self):
        lines = {"front": (ON_LOOPBACK + VALUES, 2), "defaults": (ON_LOOPBACK, 2),
                 "inside": ((f"stress_time={SECONDS}s", *VALUES), 2), "one": (ON_LOOPBACK + VALUES, 1),
                 "decided": (ON_LOOPBACK + VALUES + ("stress=",), 2), "never": (ON_LOOPBACK[:1] + VALUES +
                                                                               ("stress_time=0",), 2)}
        self.ports = {name: free_port() for name in lines}
        self.server = Sallyport("".join(smtpd(f"127.0.0.1:{self.ports[name]}", *options, maxproc=maxproc)
                                        for name, (options, maxproc) in lines.items()),
                                "smtpd_error_sleep_time = 0\n")

    def client(self, name):
        c = Client(self.ports[name])
        c.hello()
        return c

    def logged(self, name, what, times=1):
        """Waits until the log has said this of the listener so often; not more often."""
        def count():
            return len(re.findall(rf'service "127\.0\.0\.1:{self.ports[name]}" is {what}', self.server.log()))
        wait_until(lambda: count() >= times, SECONDS + 10, f"{name} is {what}")
        assert count() == times

    def top(self, name, column=-1):
        """What `top` says of the listener; of its stress."""
        said = self.server.run("top", "-n", "1").stdout
        return re.search(rf"^inet 127\.0\.0\.1:{self.ports[name]} .*$", said, re.M).group().split()[column]


@pytest.fixture(scope="module")
def stressed():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    s = Stressed()
    try:
        s.server.start()
        yield s
    finally:
        s.server.close()


def rcpt(client):
    client.wants("MAIL FROM:<a@example.org>", 250)
    return client.command("RCPT TO:<user@way.test>").code


def test_new_sessions_get_the_values_until_there_is_room(stressed):
    first = stressed.client("front")
    second = stressed.client("front")           # takes the last place
    stressed.logged("front", "under stress: it has all of its 2 sessions")
    assert rcpt(second) == 450 and rcpt(first) == 250
    third = Client(stressed.ports["front"])     # waits for a place
    assert stressed.top("front") == "yes"
    began = time.monotonic()
    second.close()
    third.hello()
    assert rcpt(third) == 450
    assert re.fullmatch(rb"421 4\.4\.2 mx\.way\.test Error: timeout exceeded\r\n", third.line(10))
    first.wants("NOOP", 250)                    # 300 s are still its own
    stressed.logged("front", "no longer under stress")
    assert time.monotonic() - began > SECONDS
    stressed.logged("front", "under stress: ")
    assert stressed.top("front") == "-"
    first.close()
    wait_until(lambda: stressed.top("front", 2) == "0", 10, "the end of all sessions", poll=0.1)
    with stressed.client("front") as fourth:
        assert rcpt(fourth) == 250


def test_defaults_that_depend_on_stress(stressed):
    """smtpd_hard_error_limit is 1 then."""
    first, second = stressed.client("defaults"), stressed.client("defaults")
    first.wants("WHAT", 500)
    first.wants("NOOP", 250)
    second.wants("WHAT", 500)
    assert second.reply().code == 421 and second.is_closed()
    first.close()


@pytest.mark.parametrize("name", ["inside", "one", "decided", "never"])
def test_services_without_stress(stressed, name):
    """Reached by this machine only, with a single place, with `stress` set by the administrator, with no time for it."""
    places = 1 if name == "one" else 2
    clients = [stressed.client(name) for _ in range(places)]
    late = Client(stressed.ports[name])
    assert rcpt(clients[-1]) == 250
    clients[-1].close()
    late.hello()
    assert rcpt(late) == 250
    assert stressed.top(name) == "-"
    for client in clients + [late]:
        client.close()


def test_reload_takes_it_away(stressed):
    first, second = stressed.client("defaults"), stressed.client("defaults")
    wait_until(lambda: stressed.top("defaults") == "yes", 5, "stress")
    port = stressed.ports["defaults"]
    path = f"{stressed.server.config}/master.cf"
    with open(path, encoding="ascii") as f:
        text = f.read()
    line = f"127.0.0.1:{port} inet n - n - 2 smtpd"
    assert line in text
    stressed.server.write("master.cf", text.replace(line, line.replace("- 2 smtpd", "- 50 smtpd\n    -o stress=")))
    stressed.server.run("reload")
    stressed.server.wait_log(r"reload -- version")
    wait_until(lambda: rcpt_of_new(stressed, "defaults"), 10, "a new session without stress")
    first.close()
    second.close()


def rcpt_of_new(stressed, name):
    try:
        with stressed.client(name) as client:
            return client.command("WHAT").code == 500 and client.command("NOOP").code == 250
    except (OSError, AssertionError):   # dismissed while it spoke
        return False
