"""Functions that write to a database and tell a queue, a cache or an index of it by a second write.

When the process dies between the two, or the second fails, one has what the other has not, for
good. The way out is one write: the event is a row of an outbox, in the transaction of the data.

A function is judged by what it calls, functions of its own module included. Writing to an outbox is
no second write, and neither is a relay that sends the outbox's rows and marks them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lakebed.audit.findings import Finding

PATTERNS = ["pat-outbox-cdc"]

RULE = "dual-write"
#: On the line of the function, with the reason behind it: it is known, and meant.
IGNORE = "lakebed: ignore dual-write"

_WRITES = re.compile(
    r"\s*(?:with\b.*\)\s*)?(?:insert\s+into|update|delete\s+from|merge\s+into|replace\s+into|copy)"
    r"\s+(?:only\s+)?[`\"\[]?([\w.]+)",
    re.IGNORECASE | re.DOTALL,
)
_EXECUTES = {"execute", "executemany", "execute_batch", "execute_values", "mogrify", "fetchval"}
#: Methods that write, by what they are called on: a session of an ORM, or a manager of models.
_DATABASE = re.compile(r"(^|_)(db|database|session|conn|connection|cursor|repo|repository|dao)$")
_STORES = {"add", "add_all", "insert", "insert_one", "insert_many", "merge", "save", "upsert"}
_STORES |= {"update", "update_one", "bulk_save_objects", "bulk_insert_mappings", "persist"}
_MANAGER = {"create", "bulk_create", "update_or_create", "get_or_create", "bulk_update"}
#: What sends, wherever it is called; and what does when it is called on something with such a name.
#: Not `put`: a queue that has it is mostly one between threads.
_SENDS = {"produce", "send_and_wait", "basic_publish", "put_record", "put_records", "put_events"}
_SENDS |= {"publish_batch", "send_messages", "sendmail"}
_TELLS = {"send", "publish", "send_message", "emit", "enqueue", "xadd", "lpush", "rpush"}
_TELLS |= {"set", "hset", "setex", "index", "add_documents", "notify"}
_OUTSIDE = re.compile(
    r"(^|_)(kafka|producer|publisher|queue|topic|broker|bus|sns|sqs|kinesis|rabbit|amqp|channel|"
    r"pubsub|nats|redis|cache|memcached?|elastic|elasticsearch|es|opensearch|search_index)"
    r"(_?(client|producer|publisher|queue|topic|bus|conn|connection))?$"
)
_OUTBOX = re.compile(r"outbox", re.IGNORECASE)


@dataclass(frozen=True)
class _Deed:
    """A call that writes or sends: where, and what it says."""

    line: int
    text: str


@dataclass
class _Function:
    """What a function does itself, and whom of its module it calls."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    writes: _Deed | None = None
    sends: _Deed | None = None
    calls: tuple[tuple[str, int], ...] = ()


def find(file: Path) -> list[Finding]:
    """The dual writes in a Python file; none in one that is no Python."""
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return []
    functions = {each.node.name: each for each in _functions(tree)}
    lines = text.splitlines()
    found = []
    for name, function in functions.items():
        writes = _deed("writes", name, functions)
        sends = _deed("sends", name, functions)
        # Of a chain of calls the innermost function that does both is the one to mend.
        if not writes or not sends or _inner(name, functions):
            continue
        line = function.node.lineno
        if IGNORE in lines[line - 1]:
            continue
        found.append(
            Finding(
                file,
                line,
                RULE,
                "critical",
                f"{name} writes to a database (line {writes.line}: {writes.text}) and tells another"
                f" system (line {sends.line}: {sends.text}); when it dies between the two, or one "
                "fails, they differ for good. Write the event into an outbox, in the same "
                "transaction, and let `lakebed capture` or a relay send it.",
                "pat-outbox-cdc",
            )
        )
    return found


def _functions(tree: ast.Module) -> Iterator[_Function]:
    """All functions and methods; of two with one name the last counts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = _Function(node)
            calls = []
            for call in _calls(node):
                name = _name(call.func)
                if _writes(call):
                    function.writes = function.writes or _told(call)
                elif _sends(call):
                    function.sends = function.sends or _told(call)
                elif name and (isinstance(call.func, ast.Name) or _owner(call) in ("self", "cls")):
                    calls.append((name, call.lineno))
            function.calls = tuple(calls)
            yield function


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    """Calls in a function, not those in functions that are defined in it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting += ast.iter_child_nodes(node)


def _deed(
    kind: str, name: str, functions: Mapping[str, _Function], seen: frozenset[str] = frozenset()
) -> _Deed | None:
    """What a function does, itself or by those that it calls, at its own line."""
    function = functions[name]
    own: _Deed | None = getattr(function, kind)
    if own:
        return own
    for called, line in function.calls:
        if (
            called in functions
            and called not in seen
            and (deed := _deed(kind, called, functions, seen | {name}))
        ):
            return _Deed(line, f"{called}, {deed.text}")
    return None


def _inner(name: str, functions: Mapping[str, _Function]) -> bool:
    """Whether it does nothing itself, but calls one that does both."""
    function = functions[name]
    return not (function.writes or function.sends) and any(
        called in functions
        and called != name
        and _deed("writes", called, functions)
        and _deed("sends", called, functions)
        for called, _ in function.calls
    )


def _writes(call: ast.Call) -> bool:
    name, owner = _name(call.func), _owner(call)
    if name in _EXECUTES:
        table = _WRITES.match(_text(call.args[0])) if call.args else None
        return table is not None and not _OUTBOX.search(table[1])
    if any(_OUTBOX.search(ast.unparse(each)) for each in call.args):
        return False
    if name in _STORES and _DATABASE.search(owner.lower()):
        return True
    return (name in _MANAGER and owner == "objects") and not _OUTBOX.search(ast.unparse(call.func))


def _sends(call: ast.Call) -> bool:
    name, owner = _name(call.func), _owner(call).lower()
    return name in _SENDS or (name in _TELLS and bool(_OUTSIDE.search(owner)))


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _owner(call: ast.Call) -> str:
    """The last name of what a method is called on: `producer` of `self.producer.send(...)`."""
    node = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(node, ast.Call):
        node = node.func
    return "" if node is None else _name(node).lstrip("_")


def _text(node: ast.expr) -> str:
    """The text of a literal, an f-string (its fixed parts) or `text("...")` around one."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(each) if isinstance(each, ast.Constant) else "x" for each in node.values
        )
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return _text(node.args[0]) if isinstance(node, ast.Call) and node.args else ""


def _told(call: ast.Call) -> _Deed:
    return _Deed(call.lineno, " ".join(ast.unparse(call.func).split())[:60])
