"""Reads Maildirs. Content comes back in wire form, CR LF at each line's end."""

import os

from net import wait_until


class Maildir:
    def __init__(self, path):
        self.path = path

    def files(self):
        found = []
        for sub in ("new", "cur"):
            folder = os.path.join(self.path, sub)
            if os.path.isdir(folder):
                found += [os.path.join(folder, name) for name in os.listdir(folder)]
        return sorted(found)

    def all(self):
        contents = []
        for path in self.files():
            with open(path, "rb") as f:
                contents.append(f.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        return contents

    def find(self, mark):
        return [c for c in self.all() if mark in c]

    def wait_for(self, mark, seconds=20):
        """The one message that contains these bytes."""
        found = wait_until(lambda: self.find(mark), seconds, f"a message with {mark!r} in {self.path}")
        assert len(found) == 1, f"{len(found)} messages with {mark!r}"
        return found[0]

    def clear(self):
        for path in self.files():
            os.unlink(path)
