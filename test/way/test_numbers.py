"""`sallyport top` and `sallyport metrics`: what they print is whole and true, with nothing there and with names that want
escaping. (test_admission.py reads each of its numbers from metrics too.)"""

import re

import pytest

import prometheus
from net import free_port, wait_until
from server import Sallyport, smtpd
from slow_filter import SlowFilter
from smtp_client import Client

MAIN = "worker_processes = 2\nworker_busy_share = 0\n"
ODD = 'unix:/tmp/no"such\\place'      # a filter that is not there


@pytest.fixture(autouse=True)
def needs_a_build():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())


@pytest.fixture(scope="module")
def front():
    """Two fronts with slots; one filter works, the other one is only a name."""
    filter, ports = SlowFilter().start(), [free_port(), free_port()]
    whole = ["smtpd_proxy_options=speed_adjust", "smtpd_proxy_retry_time=0", "smtpd_proxy_timeout=2s"]
    server = Sallyport(
        smtpd(f"127.0.0.1:{ports[0]}", f"smtpd_proxy_filter=127.0.0.1:{filter.port}", "smtpd_proxy_concurrency_limit=3",
              *whole) +
        smtpd(f"127.0.0.1:{ports[1]}", f"smtpd_proxy_filter={ODD}", "smtpd_proxy_concurrency_limit=2", *whole), MAIN)
    server.start()
    yield server, ports, filter
    server.close()
    filter.stop()


def text(name):
    return b"Message-ID: <%s@example.org>\r\n\r\nx\r\n" % name


def test_nothing_has_happened(front):
    server, _, filter = front
    numbers = prometheus.parse(server.run("metrics").stdout)
    assert prometheus.value(numbers, "sallyport_filter_seconds_count", filter=f"127.0.0.1:{filter.port}") == 0
    top = server.run("top", "-n", "1").stdout
    assert "slots 0 of 3" in top and not re.search(r"nan|inf\b", top, re.I)


def wait_for_messages(server, filter, outcome, n):
    """Numbers of admission are shown a moment after they change."""
    wait_until(lambda: prometheus.value(prometheus.parse(server.run("metrics").stdout), "sallyport_filter_messages_total",
                                        filter=filter, outcome=outcome) == n, 10, f"{n} {outcome} by {filter}")


def test_names_are_escaped(front):
    server, ports, _ = front
    with Client(ports[1]) as client:
        assert client.submit(text(b"lost")).code == 451
    wait_for_messages(server, ODD, "lost", 1)
    assert ODD in server.run("top", "-n", "1").stdout


def test_counts_are_true(front):
    server, ports, filter = front
    filter.seconds = 0.03
    with Client(ports[0]) as client:
        client.hello()
        for i in range(5):
            assert client.message(text(b"%d" % i), quit=False).code == 250
        filter.script["dot"] = "550 5.7.1 no"
        assert client.message(text(b"refused"), quit=False).code == 550
        mine = {"filter": f"127.0.0.1:{filter.port}"}
        wait_for_messages(server, mine["filter"], "rejected", 1)
        numbers = prometheus.parse(server.run("metrics").stdout)
        for name, labels, wanted in (
                ("filter_messages_total", {"outcome": "passed"}, 5), ("filter_messages_total", {"outcome": "rejected"}, 1),
                ("filter_seconds_count", {}, 6), ("admission_granted_total", {"class": "own"}, 6),
                ("admission_wait_seconds_count", {"class": "own"}, 6), ("filter_slots", {"kind": "most"}, 3)):
            assert prometheus.value(numbers, "sallyport_" + name, **mine, **labels) == wanted, name
        assert 0.18 <= prometheus.value(numbers, "sallyport_filter_seconds_sum", **mine) < 2
        for name, least, most in (("answered_total", 6, 6), ("average_stay_seconds", 0.03, 2), ("bytes", 0, 0),
                                  ("ejections_total", 0, 0), ("reused_total", 0, 0)):
            assert least <= prometheus.value(numbers, "sallyport_endpoint_" + name, endpoint=mine["filter"]) <= most, name
        assert prometheus.value(numbers, "sallyport_filter_seconds_bucket", le="0.016", **mine) == 0
        assert prometheus.value(numbers, "sallyport_sessions", service=f"inet 127.0.0.1:{ports[0]}") == 1
        assert re.search(rf"^inet 127.0.0.1:{ports[0]} +1 ", server.run("top", "-n", "1").stdout, re.M)
    service = f"inet 127.0.0.1:{ports[0]}"
    wait_until(lambda: prometheus.value(prometheus.parse(server.run("metrics").stdout), "sallyport_sessions",
                                        service=service) == 0, 10, "the session to be over")


def test_top_again_and_again(front):
    server, ports, _ = front
    assert re.search(rf"^inet 127.0.0.1:{ports[0]} +0 ", server.run("top", "-n", "1").stdout, re.M)   # before any session
    screens = server.run("top", "-n", "3", "-s", "0.1").stdout
    assert screens.count("SERVICE") == 3
    assert server.run("top", "-s", "0", check=False).returncode == 64


@pytest.mark.parametrize("has_run", [False, True])
def test_nobody_runs_here(has_run):
    """Neither before the first start nor after a stop, when the numbers of the last run are still there."""
    server = Sallyport(smtpd(f"127.0.0.1:{free_port()}"), MAIN)
    try:
        if has_run:
            server.start()
            server.stop()
        for command in ("top", "metrics", "status"):
            done = server.run(command, *(["-n", "1"] if command == "top" else []), check=False)
            assert (done.returncode, done.stdout) == (1, "sallyport: the mail system is not running\n")
    finally:
        server.close()


GOOD = "# HELP a_total x\n# TYPE a_total counter\na_total 1\n"
HISTOGRAM = "# HELP h x\n# TYPE h histogram\n"


@pytest.mark.parametrize("bad", [
    "a 1\n", GOOD[:-1], GOOD + GOOD, GOOD.replace(" 1\n", " NaN\n"), GOOD.replace(" 1\n", " +Inf\n"),
    GOOD.replace(" 1\n", " -1\n"), GOOD.replace("a_total", "a"), GOOD.replace("a_total 1", 'a_total{x="a"b"} 1'),
    GOOD.replace("a_total 1", 'a_total{x="\\q"} 1'), GOOD + "a_total 2\n", GOOD + "\n",
    HISTOGRAM + 'h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    HISTOGRAM + 'h_bucket{le="+Inf"} 1\nh_count 1\n', HISTOGRAM + 'h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
    HISTOGRAM + 'h_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n'])
def test_reader_takes_no_excuse(bad):
    with pytest.raises(prometheus.Bad):
        prometheus.parse(bad)


def test_reader_reads():
    values = prometheus.parse(GOOD + HISTOGRAM + 'h_bucket{le="1",f="a\\"b\\\\c"} 1\nh_bucket{le="+Inf",f="a\\"b\\\\c"} 2\n'
                              'h_sum{f="a\\"b\\\\c"} 3\nh_count{f="a\\"b\\\\c"} 2\n')
    assert prometheus.value(values, "a_total") == 1
    assert prometheus.value(values, "h_sum", f='a"b\\c') == 3
