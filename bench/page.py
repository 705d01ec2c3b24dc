"""doc/performance.md in the making: its text, tables, figures, and the bars with yes or no, from the benchmarks' results."""

import datetime
import importlib.machinery
import importlib.util
import os
import platform
import subprocess

from measure import ROOT
import plot

BENCH = os.path.dirname(os.path.abspath(__file__))


def script(name):
    """A benchmark as a module: its text and its table's head and rows are used here."""
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(BENCH, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def markdown(rows):
    rows = [[str(cell) for cell in row] for row in rows]
    return "\n".join(["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0]),
                      *("| " + " | ".join(row) + " |" for row in rows[1:])]) + "\n"


def first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.split("\n")[0]


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown processor")
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) // 1024 // 1024
    return f"{os.cpu_count()} cores ({model}), {memory} GiB, Linux {platform.release()}; " \
        f"Postfix {first_line('postconf', '-dh', 'mail_version') or 'is not installed'}; {datetime.date.today()}"


def commit():
    return first_line("git", "-C", ROOT, "describe", "--always", "--dirty") or "none"


class Page:
    """What has been said so far. runs: {step: what bench/report noted of it}, in order."""

    def __init__(self, doc, runs):
        self.doc, self.runs = doc, runs
        self.parts = []
        self.bars = [("bar", "measured", "met")]
        os.makedirs(os.path.join(doc, "performance"), exist_ok=True)

    def say(self, *texts):
        self.parts += [text.strip("\n") + "\n" for text in texts]

    def section(self, title, bench, step):
        """Its head: what the benchmark says of itself; in the place of its usage the commands of the steps that begin so."""
        texts = bench.__doc__.split("\n\n")
        commands = [run["command"] for name, run in self.runs.items() if name.startswith(step)]
        ran = "\n".join("    " + command for command in commands or ["bench/" + step])
        self.say("## " + title, *(ran if text.startswith("    bench/") else text for text in texts))

    def command(self, step, default):
        return self.runs[step]["command"] if step in self.runs else default

    def figure(self, name, text, title):
        with open(os.path.join(self.doc, "performance", name + ".svg"), "w", encoding="utf-8") as f:
            f.write(text)
        self.say(f"![{title}](performance/{name}.svg)")

    def bar(self, text, measured, is_met):
        self.bars.append((text, measured, "yes" if is_met else "**no**"))

    def write(self, is_quick):
        rows = [("step", "command", "commit", "begun", "minutes", "load of the machine before", "stolen by its host", "disk")]
        rows += [(name, f"`{r['command']}`", r["commit"], r["begun"], f"{r['minutes']:.1f}", r["load"], r.get("stolen", "unknown"), r["disk"])
                 for name, r in self.runs.items()]
        trial = ["**A trial of a few seconds a step: its figures mean nothing.**\n"] if is_quick else []
        with open(os.path.join(self.doc, "performance.md"), "w", encoding="utf-8") as f:
            f.write("\n".join([
                "# Performance\n", *trial,
                f"Written by `script/bench --all` from what the benchmarks measured on this machine: {machine()}. Do not edit "
                "it: run that again.\n",
                "Servers, filter and clients share the machine and talk over loopback; every message is on disk (fsync) before "
                "it is acknowledged. What else the machine had to do is not known; the last table has its load, the time that "
                "its host gave to others, the commit that each step measured, and the disk: a new ext4 file system in a file, "
                "or the machine's own /tmp.\n",
                "## What must hold\n", markdown(self.bars), *self.parts,
                "## What was run\n", markdown(rows)]))


def crowd(page, found):
    bench = script("crowd")
    page.section("A crowd", bench, "crowd")
    page.say(markdown([bench.HEAD] + [bench.row(kind, r) for kind, r in found.items()]))
    r = found["ours"]
    page.bar(f"crowd: {r['sessions']} connections stand, idle or trickling", r["ready"], r["ready"] == r["sessions"])
    page.bar("crowd: honest clients have at least 90 % of their throughput",
             f"{r['same'] * 100:.1f} % ({r['ratio'] * 100:.1f} % of what the crowd's own processes leave)", r["same"] >= 0.9)
    idle = r["idle_kib"] * 1.024
    page.bar("crowd: at most 8 KB an idle session", f"{idle:.2f} KB", idle <= 8)


def rolling(page, found):
    bench = script("rolling")
    page.section("Filters that die", bench, "rolling")
    page.say("Postfix knows one filter (`smtpd_proxy_filter` is one address), ours any number. So ours is measured with two, of "
             "which one is always there, and with one, as Postfix: that one is away for 0.2 s of each second. "
             "A 451 loses nothing: its client comes back with the message.")
    page.say(markdown([bench.HEAD] + [row for name, r in found.items() for row in bench.rows(name, r)]))
    one = found["ours, 2 filters"]["rolling"]
    ratio = one["dot_p99_ms"] / found["ours, 2 filters"]["undisturbed"]["dot_p99_ms"]
    page.bar("rolling kill -9: every try gets its 250, no 4xx", f"{one['not_250']} others",
             one["not_250"] == 0 and one["rate"] > 0)
    page.bar("rolling kill -9: no loss", f"{one['lost']} lost", one["lost"] == 0)
    page.bar("rolling kill -9: p99 under twice the undisturbed", f"{ratio:.2f} times", ratio < 2 and one["rate"] > 0)


def dotkill(page, found):
    bench = script("dotkill")
    page.section("Clients that die around the dot", bench, "dotkill")
    page.say("What arrives twice at Postfix is no fault by the standard: a server may queue a message whose client has gone, "
             "and the client has to send it again (RFC 1047). Ours keeps the verdict and knows the copy.")
    page.say(markdown([bench.HEAD] + [bench.row(kind, r) for kind, r in found.items()]))
    one = found["ours"]
    page.bar(f"killed around the dot, {one['runs']} runs: none lost, none twice, each served in the end",
             f"{one['lost']} lost, {one['twice']} twice, {one['runs'] - one['heard']} not served",
             one["lost"] == one["twice"] == 0 and one["heard"] == one["runs"])


def chain(page, found):
    bench = script("chain")
    rounds = chain_rounds(found)
    page.section("A message through the chain", bench, "chain")
    page.say(markdown(bench.report(rounds)))
    chain_figures(page, bench, rounds)
    ratio = bench.ratios(rounds)
    concurrencies = sorted({c for c, _ in rounds})
    for c in concurrencies:
        cpu, rate = ratio[c, "ours"]
        page.bar(f"pass-through, {c} clients, defaults: at most 0.2 of Postfix's CPU a message, at least 3 times its messages a "
                 "second", f"{cpu:.3f}, {rate:.2f} times", cpu <= 0.2 and rate >= 3)
    most = concurrencies[-1]
    cpu, rate, name = min((*of, name) for (c, name), of in ratio.items() if c == most and name.startswith("ours"))
    page.bar(f"pass-through, {most} clients, our best configuration: at most 0.1 of Postfix's CPU a message, at least 4 times "
             "its messages a second", f"{cpu:.3f}, {rate:.2f} times ({name})", cpu <= 0.1 and rate >= 4)


def chain_rounds(found):
    return {(r["concurrency"], r["server"]): r["rounds"] for r in found}


def chain_figures(page, bench, rounds):
    for i, name, title in ((0, "cpu", "CPU time of the server for one message, ms"), (1, "rate", "Messages a second")):
        groups = {}
        for (c, server), middle in bench.medians(rounds).items():
            of = [r[i] for r in rounds[c, server]]
            groups.setdefault(f"{c} clients at once", []).append((server, middle[i], min(of), max(of)))
        page.figure("chain-" + name, plot.bars(title, groups), title)


def no_filter(page, found):
    page.say("### Without the filter", "What a message costs when the client talks to the after-filter server "
             f"(`{page.command('no-filter', 'bench/chain --no-filter')}`):",
             markdown(script("chain").report(chain_rounds(found))))


def direct(page, found):
    bench = script("chain")
    rounds = chain_rounds(found)
    page.say("### The filter's engines in the server itself", "`smtpd_proxy_filter = direct`, against the same server "
             f"without any filter (`{page.command('direct', 'bench/chain --direct')}`):", markdown(bench.report(rounds)))
    for (c, name), (_, rate) in bench.ratios(rounds).items():
        if "no filter" not in name:
            page.bar(f"{name}, {c} clients: at least 90 % of our messages a second without any filter", f"{rate * 100:.0f} %",
                     rate >= 0.9)
