"""Trouble with the machine: a full disk, a queue that cannot be written, no descriptors left; and strangers who send any
bytes to any listener. A clear reply within ten seconds, no crash, and service again when the trouble is over."""

import os
import pwd
import random
import resource
import shutil
import socket
import subprocess
import time

import pytest

from chain import AFTER, filter_line, front_options
from content import HEAD
from net import free_port, wait_until
from server import BINARY, IS_ROOT, Sallyport, smtpd
from smtp_client import Client

pytestmark = pytest.mark.skipif(bool(Sallyport.missing()), reason=str(Sallyport.missing()))
MESSAGE = HEAD % b"fault" + b"\r\n" + (b"x" * 76 + b"\r\n") * 3000
TROUBLE = ("451 4.3.0 Error: queue file write error", "452 4.3.1 Insufficient system storage")


def whole_chain(front, middle, after, *after_more):
    return smtpd(f"127.0.0.1:{front}", *front_options(middle)) + filter_line(middle, after) \
        + smtpd(f"127.0.0.1:{after}", *AFTER, *after_more)


def send(port, content=MESSAGE, seconds=10):
    """The reply to a message, within the time."""
    with Client(port, seconds=seconds) as client:
        return client.submit(content)


def assert_no_crash(server):
    for word in ("panic", "assert", "killed by signal", "Sanitizer"):
        assert word not in server.log(), [line for line in server.log().split("\n") if word in line]


@pytest.fixture
def chain():
    """A whole chain that is not started yet; its after-filter server puts mail on hold."""
    ports = [free_port() for _ in range(3)]
    held = "{ smtpd_client_restrictions = check_client_access static:HOLD }"
    server = Sallyport(whole_chain(*ports, held), "message_size_limit = 1000000\nqueue_minfree = 0\n"
                       "smtpd_error_sleep_time = 0\n")
    server.front, server.middle, server.behind = ports
    yield server
    server.close()


def test_full_disk(chain):
    if not IS_ROOT:
        pytest.skip("a small file system is mounted by root only")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=755", "tmpfs", chain.queue], check=False,
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        os.chown(chain.queue, chain.user.pw_uid, chain.user.pw_gid)
        chain.start()
        replies = []
        while not replies or replies[-1].code == 250:
            replies.append(send(chain.front))
            assert len(replies) < 100, "the disk never fills"
        assert len(replies) > 3
        for _ in range(5):
            assert str(send(chain.front)) in TROUBLE
            assert str(send(chain.behind)) in TROUBLE
        assert_no_crash(chain)
        subprocess.run(["mount", "-o", "remount,size=64m", chain.queue], check=True)
        # free bytes are remembered for a second
        wait_until(lambda: replies.append(send(chain.front)) or replies[-1].code == 250, 5, "room to be noticed")
        held = sum(len(files) for _, _, files in os.walk(os.path.join(chain.queue, "hold")))
        assert held == sum(r.code == 250 for r in replies), "as many in the queue as were acknowledged"
        chain.stop()
    finally:
        chain.stop()
        subprocess.run(["umount", chain.queue], check=False)


def test_unwritable_queue(chain):
    """Its folders lose their write permission, as on a file system that turned read-only; then get it back."""
    chain.start()
    assert send(chain.front).code == 250
    folders = [(folder, os.stat(folder).st_mode) for folder, _, _ in os.walk(chain.queue)
               if os.path.basename(folder) not in ("pid", "public", "private")]
    for folder, _ in folders:
        os.chmod(folder, 0o500)
    try:
        if os.access(os.path.join(chain.queue, "incoming"), os.W_OK) and not IS_ROOT:
            pytest.skip("permissions do not hold this user")
        for _ in range(5):
            assert str(send(chain.front)) in TROUBLE
    finally:
        for folder, mode in folders:
            os.chmod(folder, mode & 0o7777)
    assert send(chain.front).code == 250
    assert_no_crash(chain)


def test_no_descriptors_left(chain):
    """64 descriptors a process, 200 clients: those that get in are served, nobody hangs, and later all is well."""
    chain.before_exec = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    chain.start()
    chain.before_exec = None
    socks = []
    for _ in range(200):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", chain.front))
        socks.append(s)
    wait_until(lambda: sum(_greeted(s) for s in socks) >= 10, 10, "ten greeted clients")
    for s in socks:
        s.close()
    wait_until(lambda: _is_served(chain.front), 20, "service after the clients left", poll=0.2)
    assert_no_crash(chain)


def _greeted(s):
    try:
        return s.recv(4, socket.MSG_PEEK) == b"220 "
    except OSError:
        return False


def _is_served(port):
    try:
        return send(port, HEAD % b"small" + b"\r\nx\r\n").code == 250
    except (OSError, AssertionError):
        return False


def test_ordinary_user():
    """Started by root for the tests' sake, but as nobody from its first instruction on: the whole chain works."""
    if not IS_ROOT:
        pytest.skip("every other test runs as an ordinary user already")
    nobody = pwd.getpwnam("nobody")
    ports = [free_port() for _ in range(3)]
    server = Sallyport(whole_chain(*ports), f"mail_owner = nobody\nvirtual_uid_maps = static:{nobody.pw_uid}\n"
                                            f"virtual_gid_maps = static:{nobody.pw_gid}\n")
    for folder, _, _ in os.walk(server.folder):
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    def become_nobody():
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    server.before_exec = become_nobody
    server.binary = shutil.copy(BINARY, server.folder)      # nobody cannot read every build folder
    with server:
        assert send(ports[0], HEAD % b"nobody" + b"\r\nx\r\n").code == 250
        server.mailbox().wait_for(b"<nobody@example.org>")
        assert {os.stat(f"/proc/{pid}").st_uid for pid in server.pids()} == {nobody.pw_uid}


def test_root_drops_its_rights(chain):
    """Of all processes only master is root."""
    if not IS_ROOT:
        pytest.skip("not root")
    chain.start()
    assert send(chain.front).code == 250
    roots = [pid for pid in chain.pids() if os.stat(f"/proc/{pid}").st_uid == 0]
    assert roots in ([], [chain.master_pid()])


WORDS = [b"EHLO a\r\n", b"HELO\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<", b"RCPT TO:<user@way.test>\r\n", b"DATA\r\n",
         b"\r\n.\r\n", b".\r\n", b"BDAT 10\r\n", b"BDAT 99999999 LAST\r\n", b"BDAT 0 LAST\r\n", b"RSET\r\n", b"\0", b"\n",
         b"XFORWARD NAME=a ADDR=1.2.3.4\r\n", b"XFORWARD " + b"+" * 600 + b"\r\n", b"VRFY a\r\n", b"\xff\xfe", b"QUIT",
         b"A" * 5000, b"From " + b"x" * 3000 + b"\r\n", b"\r", b"\r\r\n", b"SIZE=", b" BODY=8BITMIME\r\n", b"NOOP\r\n" * 50]


def test_random_bytes_on_every_listener(chain):
    """The same workers live on: what a stranger sends ends his session at most."""
    chain.start()
    assert send(chain.front).code == 250
    pids = chain.pids()
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    for turn in range(120):
        port = (chain.front, chain.middle, chain.behind)[turn % 3]
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            try:
                for _ in range(chance.randrange(1, 12)):
                    if chance.random() < 0.3:
                        s.sendall(chance.randbytes(chance.randrange(1, 3000)))
                    else:
                        s.sendall(chance.choice(WORDS))
                if chance.random() < 0.3:
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
            except OSError:
                pass
    for port in (chain.front, chain.middle, chain.behind):
        assert send(port).code == 250, f"seed {seed}"
    assert chain.pids() == pids, f"a worker died (seed {seed}): {chain.log()[-2000:]}"
    assert_no_crash(chain)


def test_start_tells_why_not(chain):
    """A port that is taken, a folder that cannot be made: non-zero, with the reason."""
    with socket.create_server(("127.0.0.1", chain.middle)):
        done = chain.run("start", check=False)
        assert done.returncode != 0
        assert str(chain.middle) in done.stdout + chain.log()
    shutil.rmtree(chain.queue)
    with open(chain.queue, "w", encoding="ascii"):
        pass
    done = chain.run("start", check=False)
    assert done.returncode != 0
    assert chain.queue in done.stdout + chain.log()
