"""The JSON schema of a results file, derived from the classes that are stored.

``python -m semantic.adapters.reports.results_schema > docs/results-schema.json`` writes it anew.
"""

import json
import re
import types
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from semantic.adapters.reports.json_store import SCHEMA, VERSION
from semantic.domain.experiments import Parameter, ResultsDocument

_DESCRIBED = re.compile(r"((?:``\w+``(?:, )?)+): (.+)")

_FLOAT = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
_PLAIN: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: _FLOAT,
    str: {"type": "string"},
}


def results_schema() -> dict[str, Any]:
    """As JSON Schema, draft 2020-12. Unknown fields are allowed: a later writer of this version may add some."""
    definitions: dict[str, Any] = {}
    document = _object(ResultsDocument, definitions)
    document["properties"] = {"schema": {"const": SCHEMA}, "version": {"const": VERSION}, **document["properties"]}
    document["required"] = ["schema", "version", *document["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{SCHEMA}, version {VERSION}",
        **document,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: type[attrs.AttrsInstance], definitions: dict[str, Any]) -> dict[str, Any]:
    hints, told = get_type_hints(kind), _descriptions(kind)
    fields = attrs.fields(kind)
    properties = {}
    for field in fields:
        schema = _schema(hints[field.name], definitions)
        properties[field.name] = {**schema, "description": told[field.name]} if field.name in told else schema
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`"),
        "properties": properties,
        "required": [field.name for field in fields if field.default is attrs.NOTHING],
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if kind == Parameter:
        return {"type": ["number", "string", "boolean", "array"]}
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and attrs.has(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return _generic(kind, definitions)


def _generic(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if part is type(None) else _schema(part, definitions) for part in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    raise TypeError(f"{kind} has no JSON schema; add it here, or store something else")


def _descriptions(kind: type) -> dict[str, str]:
    """From the bullets of a docstring: ``- ``name``, ``other``: what they are; ``third``: what it is``."""
    told = {}
    for bullet in re.split(r"\n\s*(?=- ``|\n)", kind.__doc__ or ""):
        for part in re.split(r"; (?=``\w+``(?:, ``\w+``)*:)", " ".join(bullet.split()).removeprefix("- ")):
            described = _DESCRIBED.fullmatch(part)
            if bullet.lstrip().startswith("- ") and described:
                text = described[2].replace("``", "`")
                told.update(dict.fromkeys(re.findall(r"\w+", described[1]), text))
    return told


if __name__ == "__main__":
    print(json.dumps(results_schema(), indent=1, ensure_ascii=False))
