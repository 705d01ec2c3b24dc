"""The configuration that we ship as the example of the before-queue filter, from its very lines: ports substituted,
nothing else. And its lines without our filter's, on Debian's Postfix with a relay as the filter: what is written there is
good for both."""

import os
import re

import pytest

from content import compare
from net import free_port
from relay import Relay
from server import COMMON_SERVICES, KINDS, ROOT
from smtp_client import Client

EXAMPLE = os.path.join(ROOT, "conf", "examples", "before-queue-filter", "master.cf")
SEED = {    # what the page on before-queue filters tells an administrator to write
    "smtp": ["smtpd_proxy_filter=127.0.0.1:10025", "smtpd_client_connection_count_limit=10"],
    "127.0.0.1:10026": [
        "smtpd_authorized_xforward_hosts=127.0.0.0/8", "smtpd_client_restrictions=", "smtpd_helo_restrictions=",
        "smtpd_sender_restrictions=", "smtpd_recipient_restrictions=permit_mynetworks,reject",
        "smtpd_data_restrictions=", "mynetworks=127.0.0.0/8",
        "receive_override_options=no_unknown_recipient_checks"],
}


def entries():
    """{service: (its line, its -o settings)} of the inet services, in order."""
    with open(EXAMPLE, encoding="ascii") as f:
        lines = [line for line in f.read().split("\n") if line and not line.startswith("#")]
    found = {}
    for line in lines:
        if line[0] not in " \t":
            current = line.split()[0]
            if line.split()[1] == "inet":
                found[current] = [line]
        elif current in found:
            found[current].append(line)
    return {name: ("\n".join(text), re.findall(r"-o +(\S+)", "\n".join(text))) for name, text in found.items()}


def test_example_says_what_the_page_says():
    found = entries()
    assert found["smtp"][0].split()[7 - 1] == "20", "maxproc of the before-filter server"
    for name, settings in SEED.items():
        assert found[name][1] == settings


@pytest.mark.parametrize("kind", ["ours", "postfix"])
def test_example_runs(kind):
    reason = KINDS[kind].missing()
    if reason:
        pytest.skip(reason)
    front, middle, after = free_port(), free_port(), free_port()
    lines = [text for name, (text, _) in entries().items() if kind == "ours" or name != "127.0.0.1:10025"]
    services = re.sub(r"^smtp +inet", f"127.0.0.1:{front} inet", "\n".join(lines), flags=re.M)
    services = services.replace("10025", str(middle)).replace("10026", str(after)) + "\n"
    relay = None if kind == "ours" else Relay(after, middle)
    server = KINDS[kind](services, common=COMMON_SERVICES)
    try:
        server.start()
        content = b"Message-ID: <example@example.org>\r\nSubject: example\r\n\r\nhello\r\n"
        with Client(front) as client:
            reply = client.submit(content)
        assert reply.code == 250, f"{reply}\n{server.log()}"
        assert compare(content, server.mailbox().wait_for(b"<example@example.org>")) is None
        with_limit = [Client(front) for _ in range(11)]     # loopback is in mynetworks: not limited
        for client in with_limit:
            client.wants(None, 220)
            client.close()
    finally:
        server.close()
        if relay:
            relay.stop()
