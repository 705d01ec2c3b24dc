"""Reads Prometheus' text format (0.0.4) and takes no excuse: every metric has HELP and TYPE before its samples, which stand
together; no sample comes twice; labels are escaped; values are numbers; counters end in _total and are not negative;
histograms have rising buckets, +Inf, _sum and _count that agree."""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})?(?:,{LABEL})*)\}})? (\S+)")
TYPES = ("counter", "gauge", "histogram")


class Bad(AssertionError):
    pass


def unescaped(value):
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m.group(1), m.group(1)), value)


def labels_of(text):
    pairs = re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', text or "")
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Bad(f"a label twice: {text}")
    return tuple(sorted((name, unescaped(value)) for name, value in pairs))


def family_of(name, types):
    """The metric that a sample belongs to."""
    for end in ("_bucket", "_sum", "_count"):
        if name.endswith(end) and types.get(name[:-len(end)]) == "histogram":
            return name[:-len(end)]
    return name


def parse(text):
    """{(name, labels): value}; labels are sorted pairs."""
    if not text.endswith("\n"):
        raise Bad("the last line has no end")
    types, helps, values, family, over = {}, set(), {}, None, set()
    for line in text[:-1].split("\n"):
        if m := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            if m.group(1) in helps:
                raise Bad(f"HELP twice: {line}")
            helps.add(m.group(1))
        elif m := re.fullmatch(rf"# TYPE ({NAME}) (\w+)", line):
            if m.group(1) in types or m.group(2) not in TYPES:
                raise Bad(f"TYPE twice or unknown: {line}")
            types[m.group(1)] = m.group(2)
        elif m := SAMPLE.fullmatch(line):
            name, labels, number = m.group(1), labels_of(m.group(2)), float(m.group(3))
            mine = family_of(name, types)
            if mine not in types or mine not in helps:
                raise Bad(f"no HELP or TYPE before: {line}")
            if mine != family and mine in over:
                raise Bad(f"samples of {mine} do not stand together")
            family = mine
            over.add(mine)
            if (name, labels) in values:
                raise Bad(f"twice: {line}")
            if not math.isfinite(number):
                raise Bad(f"no number: {line}")
            values[name, labels] = number
        else:
            raise Bad(f"neither comment nor sample: {line!r}")
    check_values(types, values)
    return values


def check_values(types, values):
    for name, kind in types.items():
        if kind == "counter":
            if not name.endswith("_total"):
                raise Bad(f"counter without _total: {name}")
            if any(value < 0 for (n, _), value in values.items() if n == name):
                raise Bad(f"negative: {name}")
        if kind == "histogram":
            check_histogram(name, values)


def check_histogram(name, values):
    series = {}
    for (n, labels), value in values.items():
        if n == name + "_bucket":
            bound = dict(labels)["le"]
            rest = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault(rest, []).append((math.inf if bound == "+Inf" else float(bound), value))
    for labels, buckets in series.items():
        bounds, counts = [b for b, _ in buckets], [c for _, c in buckets]
        if bounds != sorted(set(bounds)) or bounds[-1] != math.inf or counts != sorted(counts):
            raise Bad(f"buckets of {name}{labels}: {buckets}")
        if values.get((name + "_count", labels)) != counts[-1]:
            raise Bad(f"count of {name}{labels} is not its last bucket")
        if values.get((name + "_sum", labels), -1) < 0:
            raise Bad(f"no sum of {name}{labels}")


def value(values, name, **labels):
    """The one sample whose labels include these."""
    found = [v for (n, have), v in values.items() if n == name and set(labels.items()) <= set(have)]
    assert len(found) == 1, f"{len(found)} samples of {name} {labels}"
    return found[0]
