"""The chain: client -> front -> filter -> after -> queue -> mailbox, each box chosen by name.

front, after    "postfix" or "ours"; as front also "ours at once": envelope and content in one group (BDAT)
filter          "ours", "relay" (a TCP relay) or "spampd" (SpamAssassin's proxy, Debian's)
"""

import grp
import os
import pwd
import shutil
import subprocess
import tempfile

from net import free_port, is_listening, wait_until
from relay import Relay
from server import IS_ROOT, KINDS, Sallyport, smtpd

AFTER = (
    "smtpd_authorized_xforward_hosts=127.0.0.0/8",
    "smtpd_client_restrictions=",
    "smtpd_helo_restrictions=",
    "smtpd_sender_restrictions=",
    "smtpd_relay_restrictions=",
    "smtpd_recipient_restrictions=permit_mynetworks,reject",
    "smtpd_data_restrictions=",
    "mynetworks=127.0.0.0/8",
    "receive_override_options=no_unknown_recipient_checks",
)


FRONTS = {name: (kind, ()) for name, kind in KINDS.items()}
FRONTS["ours at once"] = (Sallyport, ("smtpd_proxy_options=speed_adjust", "smtpd_proxy_connection_reuse=yes",
                                      "smtpd_proxy_chunking=yes"))


def front_options(filter_port):
    return (f"smtpd_proxy_filter=127.0.0.1:{filter_port}", "smtpd_client_connection_count_limit=0")


def filter_line(port, target, *overrides):
    return smtpd(f"127.0.0.1:{port}", f"filter_nexthop=127.0.0.1:{target}", *overrides, command="filter")


# spampd logs to syslog only, which a test machine need not have, and Perl's taint mode forbids it a home of our choice:
# so it is started without -T, and its log goes to standard error.
RUN_SPAMPD = "require Net::Server::Log::Sys::Syslog; no warnings; *Net::Server::Log::Sys::Syslog::initialize = " \
    'sub { sub { print STDERR "$_[1]\\n" } }; do shift or die $@'


class Spampd:
    """SpamAssassin behind an SMTP proxy: local tests only, no network, no Bayes, its folders in /tmp. It marks what it
    scanned with X-Spam-* headers."""

    adds = ("x-spam-checker-version", "x-spam-level", "x-spam-status", "x-spam-flag", "x-spam-report")

    @staticmethod
    def missing():
        return None if os.path.exists("/usr/sbin/spampd") else "spampd is not installed"

    def __init__(self, target):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="sp-spampd-", dir="/tmp")
        os.chmod(self.folder, 0o777)
        with open(os.path.join(self.folder, "local.cf"), "w", encoding="ascii") as f:
            f.write("use_bayes 0\nuse_auto_welcomelist 0\nskip_rbl_checks 1\ndns_available no\nrequired_score 900\n")
        user, group = ("nobody", "nogroup") if IS_ROOT else \
            (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
        self.command = ["/usr/bin/perl", "-e", RUN_SPAMPD, "/usr/sbin/spampd", "--nodetach", f"--host=127.0.0.1:{self.port}",
                        f"--relayhost=127.0.0.1:{target}", "--local-only", "--children=2", "--maxrequests=1000",
                        f"--homedir={self.folder}", f"--pid={self.folder}/pid", f"--user={user}", f"--group={group}",
                        f"--saconfig={self.folder}/local.cf"]
        self.process = None

    def start(self):
        with open(os.path.join(self.folder, "out"), "wb") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(lambda: is_listening(self.port) or self.process.poll() is not None, 60, "spampd", poll=0.1)
        assert self.process.poll() is None, open(os.path.join(self.folder, "out"), encoding="latin-1").read()
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


class Chain:
    def __init__(self, front, filter, after, front_more=(), filter_more=(), after_more=(), main=""):
        self.names = (front, filter, after)
        self.port, filter_port, after_port = free_port(), None, free_port()
        self.after = KINDS[after](smtpd(f"127.0.0.1:{after_port}", *AFTER, *after_more), main)
        if filter == "ours":
            filter_port = free_port()
            self.filter = Sallyport(filter_line(filter_port, after_port, *filter_more), main)
        else:
            self.filter = {"relay": Relay, "spampd": Spampd}[filter](after_port)
            filter_port = self.filter.port
        kind, options = FRONTS[front]
        self.front = kind(smtpd(f"127.0.0.1:{self.port}", *front_options(filter_port), *options, *front_more), main)
        self.ports = (self.port, filter_port, after_port)
        self.boxes = [self.after, self.filter, self.front]
        self.marks = getattr(self.filter, "adds", ())

    @staticmethod
    def missing(front, filter, after):
        """Why this chain cannot run here, or None."""
        boxes = {FRONTS[front][0], KINDS[after], {"ours": Sallyport, "spampd": Spampd}.get(filter)}
        reasons = [box.missing() for box in boxes if box]
        return next((r for r in reasons if r), None)

    def start(self):
        for box in self.boxes:
            box.start()
        return self

    def stop(self):
        for box in reversed(self.boxes):
            getattr(box, "close", box.stop)()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def mailbox(self):
        return self.after.mailbox()

    def logs(self):
        return "".join(f"--- {box.kind}\n{box.log()}" for box in self.boxes if hasattr(box, "log"))
