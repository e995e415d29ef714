"""YAML read safely, with the line of every entry kept for messages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

import yaml

from lrscale.recipe.problems import EntryPath, Problem, spelled

MAX_ENTRIES = 100_000
"""Entries of one document after aliases are followed; more is a document made to exhaust memory."""

_STANDARD = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_STANDARD}{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq"))
_MERGE = f"{_STANDARD}merge"


class _Loader(yaml.SafeLoader):
    """Reads numbers as Python and LightningCLI read them, and dates as text."""


# YAML 1.1, which PyYAML implements, wants a point and a signed exponent in a float: it reads 1e-3 as text. It also
# reads 1:30 as 90 and 010 as 8, which nobody means. Resolvers after YAML 1.2 (core schema, 10.3.2) replace both.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp) for tag, regexp in resolvers if tag.removeprefix(_STANDARD) not in ("float", "int", "timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes whatever text the loader, or plain YAML 1.1, would read as something else, for example ``1e3``."""


for _end in (_Loader, _Dumper):
    _end.add_implicit_resolver(
        f"{_STANDARD}float",
        re.compile(
            r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
            r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    )
    _end.add_implicit_resolver(
        f"{_STANDARD}int",
        re.compile(r"^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+|0b[01_]+)$"),
        list("-+0123456789"),
    )


def dump_yaml(value: Any, *, default_flow_style: bool | None = False) -> str:
    """Return plain values as YAML in their own order, which `read_yaml` reads back equal.

    Numbers keep every digit (Python's shortest exact form).

    Examples
    --------
    >>> print(dump_yaml({"device": "1e3", "lr": 1e-05}), end="")
    device: '1e3'
    lr: 1.0e-05
    """
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=110, default_flow_style=default_flow_style
    )
    return text


@final
@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document as plain values, with what is wrong in its form and where everything stands."""

    value: Any
    """Nested dicts, lists, strings, numbers, booleans and None."""
    lines: Mapping[EntryPath, int] = field(default_factory=lambda: MappingProxyType({}))
    """Line of every entry, counted from 1, by its path; the empty path is the document itself."""
    problems: tuple[Problem, ...] = ()
    """Syntax errors, duplicate keys, tags, and values that JSON cannot hold."""


def read_yaml(text: str) -> Document:
    r"""Read one YAML document without executing anything in it.

    Parameters
    ----------
    text : str
        The document. ``1e-3`` is a number; keys are text as written; a tag such as ``!!python/object`` is a problem.

    Returns
    -------
    Document
        With `value` None and one problem when the text is not YAML at all.

    Examples
    --------
    >>> document = read_yaml("lr: 1e-3\nlr: 2e-3")
    >>> document.value, document.problems[0].line, document.problems[0].message
    ({'lr': 0.002}, 2, 'lr is written twice, first on line 1')
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        reader = _Reader(loader)
        value = None if node is None else reader.read(node, ())
    except RecursionError:
        return Document(None, problems=(Problem("it is nested too deeply to be read"),))
    except yaml.MarkedYAMLError as error:
        return Document(None, problems=(_syntax_problem(error),))
    except yaml.reader.ReaderError as error:
        return Document(None, problems=(Problem(f"it is not text: {error.reason}", hint="write YAML as UTF-8"),))
    finally:
        if loader is not None:
            loader.dispose()
    return Document(value, MappingProxyType(reader.lines), tuple(reader.problems))


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    if "expected a single document" in str(error.context):
        return Problem("a second document begins with ---", line=line, hint="write one recipe a file")
    said = error.problem or error.context or "it cannot be parsed"
    hint = "indent with spaces" if "'\\t'" in said else None
    if str(error.context).startswith("while parsing a flow") and error.context_mark is not None:
        hint = f"close the bracket that is opened on line {error.context_mark.line + 1}"
    if "mapping values are not allowed" in said:
        hint = "put a value that contains a colon in quotes, and keep keys of one level equally indented"
    return Problem(f"this is not YAML: {said}", line=line, hint=hint)


class _Reader:
    """One walk over the nodes of a document."""

    def __init__(self, loader: _Loader) -> None:
        self.loader = loader
        self.lines: dict[EntryPath, int] = {}
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []

    def read(self, node: yaml.Node, path: EntryPath, line: int | None = None) -> Any:
        line = node.start_mark.line + 1 if line is None else line
        self.lines.setdefault(path, line)
        if len(self.lines) > MAX_ENTRIES:
            raise yaml.composer.ComposerError(
                None, None, f"aliases expand it to more than {MAX_ENTRIES} entries", node.start_mark
            )
        if any(node is outer for outer in self._open):
            self._complain(path, line, "contains itself through an alias")
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag in _PLAIN_TAGS:
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag in _PLAIN_TAGS:
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path, line)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: EntryPath) -> dict[str, Any]:
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                # The first of several merged mappings wins (YAML merge key, 2005 draft), so earlier ones go on top.
                merged = {**self._merged(value, path), **merged}
        seen: dict[str, int] = {}
        for key, value in own:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._complain(path, line, "has a key that is not text")
                continue
            name = str(key.value)
            inner = (*path, name)
            if name in seen:
                self._complain(inner, line, f"is written twice, first on line {seen[name]}")
            seen[name] = line
            self._forget(inner)
            merged[name] = self.read(value, inner, line)
        return merged

    def _merged(self, node: yaml.Node, path: EntryPath) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for part in parts:
            value = self.read(part, path)
            if not isinstance(value, dict):
                self._complain(path, part.start_mark.line + 1, "merges (<<) something that is not a mapping")
                continue
            found = {**value, **found}
        return found

    def _scalar(self, node: yaml.Node, path: EntryPath, line: int) -> Any:
        if node.tag not in _PLAIN_TAGS or not isinstance(node, yaml.ScalarNode):
            tag = node.tag.replace(_STANDARD, "!!")
            self._complain(path, line, f"has the tag {tag}, and a recipe runs no code", hint="write a plain value")
            return None
        try:
            value = self.loader.construct_object(node)
        except (ValueError, yaml.constructor.ConstructorError):
            self._complain(path, line, f"cannot be read as {node.tag.removeprefix(_STANDARD)}: {node.value!r}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._complain(path, line, f"must be finite, not {node.value}")
            return None
        return value

    def _forget(self, path: EntryPath) -> None:
        for known in [known for known in self.lines if known[: len(path)] == path]:
            del self.lines[known]

    def _complain(self, path: EntryPath, line: int, what: str, *, hint: str | None = None) -> None:
        self.problems.append(Problem(f"{spelled(path)} {what}", line=line, path=path, hint=hint))
