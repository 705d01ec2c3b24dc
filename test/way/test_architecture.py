"""ARCHITECTURE.md's ten stops are held to the code, and so are the two include rules that the build cannot enforce."""

import os
import re

import pytest

from server import ROOT


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def stops():
    """[(number, function, file)] of the table of stops."""
    rows = re.findall(r"^\| (\d+) \|.*\| `(\w+)\(\)` \| (\S+) \|$", read("ARCHITECTURE.md"), re.M)
    return [(int(number), name, path) for number, name, path in rows]


def sources():
    return [os.path.relpath(os.path.join(folder, name), ROOT)
            for folder, _, names in os.walk(os.path.join(ROOT, "src")) for name in names if name.endswith((".c", ".h"))]


def defines(text, name):
    """The function's body begins somewhere: its name at the start of a line's declarator, parameters, then a brace."""
    return re.search(rf"^[a-z_][\w \t*]*\b{name}\([^;{{}}]*\)\s*\{{", text, re.M) is not None


def test_there_are_ten_stops():
    assert [number for number, _, _ in stops()] == list(range(1, 11))


@pytest.mark.parametrize("number,name,path", stops(), ids=lambda v: str(v).replace("/", "."))
def test_stop_is_defined_where_the_page_says(number, name, path):
    assert defines(read(path), name), f"stop {number}: no definition of {name}() in {path}"


def test_definition_is_told_from_declaration_and_call():
    assert defines("co_fn struct x *go(int a,\n           int b)\n{\n", "go")
    assert not defines("void go(int a);\nvoid other(void)\n{\n    go(1);\n}\n", "go")


def test_no_include_climbs_out_of_its_folder():
    found = [f"{path}: {line}" for path in sources() for line in re.findall(r'#include *"\.\./.*', read(path))
             if "../.." in line]
    assert found == []


def test_libuv_is_known_to_few():
    allowed = ("src/co/", "src/io/", "src/run/master/")
    found = [path for path in sources() if re.search(r"#include *<uv\.h>", read(path)) and not path.startswith(allowed)]
    assert found == []
