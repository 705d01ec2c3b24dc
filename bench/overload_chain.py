"""The chain of the overload benchmarks: server under test -> bench/filter.c, with a capacity -> after-filter server ->
queue, on hold."""

import os
import re
import signal
import subprocess
import sys

from chain import AFTER
from haraka import Haraka
from net import Timeout, free_port, is_listening, wait_until
from server import KINDS, smtpd

SLOTS, SCAN_MS = 20, 500

# Ours: parameters of the server before the filter, and of the whole instance. The first two are those of the main.cf that we
# ship: the message first, and as many slots as the filter has. The clients are on 127/8, so they are of class "own"; they
# give up after 30 s, and doc/admission.md wants a class's patience below that of its clients.
OURS = {
    "smtpd_proxy_options": "speed_adjust",
    "smtpd_proxy_concurrency_limit": str(SLOTS),
    "smtpd_proxy_own_patience": "20s",
}
OURS_MAIN = {}
OURS_SESSIONS = 10000

SPEED_ADJUST = {"smtpd_proxy_options": "speed_adjust"}
# Name: kind, parameters of the front, its maxproc.
SUBJECTS = {
    "ours": ("ours", OURS, OURS_SESSIONS),
    "postfix": ("postfix", {}, 100),
    "postfix speed_adjust": ("postfix", SPEED_ADJUST, 100),
    "postfix 20": ("postfix", {}, SLOTS),
    "postfix 1000": ("postfix", {}, 1000),
    "postfix 1000 speed_adjust": ("postfix", SPEED_ADJUST, 1000),
    "haraka": ("haraka", {}, None),
}
HOLD = "{ smtpd_client_restrictions = check_client_access static:HOLD }"


def after_line(port):
    return smtpd(f"127.0.0.1:{port}", *(o for o in AFTER if not o.startswith("smtpd_client_restrictions")), HOLD,
                 maxproc=200)


class Chain:
    """The server under test with its filter, running; nothing of it is left when closed."""

    def __init__(self, subject, filters, filter_tool, folder, slots=SLOTS, scan_ms=SCAN_MS):
        """subject: as in SUBJECTS; filter_tool: the compiled filter; folder: for what the filters write."""
        kind, options, maxproc = subject
        self.kind, self.front = kind, None
        self.port, self.filter_ports, after = free_port(), [free_port() for _ in range(filters)], free_port()
        self.filter_command = [filter_tool, f"after={after}", f"slots={slots}", f"scan={scan_ms}"]
        self.filters = {}
        self.folder = folder
        proxy = ", ".join(f"127.0.0.1:{p}" for p in self.filter_ports)
        services = after_line(after)
        main = "default_process_limit = 400\n"
        if kind == "haraka":
            self.server = KINDS["postfix"](services, main + "maillog_file =\n")
            self.front = Haraka(self.port, self.filter_ports[0])
        else:
            services += smtpd(f"127.0.0.1:{self.port}", f"{{ smtpd_proxy_filter = {proxy} }}",
                              *(f"{{ {k} = {v} }}" for k, v in options.items()), maxproc=maxproc)
            main += "maillog_file =\n" if kind == "postfix" else "".join(f"{k} = {v}\n" for k, v in OURS_MAIN.items())
            self.server = KINDS[kind](services, main)

    @staticmethod
    def missing(kind):
        """Why it cannot run here, or None."""
        return Haraka.missing() or KINDS["postfix"].missing() if kind == "haraka" else KINDS[kind].missing()

    def __enter__(self):
        try:
            for port in self.filter_ports:
                self.start_filter(port)
            self.server.start()
            if self.front:
                self.front.start()
            return self
        except BaseException:
            self.__exit__()
            raise

    def start_filter(self, port):
        with open(os.path.join(self.folder, f"filter.{port}"), "ab") as out:
            self.filters[port] = subprocess.Popen([*self.filter_command, f"port={port}"], stdout=out)
        wait_until(lambda: is_listening(port), 5, "the filter")

    def scans(self):
        """[(monotonic ms, scans, passed, refused, gone)], once a second; of the first filter."""
        with open(os.path.join(self.folder, f"filter.{self.filter_ports[0]}"), encoding="ascii") as f:
            rows = [line.split() for line in f if " scans " in line and line.endswith("\n")]
        return [tuple(float(row[i]) for i in (0, 2, 4, 6, 8)) for row in rows]

    def wait_quiet(self, seconds):
        """Until the filter has passed nothing on for five seconds: what clients left behind has been scanned."""
        def is_quiet():
            rows = self.scans()
            return len(rows) > 6 and rows[-1][1:] == rows[-6][1:]
        try:
            wait_until(is_quiet, seconds, "an idle filter", poll=0.5)
        except Timeout:
            print(f"warning: the filter still works {seconds} s after the last client left", file=sys.stderr)

    def remembered(self):
        """How many verdicts that no client has heard our server keeps; others keep none."""
        if self.kind != "ours":
            return 0
        return int(re.search(r"^sallyport_verdicts (\d+)$", self.server.run("metrics").stdout, re.M).group(1))

    def pids(self):
        return {**self.server.pids(), **(self.front.pids() if self.front else {})}

    def __exit__(self, *_):
        if self.front:
            self.front.close()
        self.server.close()
        for process in self.filters.values():
            process.send_signal(signal.SIGTERM)
            process.wait(10)
