"""JSON schemas of specs: one `$defs` entry per registered kind, also where kinds contain each other."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from segexplorer.core.spec import PLACEHOLDER


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model with one `$defs` entry per kind registered *now*.

    A late-bound field refers to `#/$defs/<family>`, which lists the family's kinds, so a `weighted_sum` may
    hold a `weighted_sum` without the schema recursing.
    """
    from segexplorer.core.registry import families

    definitions: dict[str, Any] = {}
    schema = _hoisted(model, definitions)
    pending = True
    while pending:
        pending = False
        for family, registry in families().items():
            if family in definitions or not _refers_to(f"#/$defs/{family}", [schema, definitions]):
                continue
            pending = True
            kinds = registry.specs()
            definitions[family] = {
                "oneOf": [
                    *({"$ref": f"#/$defs/{family}.{kind}"} for kind in kinds),
                    {"type": "string", "enum": [*kinds, *registry.presets()]},  # a bare name
                ],
                "discriminator": {
                    "propertyName": "kind",
                    "mapping": {kind: f"#/$defs/{family}.{kind}" for kind in kinds},
                },
            }
            for kind, spec in kinds.items():
                entry = _hoisted(spec, definitions)
                entry["required"] = sorted({"kind", *entry.get("required", [])})
                definitions[f"{family}.{kind}"] = entry
    schema["$defs"] = dict(sorted(definitions.items()))
    return schema


def _hoisted(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _resolved(model.model_json_schema())
    definitions.update(schema.pop("$defs", {}))
    return dict(schema)


def _resolved(tree: Any) -> Any:
    if isinstance(tree, dict):
        family = tree.get(PLACEHOLDER)
        rest = {k: _resolved(v) for k, v in tree.items() if k != PLACEHOLDER}
        return rest if family is None else {**rest, "$ref": f"#/$defs/{family}"}
    return [_resolved(v) for v in tree] if isinstance(tree, list) else tree


def _refers_to(reference: str, tree: Any) -> bool:
    if isinstance(tree, dict):
        return tree.get("$ref") == reference or any(_refers_to(reference, v) for v in tree.values())
    if isinstance(tree, list):
        return any(_refers_to(reference, v) for v in tree)
    return False
