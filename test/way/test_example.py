"""The configuration that we ship as the example of the before-queue filter, from its very lines: ports substituted,
nothing else. And its lines without our filter's, on Debian's Postfix with a relay as the filter: what is written there is
good for both. And the example of the direct profile, from its very files but for folders, port and owner."""

import os
import re

import pytest

from content import compare
from net import free_port
from relay import Relay
from server import COMMON_SERVICES, KINDS, ROOT, Sallyport
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


def test_direct_example_runs():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    port = free_port()
    texts = {}
    for name in ("main.cf", "master.cf"):
        with open(os.path.join(ROOT, "conf", "examples", "direct", name), encoding="ascii") as f:
            texts[name] = f.read()
    services = re.sub(r"^smtp( +inet)", rf"127.0.0.1:{port}\1", texts["master.cf"], flags=re.M)
    server = Sallyport(services, common="")
    ours = dict(re.findall(r"^(\w+) =(.*)", server._main(), re.M))
    for name in ("queue_directory", "data_directory", "maillog_file", "virtual_mailbox_base", "virtual_uid_maps",
                 "virtual_gid_maps"):
        assert f"\n{name} = " in texts["main.cf"]
        texts["main.cf"] = re.sub(rf"^{name} =.*", f"{name} ={ours[name]}", texts["main.cf"], flags=re.M)
    server.write("main.cf", texts["main.cf"] + "".join(
        f"{name} ={ours[name]}\n" for name in ("mail_owner", "smtpd_peername_lookup", "virtual_minimum_uid")))
    try:
        said = server.run("check").stdout
        assert re.findall(r": (\w+): ", said) == ["note"], said
        server.start()
        with Client(port) as client:
            assert client.submit(b"Subject: x\r\n\r\nhello\r\n", rcpts=("user@example.com",)).code == 250, server.log()
        with Client(port) as client:
            reply = client.submit(b"Subject: refuse me\r\n\r\nhello\r\n", rcpts=("user@example.com",))
        assert (reply.code, reply.text) == (550, "5.7.1 the filter was asked to refuse this message")
        server.wait_log(r"to=<user@example\.com>, .*status=sent")
    finally:
        server.close()
