"""The overload section of doc/performance.md: subjects, tables, figures, a reading of the rivals, bars."""

from overload_chain import SCAN_MS, SLOTS, SUBJECTS
from page import markdown, script
import plot

KINDS = {"ours": "ours", "postfix": "Debian's Postfix", "haraka": "Haraka, on Node.js"}

# File name, title, unit, value of a result, more for the plot.
FIGURES = (
    ("useful", "Useful throughput", "% of the filter's capacity", lambda r: r["useful"] * 100, {"mark": (95, "95 %")}),
    ("greeting", "From connect to the greeting, 99 %", "ms", lambda r: r["greeting_p99_ms"],
     {"log_y": True, "mark": (100, "100 ms")}),
    ("dot", "From the final dot to the reply, 99 %", "ms", lambda r: r["dot_p99_ms"],
     {"log_y": True, "mark": (30000, "patience")}),
    ("ungreeted", "Clients left without a greeting for 30 s", "% of all",
     lambda r: 100 * r["ungreeted_clients"] / r["clients"], {}),
    ("wasted", "Scans without an acknowledged message", "% of all scans",
     lambda r: 100 * r["wasted"] / max(1, r["scans"]), {}),
    ("memory", "Memory of all processes", "MiB (PSS)", lambda r: r["pss_mib"], {"log_y": True, "mark": (286, "300 MB")}),
)

# What, of a result, how much better counts, whether more is better, how it is said.
COMPARED = (
    ("useful throughput", lambda r: r["useful"] * 100, 1.02, True, "{:.1f} %"),
    ("greeting, 99 %", lambda r: r["greeting_p99_ms"], 1.2, False, "{:.1f} ms"),
    ("reply to the dot, 99 % of those that got one", lambda r: r["dot_p99_ms"], 1.2, False, "{:.0f} ms"),
    ("memory", lambda r: r["pss_mib"], 1.1, False, "{:.0f} MiB"),
)


def overload(page, found):
    bench = script("overload")
    found = {name: found[name] for name in SUBJECTS if name in found}
    page.section("Overload", bench, "overload")
    page.say("The servers under test; all that is not named has its default. Ours has two settings of the main.cf that we ship, "
             "and a patience below the clients' 30 s, as doc/admission.md advises. The others run for a shorter "
             "time: long enough for clients to give up once, too short to say who is starved in the long run.",
             markdown([("server", "what it is", "sessions at once", "set")] + [subject(name) for name in found]))
    rows = [bench.HEAD] + sorted((bench.row(name, r) for name, rows in found.items() for r in rows),
                                 key=lambda row: float(row[0][:-1]))
    page.say("What clients saw:", markdown(row[:bench.CLIENTS_SAW] for row in rows),
             "What became of the mail, and what it took:", markdown(row[:2] + row[bench.CLIENTS_SAW:] for row in rows))
    page.say("How tries ended that got no positive reply (where the client was, and the reply's code, or that it gave up, or "
             "lost the connection):",
             markdown([("load", "server", "tries")] + [
                 (f"{r['load']:g}x", name, ", ".join(f"{n} {how}" for how, n in r["ends"].items()) or "none")
                 for name, rows in found.items() for r in rows]))
    for name, title, unit, of, more in FIGURES:
        series = {server: [(r["load"], of(r)) for r in rows if of(r) is not None] for server, rows in found.items()}
        text = plot.lines(title, "offered load, times the filter's capacity", unit,
                          {server: points for server, points in series.items() if points}, **more)
        page.figure("overload-" + name, text, title)
    if len(found) > 1:
        page.say("### Reading the others", *reading(found))
    overload_bars(page, found["ours"])


def subject(name):
    kind, options, maxproc = SUBJECTS[name]
    return (name, KINDS[kind], maxproc or "no limit", ", ".join(f"`{k}={v}`" for k, v in options.items()) or "-")


def reading(found):
    """Plain sentences about the rivals: what went well, what did not, and where one does better than ours."""
    yield (f"The filter takes {SLOTS} messages at once, {SCAN_MS} ms each. What it passes is useful when the client hears of it. "
           "Neither Postfix nor Haraka claims to decide who is to have the filter. With few sessions clients wait before the "
           "greeting, with many after the dot; either is right by the standard (RFC 5321), whose clients wait for 5 minutes "
           "there and for 10 here. Clients that wait for 30 s give up on queues that those would have sat out.")
    yield "\n".join(f"- {sentence(name, rows[-1])}" for name, rows in found.items() if name != "ours")
    better = [f"- {line}" for name, rows in found.items() if name != "ours" for line in better_than_ours(name, rows, found)]
    if better:
        yield ("Where one of them measured better than ours (a client may have waited for the greeting before a quick reply to "
               "its dot: the tables have both):\n\n" + "\n".join(better))


def sentence(name, r):
    return f"**{name}**, {r['load']:g}x: {r['useful'] * 100:.0f} % useful. Of {r['clients']} clients {r['ungreeted_clients']} " \
        f"were left without a greeting for 30 s, {r['timeouts_after_dot']} times one gave up after the dot. Of {r['scans']} " \
        f"scans {r['wasted']} were for nobody; {r['duplicates']} messages arrived twice, {r['lost']} were lost. " \
        f"{r['pss_mib']:.0f} MiB."


def better_than_ours(name, rows, found):
    ours = {r["load"]: r for r in found.get("ours", [])}
    for r in rows:
        said = [f"{what}: {text.format(of(r))} (ours {text.format(of(ours[r['load']]))})"
                for what, of, factor, is_more, text in COMPARED
                if r["load"] in ours and is_better(of(r), of(ours[r["load"]]), factor, is_more)]
        if said:
            yield f"**{name}**, {r['load']:g}x: {'; '.join(said)}"


def is_better(theirs, ours, factor, is_more):
    if theirs is None or ours is None:
        return False
    return theirs > ours * factor if is_more else theirs * factor < ours


def overload_bars(page, ours):
    loads = ", ".join(f"{r['load']:g}x" for r in ours)

    def bar(text, of, best, shape, is_met):
        r = best(ours, key=of)
        where = f", at {r['load']:g}x" if len({of(one) for one in ours}) > 1 else ""
        page.bar(f"overload ({loads}): {text}", shape.format(of(r)) + where, is_met(of(r)))
    bar("useful throughput at least 95 %", lambda r: r["useful"] * 100, min, "{:.1f} %", lambda x: x >= 95)
    bar("nobody times out after the dot", lambda r: r["timeouts_after_dot"], max, "{}", lambda x: x == 0)
    bar("99 % greeted within 100 ms", lambda r: r["greeting_p99_ms"], max, "{:.1f} ms", lambda x: x < 100)
    bar("every client that keeps trying is served", lambda r: r["starved"], max, "{} never served", lambda x: x == 0)
    bar("the least served client gets at least half of the mean", lambda r: r["least"], min, "{:.2f}", lambda x: x >= 0.5)
    bar("messages queued = positive replies seen or remembered", apart, max, "{} apart", lambda x: x == 0)
    bar("memory under 300 MB", lambda r: r["pss_mib"] * 1.048576, max, "{:.0f} MB", lambda x: x < 300)


def apart(r):
    return r["duplicates"] + r["lost"] + abs(r["unheard"] - r["remembered"])
