"""A JSON schema of recipes, so that editors complete and check them while they are written."""

from __future__ import annotations

from typing import Any

from lrscale.batch_schedules import BATCH_SCHEDULES
from lrscale.companions import COMPANIONS
from lrscale.recipe.choices import INTERVALS, MODULE
from lrscale.recipe.engines import NO_PRUNER
from lrscale.recipe.optimizers import OPTIMIZERS
from lrscale.recipe.schema import Recipe
from lrscale.stoppers import STOPPERS


def recipe_json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a recipe as people write it, short forms included.

    Examples
    --------
    >>> recipe_json_schema()["required"]
    ['name', 'task']
    """
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    parts = schema["$defs"]
    for entry in parts["Experiments"]["properties"].values():
        entry["anyOf"] = [*entry.get("anyOf", [{"$ref": entry.pop("$ref", None)}]), {"type": "boolean"}]
    for entry in parts["Instruments"]["properties"].values():
        entry["anyOf"] = [*entry["anyOf"], {"type": "boolean"}]
    logger = schema["properties"]["logger"]
    several = {name: logger.pop(name) for name in ("type", "items")}
    logger["anyOf"] = [{"$ref": "#/$defs/ClassEntry"}, several]
    warmup = {name: parts["ScheduleChoice"]["properties"][name] for name in ("warmup", "warmup_shape")}
    scheduler = {
        "type": "object",
        "properties": {
            "class_path": {"type": "string"},
            "init_args": {"type": "object"},
            "interval": {"enum": list(INTERVALS)},
            **warmup,
        },
        "required": ["class_path"],
        "additionalProperties": False,
    }
    choice = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/ScheduleChoice"}, scheduler]}
    comparison = parts["Experiments"]["properties"]["schedules"]
    compared = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/ComparedSchedule"}, scheduler]}
    comparison["anyOf"] = [*comparison["anyOf"], {"type": "array", "items": compared, "minItems": 1}]
    parts["ScheduleComparison"]["properties"]["schedules"]["items"] = compared
    grown = parts["ComparedSchedule"]["properties"]["batch_schedule"]
    grown["anyOf"] = [{"enum": list(BATCH_SCHEDULES)}, *grown["anyOf"]]
    optimizer = {"class_path": {"type": "string"}, "init_args": {"type": "object"}}
    parts["ScheduleComparison"]["properties"]["optimizers"]["items"] = {
        "anyOf": [
            {"enum": [MODULE, *OPTIMIZERS]},
            {"$ref": "#/$defs/OptimizerChoice"},
            {"type": "object", "properties": optimizer, "required": ["class_path"], "additionalProperties": False},
        ]
    }
    policies = parts["Scaling"]["properties"]["companions"]
    policies["items"] = {"type": "string", "enum": list(COMPANIONS)}
    rest = {"description": policies.pop("description", "")}
    parts["Scaling"]["properties"]["companions"] = {"anyOf": [policies["items"], policies], **rest}
    engine = parts["Search"]["properties"]["engine"]
    parts["Search"]["properties"]["engine"] = {
        "anyOf": [{"enum": list(engine["discriminator"]["mapping"])}, *engine["oneOf"]],
        "description": engine["description"],
    }
    pruner = parts["OptunaEngine"]["properties"]["pruner"]
    rules = {"enum": [NO_PRUNER, *STOPPERS]}
    parts["OptunaEngine"]["properties"]["pruner"] = {
        "anyOf": [rules, {"$ref": "#/$defs/PrunerChoice"}],
        "description": pruner["description"],
    }
    for name in ("Scaling", "NoiseScale"):
        entry = parts[name]["properties"]["schedule"]
        parts[name]["properties"]["schedule"] = {**choice, "description": entry.get("description", "")}
    return schema
