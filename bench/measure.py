"""What the benchmarks share: compiling the C programs, CPU time of a server by control group, memory, what arrived in a
queue, tables, results as JSON."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test", "fake"))

TICKS = os.sysconf("SC_CLK_TCK")

# A benchmark that is told to end goes through its "finally": no server stays behind.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def compile_tool(name, folder):
    path = os.path.join(folder, name)
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-o", path,
                    os.path.join(ROOT, "bench", name + ".c"), "-lm"], check=True)
    return path


def tools(*names):
    """{name: path}, in a folder that goes away with the returned object."""
    folder = tempfile.TemporaryDirectory(prefix="sp-bench-")
    return folder, {name: compile_tool(name, folder.name) for name in names or ("load", "relay")}


class CpuGroup:
    """User + system time of a server and all that it ever started, ended or not: by control group (version 1 or 2)
    where one may be made, else the sum over its present processes and their reaped children."""

    def __init__(self, name, server):
        self.server = server
        self.path = None
        for base, usage in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage"), ("/sys/fs/cgroup", "cpu.stat")):
            path = os.path.join(base, f"sallyport-bench-{os.getpid()}-{name}")
            if not os.path.exists(os.path.join(base, "cgroup.procs")):
                continue
            try:
                os.mkdir(path)
                self.path, self.usage = path, os.path.join(path, usage)
                open(self.usage, encoding="ascii").close()
                break
            except OSError:
                self.path = None
        self.how = "control group " + self.path if self.path else "/proc"
        if self.path:
            server.before_exec = self._join

    def _join(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write("0")

    def seconds(self):
        if self.path is None:
            return sum(map(_process_seconds, self.server.pids()))
        with open(self.usage, encoding="ascii") as f:
            text = f.read().split()
        return int(text[0]) / 1e9 if len(text) == 1 else int(text[text.index("usage_usec") + 1]) / 1e6

    def close(self):
        if self.path:
            try:
                os.rmdir(self.path)
            except OSError:
                pass


def _process_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS


def pss_kib(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except (OSError, StopIteration):
            pass
    return total


class PssPeak:
    """The largest proportional set size of all processes that pids() names, taken every few seconds. Rarely: the kernel
    walks all their pages for it."""

    def __init__(self, pids, every=10):
        self.pids, self.every = pids, every
        self.kib, self.processes = 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over.wait(self.every):
            self.take()

    def take(self):
        pids = self.pids()
        self.kib, self.processes = max(self.kib, pss_kib(pids)), max(self.processes, len(pids))

    def stop(self):
        self.over.set()
        self.thread.join()
        return self


MESSAGE_ID = re.compile(rb"Message-ID: <bench-(\d+)-(\d+)@example\.org>")


def arrivals(server):
    """{(client, message): how often} of what is on hold in the server's queue."""
    counts = {}
    for folder, _, files in os.walk(os.path.join(server.queue, "hold")):
        for name in files:
            with open(os.path.join(folder, name), "rb") as f:
                mark = MESSAGE_ID.search(f.read())
            if not mark:
                raise SystemExit(f"{server.kind}: no Message-ID of ours in {folder}/{name}")
            key = (int(mark.group(1)), int(mark.group(2)))
            counts[key] = counts.get(key, 0) + 1
    return counts


def percentile(values, percent):
    """Of a list of numbers; None of an empty one."""
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def save(path, what, result):
    """Results for bench/report, when a file was asked for."""
    if path:
        with open(path, "w", encoding="ascii") as f:
            json.dump({"bench": what, "result": result}, f, indent=1)


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for n, row in enumerate(rows):
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths)))
        if n == 0:
            print("  ".join("-" * width for width in widths))
