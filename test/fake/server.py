"""Private mail servers for tests: Debian's Postfix, or ours, from the same main.cf and master.cf text. Each has its own
folder under /tmp with configuration, queue, data, log and mailboxes, listens on loopback only, and is stopped (by its
own stop command, else by its own pids) and removed at the end."""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

from maildir import Maildir
from net import is_listening, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("SALLYPORT", os.path.join(ROOT, "build", "sallyport"))
FOLDERS = os.environ.get("SALLYPORT_TEST_FOLDER", "/tmp")     # in which each server has its own
IS_ROOT = os.getuid() == 0


def _mail_uid():
    """Who owns mailboxes and queue: ours runs as mail_owner when root starts it, as ourselves otherwise."""
    return pwd.getpwnam("postfix") if IS_ROOT else pwd.getpwuid(os.getuid())


# The rest of a master.cf, as Debian ships it but without chroot. Ours takes these lines too.
COMMON_SERVICES = """
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


def smtpd(address, *overrides, maxproc="-", command="smtpd"):
    """A master.cf line."""
    options = "".join(f"\n    -o {o}" for o in overrides)
    return f"{address} inet n - n - {maxproc} {command}{options}\n"


class Server:
    kind = None
    before_exec = None      # called in the child before its exec; for limits

    def __init__(self, services, main="", common=COMMON_SERVICES, templates=None):
        """services: master.cf lines; main: more lines for main.cf, which take the place of those with the same name here;
        templates: {file name: text} for the folder. {etc} is the configuration folder in all of them."""
        self.folder = tempfile.mkdtemp(prefix="sp-", dir=FOLDERS)
        os.chmod(self.folder, 0o755)
        self.config = os.path.join(self.folder, "etc")
        self.queue = os.path.join(self.folder, "spool")
        self.logfile = os.path.join(self.folder, "log")
        self.mail = os.path.join(self.folder, "mail")
        self.user = _mail_uid()
        for path in (self.config, self.queue, self.mail, os.path.join(self.folder, "data")):
            os.mkdir(path)
            os.chmod(path, 0o755)       # whatever the umask
        for path in (self.mail, os.path.join(self.folder, "data")):
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        values = dict(line.split(" =", 1) for line in (self._main() + main).split("\n") if line)
        self.write("main.cf", "".join(f"{name} ={value}\n" for name, value in values.items()))
        self.write("master.cf", services + common)
        for name, text in (templates or {}).items():
            self.write(name, text)
        self.ports = [int(p) for p in re.findall(r"^127\.0\.0\.1:(\d+) +inet", services, re.M)]
        self.running = False

    def _main(self):
        uid, gid = self.user.pw_uid, self.user.pw_gid
        return f"""compatibility_level = 3.7
queue_directory = {self.queue}
data_directory = {self.folder}/data
maillog_file = {self.logfile}
maillog_file_prefixes = {self.folder}
mail_owner = {self.user.pw_name}
myhostname = mx.way.test
mydomain = way.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
local_header_rewrite_clients =
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = way.test
virtual_mailbox_base = {self.mail}
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_client_connection_count_limit = 0
disable_dns_lookups = yes
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
notify_classes =
"""

    def write(self, name, text):
        path = os.path.join(self.config, name)
        with open(path, "w", encoding="latin-1") as f:
            f.write(text.replace("{etc}", self.config))
        os.chmod(path, 0o644)
        return path

    def mailbox(self):
        return Maildir(os.path.join(self.mail, "all"))

    def log(self):
        try:
            with open(self.logfile, encoding="latin-1") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern, seconds=10):
        """Until the log has a match of this regular expression; the match."""
        return wait_until(lambda: re.search(pattern, self.log(), re.M), seconds, f"{pattern!r} in the log of {self.kind}",
                          poll=0.05)

    def run(self, *args, check=True, seconds=60):
        """Runs the server's own command; what it said is .stdout. Said into a file: a daemon may keep it open."""
        with tempfile.TemporaryFile("w+", encoding="latin-1") as said:
            done = subprocess.run(self.command(*args), stdout=said, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, timeout=seconds, preexec_fn=self.before_exec)
            said.seek(0)
            done.stdout = said.read()
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(self.command(*args))}: exit {done.returncode}: {done.stdout}{self.log()}")
        return done

    def start(self):
        self.run("start")
        self.running = True
        for port in self.ports:
            wait_until(lambda: is_listening(port), 10, f"{self.kind} on port {port}: {self.log()}")
        return self

    def stop(self):
        if self.running:
            self.running = False
            pids = self.pids()
            try:
                self.run("stop", check=False)
            finally:
                self._end(pids)

    def close(self):
        self.stop()
        if os.environ.get("KEEP"):
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def master_pid(self):
        with open(os.path.join(self.queue, "pid", "master.pid"), encoding="ascii") as f:
            return int(f.read())

    def pids(self):
        """master and all that descend from it, as {pid: start time}; a pid with another start time is a stranger."""
        try:
            tree = [self.master_pid()]
        except (OSError, ValueError):
            return {}
        parents = {}
        for stat in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(stat, encoding="latin-1") as f:
                    text = f.read()
            except OSError:
                continue
            fields = text[text.rindex(")") + 2:].split()
            parents[int(text.split()[0])] = (int(fields[1]), fields[19])
        for pid in tree:
            tree += [p for p, (parent, _) in parents.items() if parent == pid]
        return {pid: parents[pid][1] for pid in tree if pid in parents}

    def _end(self, pids):
        """Waits until these processes are gone; what does not go is killed, and the test told."""
        try:
            wait_until(lambda: not self._alive(pids), 15, f"the end of {self.kind}'s processes")
        except AssertionError:
            for pid in self._alive(pids):
                os.kill(pid, signal.SIGKILL)
            raise

    @staticmethod
    def _alive(pids):
        alive = []
        for pid, started in pids.items():
            try:
                with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
                    fields = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[19] == started and fields[0] != "Z":
                alive.append(pid)
        return alive


class Postfix(Server):
    kind = "postfix"

    @staticmethod
    def missing():
        """Why it cannot run here, or None."""
        if not os.path.exists("/usr/sbin/postfix"):
            return "Postfix is not installed"
        return None if IS_ROOT else "Postfix must be started by root"

    def _main(self):
        return super()._main() + "setgid_group = postdrop\ndaemon_directory = /usr/lib/postfix/sbin\n" \
            "command_directory = /usr/sbin\nshlib_directory = /usr/lib/postfix\nmeta_directory = /etc/postfix\n"

    def command(self, *args):
        return ["/usr/sbin/postfix", "-c", self.config, *args]


class Sallyport(Server):
    kind = "ours"
    binary = BINARY

    @staticmethod
    def missing():
        return None if os.path.exists(BINARY) else f"{BINARY} is not built"

    def command(self, *args):
        return [self.binary, "-c", self.config, *args]


KINDS = {"postfix": Postfix, "ours": Sallyport}
