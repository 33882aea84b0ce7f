"""Finds the mistakes in what `gen` and `select` are told: settings, types, options."""

from collections.abc import Mapping
from typing import Any, cast

from ramet.domains import Domain, checked, one_of
from ramet.errors import ParameterError, Span, near_miss
from ramet.nodes import GEN_ATTRIBUTES, METHODS
from ramet.params import SAMPLING_FIELDS, SEED, TEMPERATURE, SamplingParams
from ramet.syntax import tree
from ramet.syntax.check_expressions import Expressions
from ramet.syntax.evaluate import constant
from ramet.syntax.kinds import ANY, Generated, Kind, Names, Parsed
from ramet.syntax.source import Source
from ramet.syntax.tree import Expr, Setting
from ramet.types import KINDS, PLAIN, Type, json_type

_SELECT_SETTINGS: dict[str, Domain] = {
    "by": one_of(METHODS),
    "temperature": TEMPERATURE,
    "seed": SEED,
}
_SOURCES = {
    "regex": 'regex(r"[a-z]+")',
    "json": 'json({"type": "object"})',
    "grammar": 'grammar(r"""start: ...""")',
    "choice": 'choice(["yes", "no"])',
}


class Settings:
    """Checks the settings of one source."""

    def __init__(self, source: Source, expressions: Expressions) -> None:
        self._source = source
        self._expressions = expressions

    def _wrong(self, span: Span, message: str) -> None:
        self._source.mistake(span, message)

    def gen(self, line: tree.Gen, names: Names, *, branches: bool) -> Kind:
        """The kind of value that it binds."""
        if line.type is not None:
            self._type(line.type, names)
        constants: dict[str, object] = {}
        for setting in line.settings:
            self._expressions.kind(setting.value, names)
            if setting.name not in SAMPLING_FIELDS:
                hint = near_miss(setting.name, SAMPLING_FIELDS)
                self._wrong(setting.span, f"gen has no setting {setting.name!r}{hint}")
            elif (found := constant(setting.value)) is not None:
                domain: Domain = SAMPLING_FIELDS[setting.name].metadata["domain"]
                if self._in_domain(setting, found[0], domain):
                    constants[setting.name] = found[0]
        if len(constants) == len(line.settings):
            self._together(line, constants)
        if line.type is not None and line.type.name == "json":
            return Parsed(_keys(line.type.argument))
        if "n" in constants or not any(each.name == "n" for each in line.settings) or branches:
            return Generated("a gen", GEN_ATTRIBUTES)
        return ANY

    def _together(self, line: tree.Gen, constants: Mapping[str, object]) -> None:
        try:
            SamplingParams.from_dict(constants)
        except ParameterError as error:
            named = (s.value.span for s in line.settings if s.name == error.field)
            self._wrong(next(named, line.span), error.message)

    def _in_domain(self, setting: Setting, value: object, domain: Domain) -> bool:
        try:
            checked(setting.name, value, domain)
        except ParameterError as error:
            self._wrong(setting.value.span, error.message)
            return False
        return True

    def _type(self, kind: tree.TypeOf, names: Names) -> None:
        known = ("str", *KINDS)
        if kind.name not in known:
            hint = near_miss(kind.name, known)
            self._wrong(kind.span, f"{kind.name!r} is no type ({', '.join(known)}){hint}")
            return
        plain = kind.name in ("str", *PLAIN)
        if kind.argument is None:
            if not plain:
                self._wrong(
                    kind.span, f"the type {kind.name} needs its source: {_SOURCES[kind.name]}"
                )
            return
        self._expressions.kind(kind.argument, names)
        if plain:
            self._wrong(kind.argument.span, f"the type {kind.name} takes nothing")
        elif (found := constant(kind.argument)) is None:
            return
        elif kind.name == "choice":
            self._options("choice", found[0], kind.argument)
        else:
            self._source_of(kind, found[0], kind.argument.span)

    def _source_of(self, kind: tree.TypeOf, value: object, span: Span) -> None:
        try:
            if kind.name == "json":
                if not isinstance(value, dict | bool | str):
                    self._wrong(span, "a JSON schema is a map, true or false")
                else:
                    json_type(value)
            elif not isinstance(value, str):
                self._wrong(span, f"{kind.name} takes a text")
            else:
                Type("regex" if kind.name == "regex" else "grammar", value)
        except ParameterError as error:
            self._wrong(span, error.message)

    def select(self, line: tree.Select, names: Names) -> None:
        self._expressions.kind(line.options, names)
        found = constant(line.options)
        if found is not None:
            self._options("select", found[0], line.options)
        for setting in line.settings:
            self._expressions.kind(setting.value, names)
            if setting.name not in _SELECT_SETTINGS:
                hint = near_miss(setting.name, _SELECT_SETTINGS)
                self._wrong(setting.span, f"select has no setting {setting.name!r}{hint}")
            elif (value := constant(setting.value)) is not None:
                self._in_domain(setting, value[0], _SELECT_SETTINGS[setting.name])

    def _options(self, what: str, options: object, expr: Expr) -> None:
        if not isinstance(options, list):
            self._wrong(expr.span, f"{what} takes a list of options")
            return
        if not options:
            self._wrong(expr.span, f"{what} needs at least one option")
        spans = [each.span for each in expr.items] if isinstance(expr, tree.ListOf) else None
        seen: set[str] = set()
        for at, option in enumerate(options):
            span = spans[at] if spans is not None else expr.span
            if not isinstance(option, str):
                self._wrong(span, "an option is a text")
            elif option == "":
                self._wrong(span, "an option is empty")
            elif option in seen:
                self._wrong(span, f"the option {option[:40]!r} is there twice")
            else:
                seen.add(option)


def _keys(schema: Expr | None) -> frozenset[str]:
    """The keys that a schema names for an object, as far as it is a constant."""
    found = None if schema is None else constant(schema)
    properties: Any = found[0] if found is not None else None
    if isinstance(properties, dict):
        properties = cast("dict[str, Any]", properties).get("properties")
    return frozenset(properties) if isinstance(properties, dict) else frozenset()
