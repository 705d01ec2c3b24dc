"""A parameter in force is one that some code asks for: none is accepted and ignored without a word."""

import pathlib
import re

SRC = pathlib.Path(__file__).resolve().parents[2] / "src"
TABLE = (SRC / "conf" / "conf_params.c").read_text()
# Asked for by prefix and suffix (conf_int_for), or only there to be used as $name.
OTHERWISE = {"local_destination_concurrency_limit", "local_destination_recipient_limit", "default_database_type",
             "mail_version"}


def test_parameters_in_force_are_asked_for():
    in_force = re.findall(r'\{"(\w+)", CONF_\w+, CONF_IN_FORCE', TABLE)
    code = "".join(f.read_text() for f in SRC.rglob("*.c")
                   if not f.name.endswith(("_test.c", "_fuzz.c")) and f.name not in ("conf_params.c", "conf_names.c"))
    unasked = {name for name in in_force
               if f'"{name}"' not in code and not re.search(r"\$[{(]?" + name + r"\b", TABLE)}
    assert len(in_force) > 150
    assert unasked <= OTHERWISE, sorted(unasked - OTHERWISE)


def test_parameters_asked_for_are_in_force():
    known = set(re.findall(r'\{"(\w+)", CONF_\w+, CONF_KNOWN', TABLE))
    asked = set()
    for f in SRC.rglob("*.c"):
        if "conf" not in f.parts and not f.name.endswith(("_test.c", "_fuzz.c")):
            asked |= set(re.findall(r'conf_(?:text|bool|int|size|time_ms)\(\w+(?:->\w+)*, "(\w+)"\)', f.read_text()))
    assert len(asked) > 80
    assert not asked & known, sorted(asked & known)
