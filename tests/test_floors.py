"""The house: a file imports only from floors below its own, or from a neighbour named here.

Imports are read from the source, so those inside functions and under ``TYPE_CHECKING`` count.
"""

import ast
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(__file__).parent.parent / "fastnn"

# Where each module lives; "kernels.*" is the whole folder, but for modules that are named apart. A
# new file must be added here: that is the moment to choose its floor.
FLOORS = {
    0: {"compiling", "errors", "runtime.*"},
    1: {"kernels.*"},
    2: {
        "engine.*",
        "files.*",
        "initializers",
        "layers.*",
        "linalg",
        "losses",
        "optimizers",
        "regularization",
        "schedules",
        "summary",
        "validation",
    },
    3: {
        "callbacks",
        "checkpoint",
        "environment",
        "files.storage",
        "inspection.*",
        "network",
        "perceptron",
        "training.*",
    },
    4: {
        "__main__",
        "cli.*",
        "data.*",
        "datasets",
        "estimators.*",
        "ladder.*",
        "loading",
        "table_model",
    },
}

# Imports within a floor: module -> neighbours it may use. Modules of one folder may use one
# another freely, as long as there is no ring.
NEIGHBOURS = {
    "__main__": {"cli.*"},
    "runtime.*": {"compiling", "errors"},
    "initializers": {"validation"},
    "linalg": {"validation"},
    "engine.*": {"validation"},
    "layers.*": {"engine.*", "initializers", "linalg", "regularization", "validation"},
    "regularization": {"validation"},
    "inspection.*": {"callbacks", "network", "training.*"},
    "environment": {"network", "training.*"},
    "checkpoint": {"callbacks", "files.storage"},
    "network": {"callbacks", "training.*"},
    "losses": {"validation"},
    "optimizers": {"validation"},
    "schedules": {"validation"},
    "summary": {"layers.*"},
    "files.storage": {"network"},
    "datasets": {"data.*"},
    "loading": {"data.*", "table_model"},
    "table_model": {"data.*"},
    "cli.*": {"data.*", "datasets", "ladder.*", "loading", "table_model"},
}


def module_name(path):
    """``fastnn/kernels/tile.py`` -> ``kernels.tile``; the package itself is ``""``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


NAMED = {name for names in FLOORS.values() for name in names}


def key_of(module):
    """``kernels.tile`` -> ``kernels.*``, ``cli`` (a folder) -> ``cli.*``, ``losses`` as it is."""
    if module in NAMED:
        return module
    folder = module.partition(".")[0]
    return f"{folder}.*" if (PACKAGE / folder).is_dir() and folder else module


def floor_of(module):
    return next((floor for floor, keys in FLOORS.items() if key_of(module) in keys), None)


def imported_names(module, tree):
    """Yield the full dotted names that a file imports, absolute, from wherever in the file."""
    is_package = MODULES[module].name == "__init__.py"
    here = ["fastnn", *module.split(".")] if module else ["fastnn"]
    package = here if is_package else here[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # A bare `import fastnn` is judged by what is then taken from it.
            yield from (a.name for a in node.names if a.name != "fastnn" or a.asname)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "fastnn":
            yield f"fastnn.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in {"import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.args[0].value


def internal_imports(module):
    """Return the modules of this package that a file imports."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = set()
    for name in imported_names(module, tree):
        root, _, inner = name.partition(".")
        if root != "fastnn" or inner == "__version__":
            continue
        # A public name taken from the package is an import of the module that holds it.
        inner = fastnn._HOMES.get(inner, inner)
        while inner not in MODULES:  # strip what is imported from the module
            inner = inner.rpartition(".")[0]
        found.add(inner)
    return found


def find_cycle(graph):
    """Return a list of modules that import each other in a ring, or an empty list."""
    done = set()

    def visit(module, trail):
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if ring := visit(target, [*trail, module]):
                return ring
        done.add(module)
        return []

    for module in sorted(graph):
        if ring := visit(module, []):
            return ring
    return []


def test_every_file_has_its_floor():
    homeless = [module for module in MODULES if module and floor_of(module) is None]
    assert not homeless, f"add to FLOORS in {Path(__file__).name}: {homeless}"


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_a_file_imports_only_from_below_or_from_a_named_neighbour(module):
    floor, key = floor_of(module), key_of(module)
    wrong = []
    for target in internal_imports(module):
        below = target and floor_of(target) < floor
        if not (below or key_of(target) == key or key_of(target) in NEIGHBOURS.get(key, ())):
            wrong.append(target or "fastnn (the package itself)")
    assert not wrong, f"{module} (floor {floor}) may not import {wrong}"


def test_the_package_itself_imports_its_modules_for_type_checkers_only():
    # Programs load them by name, lazily: see the tests of the import.
    tree = ast.parse(MODULES[""].read_text(encoding="utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    shown = ast.Module(body=block.body, type_ignores=[])
    lazy = {f"fastnn.{home}.{name}" for name, home in fastnn._HOMES.items()}
    lazy |= {f"fastnn.{name}" for name in fastnn._MODULES}
    assert set(imported_names("", shown)) == lazy
    # `import x as x` is how a module with types says that x is public.
    assert all(alias.asname == alias.name for node in shown.body for alias in node.names)
    block.body = [ast.Pass()]
    assert not {name for name in imported_names("", tree) if name.startswith("fastnn")}


def test_no_files_import_each_other_in_a_ring():
    assert find_cycle({module: internal_imports(module) for module in MODULES}) == []


def test_every_named_neighbour_is_used_and_shares_the_floor():
    used = {key_of(module): set() for module in MODULES}
    for module in MODULES:
        used[key_of(module)] |= {key_of(target) for target in internal_imports(module)}
    for key, targets in NEIGHBOURS.items():
        assert targets <= used[key], f"{key} does not import all of {targets}"
        floors = {floor for floor, keys in FLOORS.items() if keys & {key, *targets}}
        assert len(floors) == 1, f"{key} and {targets} are on the floors {floors}"


def test_the_checks_see_hidden_imports_and_rings():
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from fastnn.network import Sequential\n"
        "def f():\n    from . import cli\n    import importlib\n"
        "    importlib.import_module('fastnn.estimators')\n"
        "    import fastnn\n    fastnn.Adam()\n"
    )
    names = set(imported_names("errors", ast.parse(source)))
    assert {"fastnn.network.Sequential", "fastnn.cli", "fastnn.estimators"} <= names
    assert "fastnn.Adam" in names
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_module_with_a_floor_exists():
    assert {key_of(module) for module in MODULES} >= NAMED
