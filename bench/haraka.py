"""Haraka, from npm, as a before-queue server: whole message first, then forwarded to the filter (its own queue plugin
smtp_forward), the filter's answer passed on. Installed once, into build-bench/haraka, or found in $HARAKA_HOME."""

import os
import shutil
import subprocess
import tempfile

from measure import ROOT
from net import is_listening, wait_until
from server import FOLDERS

# A version and a day of the registry, so that a run can be repeated.
VERSION, BEFORE = "3.1.1", "2026-03-01"
HOME = os.environ.get("HARAKA_HOME", os.path.join(ROOT, "build-bench", "haraka"))
TAKE_ALL = "exports.hook_rcpt = (next) => next(OK);\n"


class Haraka:
    kind = "haraka"

    @staticmethod
    def missing():
        """Why it cannot run here, or None. Installs it when npm can."""
        program = os.path.join(HOME, "node_modules", "Haraka", "bin", "haraka")
        if os.path.exists(program):
            return None
        if not shutil.which("npm"):
            return "there is no npm to install it"
        os.makedirs(HOME, exist_ok=True)
        try:
            subprocess.run(["npm", "install", "--prefix", HOME, "--omit=optional", "--no-audit", "--no-fund",
                            f"--before={BEFORE}", f"Haraka@{VERSION}"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300, check=True)
        except (subprocess.SubprocessError, OSError) as e:
            return f"npm install: {e}"
        return None if os.path.exists(program) else "npm installed no bin/haraka"

    def __init__(self, port, filter_port):
        self.port = port
        self.folder = tempfile.mkdtemp(prefix="sp-haraka-", dir=FOLDERS)
        self.process = None
        os.mkdir(os.path.join(self.folder, "config"))
        shutil.copy(os.path.join(HOME, "node_modules", "Haraka", "config", "connection.ini"),
                    os.path.join(self.folder, "config"))
        for name, text in {
            "config/smtp.ini": f"listen=127.0.0.1:{port}\nnodes=cpus\n",
            "config/plugins": "take_all\nqueue/smtp_forward\n",
            "config/smtp_forward.ini": f"host=127.0.0.1\nport={filter_port}\ntimeout=100\nconnect_timeout=100\n",
            "config/plugin_timeout": "100\n",
            "config/me": "mx.way.test\n",
            "config/loglevel": "WARN\n",
            "config/log.ini": "level=warn\n",
            "plugins/take_all.js": TAKE_ALL,
        }.items():
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="ascii") as f:
                f.write(text)

    def start(self):
        with open(os.path.join(self.folder, "log"), "wb") as out:
            self.process = subprocess.Popen(
                ["node", os.path.join(HOME, "node_modules", "Haraka", "bin", "haraka"), "-c", self.folder],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(lambda: is_listening(self.port) or self.process.poll() is not None, 30, "Haraka")
        if self.process.poll() is not None:
            raise SystemExit(f"Haraka: {self.log()[-2000:]}")

    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="latin-1") as f:
            return f.read()

    def pids(self):
        """{pid: None} of it and its children."""
        found = {self.process.pid: None} if self.process else {}
        for pid in list(found):
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
                found.update({int(child): None for child in f.read().split()})
        return found

    def close(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if os.environ.get("KEEP"):
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
