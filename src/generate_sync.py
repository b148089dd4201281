"""Writes ``sync.py``, the synchronous face, from the source of the asynchronous one.

``python src/generate_sync.py`` writes it; ``--check`` tells whether it is up to date.

Each public class, method and function becomes one of the same signature that drives it:

- a parameter that is a client, or another object of the library, is turned into the asynchronous
  one; a function that makes clients has a counterpart in ``opening`` that is told the face;
- a public attribute becomes a property;
- of the private methods, the key helpers of the specification are taken along;
- in a docstring, names and keywords become synchronous, and a sentence about cancelled calls or
  calls in flight, which an event loop has, is left out;
- a method that returns an ``AbstractAsyncContextManager``, or takes a ``Sleep``, is about
  background work, and isn't copied.
"""

import argparse
import ast
import difflib
import re
import sys
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

CLASSES = {
    "vault": "AsyncSecureVault",
    "inventory": "AsyncSmartInventory",
    "gc": "AsyncGarbageCollector",
    "stats": "AsyncStorageReporter",
    "database": "AsyncClientDatabase",
}
"""By module: what is copied with all of its public methods."""
FUNCTIONS = ("database", "connection", "backup")
"""The modules whose public functions are copied: coroutines, and what makes a database."""
PACKAGE = Path(__file__).parent / "aqm_db"
INTERNAL = frozenset({"Gates", "Resources", "Scope"})
"""What other parts of the package share: public attributes of these types aren't copied."""
KEY_HELPERS = frozenset({"_vault_key", "_inv_key", "_idx_key", "_meta_key"})

_HEADER = '''"""The synchronous face: the same classes and functions, without an event loop.

Generated from the asynchronous classes by ``python src/generate_sync.py``; do not edit.

::

    from aqm_db.sync import connect

    with connect() as db:
        coin = db.inventory.select_coin("bob", "GOLD")
"""
'''
_WIDTH = 100
_LIFETIME = {
    "__init__": "__init__",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
}
_NAMES = {
    "AnyAsyncClient": "AnySyncClient",
    "AsyncClient": "SyncClient",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "Connecting": "ClientDatabase",
    "asynccontextmanager": "contextmanager",
    **_LIFETIME,
}
_WORDS = (
    (re.compile(r"\bredis\.asyncio\b"), "redis"),
    (re.compile(r"\basync with\b"), "with"),
    (re.compile(r"\bawait "), ""),
    (re.compile(r"\baclose\b"), "close"),
    (re.compile(r"\bAsync(?=[A-Z])"), ""),
    (re.compile(r", or is cancelled,"), ""),
    (re.compile(r"\s+After that it goes on in the\s+background,[^.]*\."), ""),
)
_WRAPPERS = {
    "AsyncClient": "wrap_client",
    "AnyAsyncClient": "wrap_client",
    "AnyAsyncClient | Seam": "wrap_client_or_seam",
}
"""What makes an asynchronous client of a parameter, by its annotation."""
_LOOP_ONLY = re.compile(r"\bcancel|\bin flight\b")
_SUPPORT = {
    "Generator": "collections.abc",
    "Iterator": "collections.abc",
    "Any": "typing",
    "TYPE_CHECKING": "typing",
    "contextmanager": "contextlib",
    "cached_property": "functools",
    "opening": "._io",
    "backup": ".",
    "connection": ".",
    "database": ".",
    "AnySyncClient": "._io.redispy.clients",
    "SyncClient": "._io.redispy.clients",
    "unwrap_client": "._io.redispy.clients",
    "wrap_client_or_seam": "._io.redispy.clients",
    "wrap_client": "._io.redispy.clients",
    "drive": "._io.driving",
    "drive_block": "._sync_support",
    "drive_iterator": "._sync_support",
    "SYNC": "._io.redispy.faces",
    "Wrapper": "._sync_support",
    "wrap": "._sync_support",
    "unwrap": "._sync_support",
}
"""Where the names come from that the asynchronous modules don't import."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(arguments: list[str] | None = None, directory: Path = PACKAGE) -> int:
    """Writes the file or, with ``--check``, compares it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python src/generate_sync.py")
    parser.add_argument("--check", action="store_true", help="only compare; 1 if it differs")
    check = parser.parse_args(arguments).check
    return write(directory / "sync.py", generated(directory), only_check=check)


def write(path: Path, wanted: str, *, only_check: bool) -> int:
    """Writes a file, or shows how it differs from what it should be; returns the exit status."""
    found = path.read_text("utf-8") if path.exists() else ""
    if not only_check:
        path.write_text(wanted, "utf-8")
        return 0
    difference = difflib.unified_diff(
        found.splitlines(keepends=True), wanted.splitlines(keepends=True), path.name, "generated"
    )
    sys.stdout.writelines(difference)
    return int(found != wanted)


def generated(directory: Path) -> str:
    """The text of ``sync.py`` that belongs to the modules in a directory."""
    modules = {
        name: ast.parse(source_of(directory, name).read_text("utf-8"))
        for name in (*CLASSES, *FUNCTIONS)
    }
    definitions = {
        _renamed(node.name): lines
        for name, module in modules.items()
        for node, lines in _definitions(name, module)
    }
    body = "\n\n\n".join("\n".join(lines) for lines in definitions.values())
    public = "".join(f'    "{name}",\n' for name in sorted(definitions))
    imports = "\n".join(_imports(body, modules))
    return f"{_HEADER}\n{imports}\n\n__all__ = [\n{public}]\n\n\n{body}\n"


def source_of(directory: Path, module: str) -> Path:
    """The file of a module, which may be a package."""
    package = directory / module / "__init__.py"
    return package if package.exists() else directory / f"{module}.py"


@dataclass(frozen=True)
class Call:
    """A call, or a signature, as it will be written."""

    name: str
    items: "tuple[str | Call, ...]"

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.items))})"


def _wrapped(indent: int, before: str, call: Call, after: str = "") -> Iterator[str]:
    """A call as ruff formats it: on one line, its items on one line, or each on its own."""
    margin = " " * indent
    if indent + len(f"{before}{call}{after}") <= _WIDTH:
        yield f"{margin}{before}{call}{after}"
        return
    yield f"{margin}{before}{call.name}("
    items = ", ".join(map(str, call.items))
    comma = "," if len(call.items) > 1 else ""
    if indent + 4 + len(items) <= _WIDTH:
        yield f"{margin}    {items}"
    else:
        for item in call.items:
            if isinstance(item, Call):
                yield from _wrapped(indent + 4, "", item, comma)
            else:
                yield f"{margin}    {item}{comma}"
    yield f"{margin}){after}"


def _definitions(
    name: str, module: ast.Module
) -> Iterator[tuple[ast.ClassDef | Function, list[str]]]:
    """What is copied from a module, and its lines."""
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name == CLASSES.get(name):
            yield node, list(_class(node))
        elif isinstance(node, Function) and name in FUNCTIONS and _is_copied_function(node):
            yield node, list(_function(name, node))


def _is_copied_function(node: Function) -> bool:
    return not node.name.startswith("_") and (
        isinstance(node, ast.AsyncFunctionDef) or _returned(node) == "Connecting"
    )


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f"class {_renamed(node.name)}(Wrapper[{node.name}]):"
    yield from _docstring(node, 4)
    overloaded = {
        member.name
        for member in node.body
        if isinstance(member, Function) and "overload" in _decorators(member)
    }
    for member in node.body:
        if not isinstance(member, Function) or not _is_copied_method(member):
            continue
        yield ""
        if member.name == "__init__":
            yield from _constructor(node, member)
            yield from _attributes(node, member)
        else:
            yield from _method(member, is_overloaded=member.name in overloaded)


def _is_copied_method(node: Function) -> bool:
    if _returned(node).startswith("AbstractAsyncContextManager[") or _takes_sleep(node):
        return False
    return not node.name.startswith("_") or node.name in KEY_HELPERS or node.name in _LIFETIME


def _takes_sleep(node: Function) -> bool:
    annotations = (each.annotation for each in _all_arguments(node))
    return any(ast.unparse(each).startswith("Sleep") for each in annotations if each is not None)


def _constructor(owner: ast.ClassDef, node: Function) -> Iterator[str]:
    yield from _signature(4, node, ":")
    made = Call(owner.name, _arguments(node, _renamed(owner.name)))
    yield from _wrapped(8, "", Call("super().__init__", (made,)))


def _attributes(owner: ast.ClassDef, constructor: Function) -> Iterator[str]:
    """A property for each public attribute that the constructor sets."""
    parameters = {argument.arg: argument.annotation for argument in _all_arguments(constructor)}
    kinds: dict[str, ast.expr | None] = {}
    for statement in constructor.body:
        match statement:
            case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=annotation):
                kinds[name] = annotation
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=value):
                kinds[name] = parameters.get(ast.unparse(value))
            case _:
                pass
    for name, kind in kinds.items():
        if not name.startswith("_") and not (kind and ast.unparse(kind) in INTERNAL):
            yield ""
            yield from _attribute(owner, name, kind)


def _attribute(owner: ast.ClassDef, name: str, kind: ast.expr | None) -> Iterator[str]:
    if kind is None:
        raise ValueError(f"{owner.name}.{name} needs an annotation")
    wraps = ast.unparse(kind) in CLASSES.values()
    value = f"self.asynchronous.{name}"
    yield "    @cached_property" if wraps else "    @property"
    yield f"    def {name}(self) -> {_text(kind)}:"
    yield f'        """{_description(owner, name)}"""'
    yield f"        return wrap({_text(kind)}, {value})" if wraps else f"        return {value}"


def _description(owner: ast.ClassDef, attribute: str) -> str:
    """What a class's docstring says of an attribute."""
    said = re.search(
        rf"^    {attribute}: (.+(?:\n      .+)*)", ast.get_docstring(owner) or "", re.MULTILINE
    )
    if said is None:
        raise ValueError(f"{owner.name}.{attribute} needs a line under Attributes")
    text = " ".join(said[1].split())
    return text[0].upper() + text[1:]


def _method(node: Function, *, is_overloaded: bool) -> Iterator[str]:
    decorators = _decorators(node)
    call = Call(f"self.asynchronous.{node.name}", _arguments(node, ""))
    for decorator in decorators:
        if decorator not in {"overload", "asynccontextmanager", "property"}:
            raise ValueError(f"{node.name} has a decorator that isn't copied: {decorator}")
        yield f"    @{_renamed(decorator)}"
    yield from _signature(4, node, ": ..." if "overload" in decorators else ":")
    if "overload" in decorators:
        return
    yield from _docstring(node, 8)
    if "property" in decorators:
        yield f"        return {call.name}"
    elif "asynccontextmanager" in decorators:
        yield from _wrapped(8, "with ", Call("drive_block", (call,)), " as value:")
        yield "            yield value"
    elif _returned(node).strip('"') in CLASSES.values():
        kind = _renamed(_returned(node)).strip('"')
        yield from _wrapped(8, "return ", Call("wrap", (kind, call)))
    elif isinstance(node, ast.FunctionDef):
        noted = "  # noqa: SLF001 - specified" if node.name in KEY_HELPERS else ""
        yield from _wrapped(8, "return ", call, noted)
    elif _returned(node).startswith("AsyncIterator["):
        yield from _wrapped(8, "return ", Call("drive_iterator", (call,)))
    elif is_overloaded:
        # A type checker makes nothing of a choice between coroutines.
        yield from _wrapped(8, "coroutine: Any = ", call)
        yield f"        result: {_renamed(_returned(node))} = drive(coroutine)"
        yield "        return result"
    else:
        yield from _driven(8, node, call)


def _function(module: str, node: Function) -> Iterator[str]:
    arguments = _arguments(node, node.name)
    yield from _signature(0, node, ":")
    yield from _docstring(node, 4)
    if _returned(node) == "Connecting":
        yield from _wrapped(4, "connecting = ", Call(f"{module}.{node.name}", arguments))
        yield "    return wrap(ClientDatabase, drive(connecting.open(SYNC)))"
    elif _returned(node) == "AsyncClient":
        made = Call("drive", (Call(f"opening.{node.name}", ("SYNC", *arguments)),))
        yield from _wrapped(4, "return ", Call("unwrap_client", (made,)))
    else:
        yield from _driven(4, node, Call(f"{module}.{node.name}", arguments))


def _driven(indent: int, node: Function, call: Call) -> Iterator[str]:
    """Runs a coroutine, and returns what it does."""
    returns = "return " if _returned(node) not in {"None", "Self"} else ""
    yield from _wrapped(indent, returns, Call("drive", (call,)))
    if _returned(node) == "Self":
        yield f"{' ' * indent}return self"


def _signature(indent: int, node: Function, after: str) -> Iterator[str]:
    arguments = node.args
    if arguments.posonlyargs or arguments.vararg or arguments.kwarg:
        raise ValueError(f"{node.name} has parameters of a kind that isn't copied")
    required = len(arguments.args) - len(arguments.defaults)
    items = list(map(_declared, arguments.args, [*[None] * required, *arguments.defaults]))
    if arguments.kwonlyargs:
        items += ["*", *map(_declared, arguments.kwonlyargs, arguments.kw_defaults)]
    declared = Call(_renamed(node.name), tuple(items))
    yield from _wrapped(indent, "def ", declared, f" -> {_renamed(_returned(node))}{after}")


def _declared(argument: ast.arg, default: ast.expr | None) -> str:
    kind = "" if argument.annotation is None else f": {_text(argument.annotation)}"
    return f"{argument.arg}{kind}" + ("" if default is None else f" = {_text(default)}")


def _arguments(node: Function, user: str) -> tuple[str, ...]:
    """The parameters, as they are passed on to the asynchronous function."""
    keywords = {argument.arg for argument in node.args.kwonlyargs}
    return tuple(
        (f"{argument.arg}=" if argument.arg in keywords else "") + _passed(argument, user)
        for argument in _all_arguments(node)
        if argument.arg != "self"
    )


def _passed(argument: ast.arg, user: str) -> str:
    kind = ast.unparse(argument.annotation) if argument.annotation else ""
    if kind in _WRAPPERS:
        return f'{_WRAPPERS[kind]}({argument.arg}, "{user}")'
    if kind in CLASSES.values():
        return f'unwrap("{argument.arg}", {argument.arg}, {_renamed(kind)})'
    return argument.arg


def _all_arguments(node: Function) -> list[ast.arg]:
    return [*node.args.args, *node.args.kwonlyargs]


def _decorators(node: Function) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


def _returned(node: Function) -> str:
    return ast.unparse(node.returns).replace("'", '"') if node.returns else ""


def _text(node: ast.expr) -> str:
    return _renamed(ast.unparse(node)).replace("'", '"')


def _renamed(text: str) -> str:
    """A name, or an expression, with synchronous names."""
    return re.sub(r"\w+", lambda word: _NAMES.get(word[0], word[0].removeprefix("Async")), text)


def _docstring(node: ast.ClassDef | Function, indent: int) -> Iterator[str]:
    text = ast.get_docstring(node)
    if text is None:
        return
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    paragraphs = (_without_loop(part, _WIDTH - indent) for part in text.split("\n\n"))
    lines = "\n\n".join(filter(None, paragraphs)).splitlines()
    yield f'{" " * indent}"""{lines[0]}' + ('"""' if len(lines) == 1 else "")
    for line in lines[1:]:
        yield " " * indent + line if line else ""
    if len(lines) > 1:
        yield " " * indent + '"""'


def _without_loop(paragraph: str, width: int) -> str:
    """A paragraph without what holds in an event loop only."""
    if not _LOOP_ONLY.search(paragraph):
        return paragraph
    sentences = re.split(r"(?<=\.) ", " ".join(paragraph.split()))
    return textwrap.fill(" ".join(s for s in sentences if not _LOOP_ONLY.search(s)), width)


def _imports(body: str, modules: dict[str, ast.Module]) -> Iterator[str]:
    """The imports that a text needs, sorted as ruff does."""
    origins = dict(_SUPPORT)
    type_origins: dict[str, str] = {}
    for name, module in modules.items():
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                origins[node.name] = f".{name}"
            elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                type_origins.update(pair for member in node.body for pair in _imported(member))
            else:
                origins.update(_imported(node))
    nodes = list(ast.walk(ast.parse(body)))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    # What is imported for type checkers only is named in quotes.
    quoted = {node.value for node in nodes if isinstance(node, ast.Constant)}
    for_types = _by_source(type_origins, quoted)
    wanted = _by_source(origins, used | ({"TYPE_CHECKING"} if for_types else set()))
    yield from (_import(source, wanted[source]) for source in sorted(wanted) if source[0] != ".")
    yield ""
    yield from (_import(source, wanted[source]) for source in sorted(wanted) if source[0] == ".")
    if for_types:
        yield "\nif TYPE_CHECKING:"
        yield from (f"    {_import(source, for_types[source])}" for source in sorted(for_types))


def _imported(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """The names that a statement imports from modules, and from which."""
    if isinstance(node, ast.ImportFrom):
        source = "." * node.level + (node.module or "")
        # Seen from sync.py, what a package names in full is beside it.
        source = source.replace("aqm_db.", ".", 1) if source.startswith("aqm_db.") else source
        yield from ((alias.name, source) for alias in node.names)


def _by_source(origins: dict[str, str], used: Collection[object]) -> dict[str, list[str]]:
    """By module: the names that are used of it."""
    wanted: dict[str, list[str]] = {}
    for name, source in origins.items():
        if name in used:
            wanted.setdefault(source, []).append(name)
    return wanted


def _import(source: str, names: list[str]) -> str:
    ordered = sorted(
        names, key=lambda name: (not name.isupper(), not name[0].isupper(), name.lower())
    )
    line = f"from {source} import {', '.join(ordered)}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"from {source} import (", *(f"    {name}," for name in ordered), ")"])


if __name__ == "__main__":
    sys.exit(main())
