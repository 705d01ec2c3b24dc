"""Clients that send a little at a time: whatever they say, and however they cut it, their time is limited."""

import time

import pytest

from net import free_port
from server import Sallyport, smtpd
from smtp_client import Client

IDLE = 1.5      # longer than the second after which a waiting session gives its memory back
CRAWL = 2.1     # for one byte: the server is told no more of each
TIMEOUT = 2     # smtpd_timeout of the hasty listener


@pytest.fixture(scope="module")
def ports():
    """patient: with the defaults; hasty: little time, and a high rate wanted."""
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())
    ports = {"patient": free_port(), "hasty": free_port()}
    server = Sallyport(smtpd(f"127.0.0.1:{ports['patient']}")
                       + smtpd(f"127.0.0.1:{ports['hasty']}", f"smtpd_timeout={TIMEOUT}s", "smtpd_min_data_rate=1000000"),
                       "smtpd_error_sleep_time = 0\n")
    try:
        server.start()
        yield ports
    finally:
        server.close()


def session(port):
    client = Client(port)
    client.hello()
    return client


def transaction(client):
    client.wants("MAIL FROM:<a@example.org>", 250)
    client.wants("RCPT TO:<user@way.test>", 250)


def is_sent_away(client, send, every=0.2, most=10 * TIMEOUT):
    """Whether the server ends the session while the client goes on sending pieces, each of them in time."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < most:
            send()
            time.sleep(every)
    except OSError:
        pass
    took = time.monotonic() - began
    assert client.is_closed(5)
    return b"421 4.4.2 mx.way.test Error: timeout exceeded\r\n" in client.buffer and took < most


def test_a_command_is_read_as_one_whatever_its_pauses(ports):
    with session(ports["patient"]) as client:
        client.send(b"NOOP " + b"x" * 5000)
        time.sleep(IDLE)
        assert client.command(" RSET").lines == ["500 5.5.2 mx.way.test Error: command too long"]
        client.send(b"NO")
        time.sleep(IDLE)
        assert client.command("OP").lines == ["250 2.0.0 Ok"]


def test_the_end_of_what_crawls_is_found(ports):
    """Of the last bytes, which make a command or a message whole, nobody is told: they are looked for."""
    with session(ports["patient"]) as client:
        for byte in (b"N", b"O"):
            client.send(byte)
            time.sleep(CRAWL)
        client.wants("OP", 250)
        transaction(client)
        client.wants("DATA", 354)
        for byte in (b"x", b"y"):
            client.send(byte)
            time.sleep(CRAWL)
        client.wants(b"\r\n.\r\n", 250)


def test_a_command_in_pieces_has_its_time_as_a_whole(ports):
    with session(ports["hasty"]) as client:
        assert is_sent_away(client, lambda: client.send(b"x"))


def test_content_in_pieces_has_its_time_as_a_whole(ports):
    with session(ports["hasty"]) as client:
        transaction(client)
        client.wants("DATA", 354)
        assert is_sent_away(client, lambda: client.send(b"x" * 500 + b"\r\n"))


def test_content_in_chunks_has_its_time_as_a_whole(ports):
    with session(ports["hasty"]) as client:
        transaction(client)
        assert is_sent_away(client, lambda: client.send(b"BDAT 602\r\n" + b"x" * 600 + b"\r\n"))


def test_time_between_chunks_is_counted(ports):
    """A client that waits after a chunk has what is left of the content's time, and no new one."""
    with session(ports["hasty"]) as client:
        transaction(client)
        client.wants(b"BDAT 602\r\n" + b"x" * 600 + b"\r\n", 250)
        time.sleep(TIMEOUT * 0.75)
        client.wants(b"BDAT 602\r\n" + b"x" * 600 + b"\r\n", 250)
        began = time.monotonic()
        assert client.is_closed(TIMEOUT + 5)
        assert time.monotonic() - began < TIMEOUT * 0.75
        assert b"421 4.4.2" in client.buffer


def test_the_beginning_of_a_from_line_is_kept_over_a_pause(ports):
    """It waits for its rest while the session's memory goes back to the system."""
    with session(ports["patient"]) as client:
        transaction(client)
        client.wants(b"BDAT 3\r\nFro", 250)
        time.sleep(IDLE)
        reply = client.wants(b"BDAT 23 LAST\r\nm me\r\nSubject: slow\r\n\r\n", 250)
        assert f"Ok: {3 + 23 + len('X-Mailbox-Line: ')} bytes queued" in reply.text
