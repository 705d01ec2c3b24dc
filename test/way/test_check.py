"""`sallyport check` names the place where a fault is mended, and each command tells its usage."""

import os

import pytest

from net import free_port
from server import Sallyport, smtpd

FILTER = "smtpd_proxy_filter=127.0.0.1:10025"


@pytest.fixture(autouse=True)
def needs_a_build():
    if Sallyport.missing():
        pytest.skip(Sallyport.missing())


@pytest.mark.parametrize("line, said", [
    ("smtpd_proxy_stranger_steps = full, reject 80", 'smtpd_proxy_stranger_steps: unknown step "reject"'),
    ("smtpd_proxy_stranger_steps = full, HOLD 80", 'smtpd_proxy_stranger_steps: "hold" needs smtpd_proxy_hold_filter'),
    ("smtpd_proxy_concurrency_mode = adaptve", 'unknown smtpd_proxy_concurrency_mode value "adaptve"'),
    ("smtpd_recipient_restrictions = permit_mynetwork", "smtpd_recipient_restrictions: "),
    ("smtpd_sender_restrictions = check_sender_access hash:/no/such", "smtpd_sender_restrictions: "),
])
def test_what_a_service_stumbles_over_is_in_main_cf(line, said):
    settings = [FILTER, "smtpd_proxy_options=speed_adjust", "smtpd_proxy_concurrency_limit=2"]
    server = Sallyport(smtpd(f"127.0.0.1:{free_port()}", *settings), line + "\n")
    try:
        main = os.path.join(server.config, "main.cf")
        with open(main, encoding="ascii") as f:
            number = f.read().split("\n").index(line) + 1
        done = server.run("check", check=False)
        assert done.returncode == 1
        assert f"{main}:{number}: error: service 127.0.0.1:" in done.stdout and said in done.stdout
    finally:
        server.close()


def test_what_is_set_in_a_service_line_is_there():
    server = Sallyport(smtpd(f"127.0.0.1:{free_port()}", FILTER, "smtpd_proxy_options=fast"))
    try:
        done = server.run("check", check=False)
        errors = [line for line in done.stdout.split("\n") if ": error: " in line]
        assert done.returncode == 1 and len(errors) == 1 and "/master.cf:1: error: service" in errors[0], done.stdout
    finally:
        server.close()


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user's servers run as himself")
@pytest.mark.parametrize("owner, said", [("nosuchuser", "no such user"), ("root", "must not be the superuser")])
def test_owner_whom_workers_cannot_be(owner, said):
    server = Sallyport("", f"mail_owner = {owner}\n")
    try:
        done = server.run("check", check=False)
        assert done.returncode == 1 and f": error: mail_owner = {owner}: {said}" in done.stdout
    finally:
        server.close()


def test_more_services_than_there_is_room_for():
    lines = "".join(f"s{i} unix - - n - - smtp\n" for i in range(130))
    server = Sallyport(lines, common="")
    try:
        done = server.run("check", check=False)
        assert done.returncode == 1 and "/master.cf:129: error: more than 128 services" in done.stdout
    finally:
        server.close()


def test_defaults_are_not_those_of_main_cf():
    server = Sallyport("", "compatibility_level = 3.6\nmyorigin = example.net\n")
    try:
        names = ["mynetworks_style", "myorigin", "compatibility_level"]
        assert server.run("config", "-d", "-x", *names).stdout.split("\n")[0] == "mynetworks_style = subnet"
        assert "compatibility_level = 0\n" in server.run("config", "-d", *names).stdout
        assert server.run("config", "-x", "mynetworks_style").stdout == "mynetworks_style = host\n"
        assert server.run("config", "-d", "-n", check=False).returncode == 64
    finally:
        server.close()


@pytest.mark.parametrize("command", ["check", "queue", "top", "config", "map", "stop"])
def test_help_of_a_command(command):
    server = Sallyport("")
    try:
        os.unlink(os.path.join(server.config, "main.cf"))   # it is not read
        done = server.run(command, "--help")
        assert done.stdout.startswith(f"usage: sallyport [-c DIR] {command}") and done.stdout.count("\n") == 1
        assert not done.stdout.endswith(" \n")
    finally:
        server.close()
