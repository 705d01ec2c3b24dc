"""What bench/clients wrote down, and the numbers made of it."""

from measure import percentile


class Try:
    """One connection of a client for one message. Times in seconds since the run began, latencies in milliseconds."""

    def __init__(self, line):
        client, message, number, start, self.phase, code, greeting, dot, end = line.split()
        self.key = (int(client), int(message))
        self.number, self.code = int(number), int(code)
        self.start, self.end = float(start) / 1000, float(end) / 1000
        self.greeting, self.dot = float(greeting), float(dot)

    @property
    def is_positive(self):
        return self.phase == "DOT" and self.code // 100 == 2

    @property
    def how(self):
        """One word for the end of this try."""
        return {0: "timeout", -1: "lost", -2: "cut"}.get(self.code, str(self.code))


def read(path):
    """(monotonic milliseconds of the beginning, tries)."""
    with open(path, encoding="ascii") as f:
        begin = float(f.readline().split()[1])
        return begin, [Try(line) for line in f]


def per_client(tries, clients):
    """How many messages of each client were acknowledged."""
    served = [0] * clients
    for t in tries:
        served[t.key[0]] += t.is_positive
    return served


def ends(tries):
    """{"PHASE how": count} of all tries that did not end well."""
    counts = {}
    for t in tries:
        if not t.is_positive and t.code != -2:
            counts[f"{t.phase} {t.how}"] = counts.get(f"{t.phase} {t.how}", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def latencies(tries, patience):
    """Of the greeting (who was not greeted in time counts with all his patience), and from the dot to the reply."""
    greeting = [t.greeting if t.greeting >= 0 else patience * 1000 for t in tries
                if t.greeting >= 0 or (t.phase == "GREETING" and t.code != -2)]
    dot = [t.dot for t in tries if t.dot >= 0]
    return {"greeting_p50_ms": percentile(greeting, 50), "greeting_p99_ms": percentile(greeting, 99),
            "dot_p50_ms": percentile(dot, 50), "dot_p99_ms": percentile(dot, 99), "dot_max_ms": max(dot, default=None)}


def outcome(tries, arrived):
    """What was acknowledged beside what arrived."""
    acknowledged = {t.key for t in tries if t.is_positive}
    return {
        "acknowledged": len(acknowledged),
        "arrived": sum(arrived.values()),
        "lost": len(acknowledged - set(arrived)),
        "duplicates": sum(n - 1 for n in arrived.values()),
        "unheard": len(set(arrived) - acknowledged),
    }
