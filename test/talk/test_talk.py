"""Runs every *.talk of this folder against our daemon, and those that must hold there too against Debian's Postfix:
that is what proves the golden texts. One daemon serves all: each profile with its overrides is a line of master.cf."""

import glob
import os
import re

import pytest

from chain import AFTER
from content import split_chain
from fake_server import FakeServer
from net import free_port, wait_until
from server import KINDS, smtpd
from smtp_client import Client
from talk import parse, run

FOLDER = os.path.dirname(os.path.abspath(__file__))

MAIN = """
mynetworks = 127.0.0.2/32
mydestination = local.test
local_recipient_maps = texthash:{etc}/local
relay_domains = relay.test
relay_recipient_maps = texthash:{etc}/relay
virtual_mailbox_maps = regexp:{etc}/boxes
local_transport = discard:
relay_transport = discard:
default_transport = discard:
smtpd_error_sleep_time = 0
smtpd_forbid_bare_newline = normalize
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = no
smtpd_timeout = 20s
smtpd_proxy_timeout = 5s
"""
TABLES = {
    "local": "known x\n",
    "relay": "known@relay.test x\n",
    "boxes": "/^(user[^@]*)@way\\.test$/ all/\n",
    "access": "reject@example.org REJECT go away\n"
              "plain-reject@example.org REJECT\n"
              "four@example.org 450 4.7.1 later\n"
              "five@example.org 554 5.7.1 never\n"
              "bare-code@example.org 550 no code\n"
              "defer@example.org DEFER not now\n"
              "ok@example.org OK\n"
              "dunno@example.org DUNNO\n"
              "discard@example.org DISCARD thrown away\n"
              "hold@example.org HOLD looks odd\n"
              "example.net REJECT domain example.net\n"
              ".example.net REJECT below example.net\n"
              "bad.helo REJECT bad helo\n"
              "user-refused@way.test REJECT recipient refused\n"
              "user-ok@way.test OK\n"
              "127.0.0.3 REJECT your address\n"
              "127.0.0.4 OK\n",
}


def load():
    talks = []
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.talk"))):
        with open(path, encoding="latin-1") as f:
            talks.append(parse(os.path.basename(path)[:-5], f.read()))
    return talks


TALKS = load()
WANTED = {kind: [t for t in TALKS if kind == "ours" or t.postfix == "yes"] for kind in KINDS}


class Daemon:
    """A server with one listener for each profile and set of overrides that the talks name."""

    def __init__(self, kind):
        self.ports, self.filters, services = {}, {}, ""
        for talk in WANTED[kind]:
            key = talk.listener()
            if key in self.ports:
                continue
            self.ports[key] = free_port()
            options = list(talk.overrides)
            if talk.profile == "proxied":
                self.filters[key] = FakeServer(**talk.script).start()
                options.insert(0, f"smtpd_proxy_filter=127.0.0.1:{self.filters[key].port}")
            elif talk.profile == "after":
                options = [*AFTER, *options]
            services += smtpd(f"127.0.0.1:{self.ports[key]}", *("{ %s }" % o.replace("=", " = ", 1) for o in options))
        self.server = KINDS[kind](services, MAIN, templates=TABLES)

    def delivered(self):
        return self.server.mailbox().all()

    def queue_is_empty(self):
        for sub in ("incoming", "active", "deferred"):
            for _, _, files in os.walk(os.path.join(self.server.queue, sub)):
                if files:
                    return False
        return True


@pytest.fixture(scope="module", params=["ours", "postfix"])
def daemon(request):
    reason = KINDS[request.param].missing()
    if reason:
        pytest.skip(reason)
    d = Daemon(request.param)
    try:
        d.server.start()
        yield d
    finally:
        d.server.close()
        for f in d.filters.values():
            f.stop()


@pytest.mark.parametrize("talk", TALKS, ids=lambda t: t.name)
def test_talk(daemon, talk):
    if talk not in WANTED[daemon.server.kind]:
        pytest.skip(f"not for Postfix 3.7: {talk.postfix}")
    key = talk.listener()
    fake = daemon.filters.get(key)
    known = len(fake.transcripts) if fake else 0
    if talk.delivered is not None:
        wait_until(daemon.queue_is_empty, 10, "the end of what earlier talks queued")
        daemon.server.mailbox().clear()
    log_before = len(daemon.server.log())
    run(talk, lambda: Client(daemon.ports[key], source=talk.client))
    for regex in talk.log:
        wait_until(lambda: re.search(regex, daemon.server.log()[log_before:], re.M), 5,
                   f"/{regex}/ in the log:\n{daemon.server.log()[log_before:]}")
    if talk.delivered is not None:
        check_delivered(daemon, talk)
    if talk.seen:
        check_seen(fake, known, talk)


def check_delivered(daemon, talk):
    wait_until(lambda: len(daemon.delivered()) >= talk.delivered, 10,
               f"{talk.delivered} messages; log:\n{daemon.server.log()[-3000:]}")
    wait_until(daemon.queue_is_empty, 10, "an empty queue")
    copies = daemon.delivered()
    assert len(copies) == talk.delivered, copies
    for part in talk.parts:
        assert part in copies[0], copies[0]
    if talk.content:
        _, rest = split_chain(copies[0])
        assert rest.split(b"\r\n")[:-1] == talk.content
        assert rest.endswith(b"\r\n")


def check_seen(fake, known, talk):
    wait_until(lambda: len(fake.transcripts) > known and all(t.ended for t in fake.transcripts[known:]), 10,
               "the end of the connections to the filter")
    lines = b"".join(t.raw for t in fake.transcripts[known:]).split(b"\r\n")
    kept, in_received = [], False
    for line in lines[:-1]:
        in_received = line.startswith(b"Received:") or (in_received and line[:1] in b" \t" and line != b"")
        if not in_received and line[:5].upper() not in (b"EHLO ", b"XFORW", b"QUIT"):
            kept.append(line)
    assert kept == talk.seen
