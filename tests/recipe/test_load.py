from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lrscale.errors import RecipeError
from lrscale.recipe import Recipe, builtin_recipes, compare_recipes, load_recipe, parse_recipe, recipe_json_schema
from lrscale.recipe.changes import ABSENT, Change
from lrscale.units import Duration

BASE = "name: demo\ntask:\n  model: {class_path: shop.Net}\n"


@pytest.mark.parametrize("name", sorted(builtin_recipes()))
def test_every_builtin_recipe_loads_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.experiments.scaling is not None
    assert 20 <= len(builtin_recipes()[name].description) <= 120


@pytest.mark.parametrize("name", sorted(builtin_recipes()))
def test_a_dump_makes_the_same_recipe(name: str) -> None:
    recipe = load_recipe(name)
    plain = json.loads(json.dumps(recipe.dump(), allow_nan=False))
    assert Recipe.model_validate(plain) == recipe
    assert compare_recipes(plain, recipe.dump()) == []


def test_short_forms_mean_their_long_forms() -> None:
    scaling = "scaling: {batch_sizes: [16], horizon: 1k examples, schedule: wsd}"
    short = parse_recipe(f"{BASE}experiments: {{{scaling}, schedules: [cosine, wsd], throughput: true}}\n")
    long = parse_recipe(
        f"{BASE}experiments: {{{scaling.replace('wsd', '{name: wsd, settings: {decay_fraction: 0.2}}')}, "
        "range_test: {}, throughput: {}, schedules: {schedules: [{name: cosine}, {name: wsd, settings: {}}]}}\n"
    )
    assert short == long


@pytest.mark.parametrize("off", ["null", "false", "~", ""])
def test_null_or_false_turns_an_experiment_off(off: str) -> None:
    recipe = parse_recipe(f"{BASE}experiments:\n  range_test: {off}\n  throughput: {{}}\n")
    assert recipe.experiments.range_test is None
    assert recipe.experiments.throughput is not None


@pytest.mark.parametrize(
    ("written", "riding"),
    [
        ("", {"budget": 0.015, "preconditioned_every": 5, "parts": 4}),
        ("instruments:\n  noise_scale: true\n", {"budget": 0.015, "preconditioned_every": 5, "parts": 4}),
        ("instruments: {noise_scale: {budget: 0.1, preconditioned_every: null}}\n", {"budget": 0.1, "parts": 4}),
        ("instruments: {noise_scale: false}\n", None),
    ],
)
def test_the_noise_scale_rides_on_every_trial_unless_the_recipe_says_otherwise(
    written: str, riding: dict[str, float] | None
) -> None:
    recipe = parse_recipe(f"name: demo\ntask: {{model: {{class_path: shop.Net}}}}\n{written}")
    found = recipe.instruments.riding().get("noise_scale")
    assert found == (None if riding is None else {"preconditioned_every": None, **riding})


def test_an_empty_section_means_its_defaults() -> None:
    recipe = parse_recipe(f"{BASE}layout: {{trials_at_once: auto}}\n")
    assert (recipe.layout.trials_at_once, recipe.layout.at_once) == ("auto", 1)
    recipe = parse_recipe(f"{BASE}layout:\nexperiments:\ntarget:\n")
    assert recipe.layout.devices == 1
    assert recipe.experiments.range_test is not None
    assert recipe.target is None


def test_numbers_are_read_as_meant() -> None:
    recipe = parse_recipe(
        f"{BASE}experiments:\n  range_test: {{lr_min: 1e-6, lr_max: 1}}\n"
        "  scaling: {batch_sizes: [1e2, 256], horizon: 1.5k examples, learning_rates: [1e-3, 3e-3]}\n"
    )
    scaling, range_test = recipe.experiments.scaling, recipe.experiments.range_test
    assert scaling is not None
    assert range_test is not None
    assert (range_test.lr_min, range_test.lr_max) == (1e-6, 1.0)
    assert scaling.batch_sizes == (100, 256)
    assert scaling.horizon == Duration(1500, "examples")
    assert scaling.learning_rates == (1e-3, 3e-3)


def test_a_recipe_is_frozen() -> None:
    recipe = parse_recipe(BASE)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]  # the point of the test


def test_the_recipe_knows_its_folder_its_text_and_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE)
    recipe = load_recipe(path)
    assert recipe.root == tmp_path.resolve()
    assert recipe.text == BASE
    assert recipe.where("task", "model", "class_path") == "mine.yaml line 3: task.model.class_path"
    assert "root" not in recipe.dump()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02}q\x00.", "mine.yaml is not text (byte 0); write YAML as UTF-8"),
        (b"PK\x03\x04\x00\x00", "mine.yaml is a binary file; write YAML as UTF-8"),
        (b"name: \x01x", "mine.yaml: it is not text: special characters are not allowed; write YAML as UTF-8"),
        (b"", "mine.yaml is empty; write one: lrscale init"),
        (b"# only a comment\n", "mine.yaml is empty; write one: lrscale init"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == said


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_recipe(path).name == "demo"


def test_a_missing_recipe_names_the_nearest_and_lists_the_builtin_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe digit: .*did you mean digits\? \(built-in recipes: byte-gpt"):
        load_recipe("digit")
    (tmp_path / "first.yaml").write_text(BASE)
    with pytest.raises(RecipeError, match=r"did you mean first\.yaml\?"):
        load_recipe(tmp_path / "frist.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)


def test_a_folder_does_not_hide_a_builtin_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("digits").name == "digits"


def test_a_config_enters_the_task_with_the_hash_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "cli.yaml").write_text("model: {}\n")
    (tmp_path / "mine.yaml").write_text("name: demo\ntask: {config: cli.yaml, cli: 'shop.cli:ShopCLI'}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    before = recipe.task.resolved(recipe.root)
    (tmp_path / "cli.yaml").write_text("model: {a: 1}\n")
    after = recipe.task.resolved(recipe.root)
    assert json.loads(json.dumps(before)) == before
    assert before["config"] == "cli.yaml"
    assert before["config_sha256"] != after["config_sha256"]
    (tmp_path / "cli.yaml").unlink()
    with pytest.raises(RecipeError, match="cannot read"):
        recipe.task.resolved(recipe.root)


def test_two_spellings_of_one_schedule_are_equal() -> None:
    head = f"{BASE}experiments:\n  scaling: {{batch_sizes: [8], horizon: 1k examples, schedule: "
    plain = parse_recipe(f"{head}cosine}}\n")
    spelled = parse_recipe(f"{head}{{name: cosine, settings: {{final_factor: 0.0}}}}}}\n")
    assert plain == spelled


def test_changes_are_named_by_path() -> None:
    old = load_recipe("digits").dump()
    new = load_recipe("digits", ["experiments.scaling.seeds=55", "task.monitor=null", "seed=7"]).dump()
    changes = {change.path: change for change in compare_recipes(old, new)}
    seeds = old["experiments"]["scaling"]["seeds"]
    assert changes["experiments.scaling.seeds"] == Change("experiments.scaling.seeds", seeds, 55)
    assert str(changes["task.monitor"]) == "task.monitor: val_loss -> None"
    assert changes["seed"].new == 7
    assert len(changes) == 3
    assert compare_recipes({"a": 1}, {}) == [Change("a", 1, ABSENT)]
    assert compare_recipes({"a": 1}, {"a": True}) != []


def test_the_editor_schema_knows_every_field_and_its_meaning() -> None:
    schema = recipe_json_schema()
    assert schema["additionalProperties"] is False
    for name, part in {**schema["$defs"], "Recipe": schema}.items():
        for field, entry in part["properties"].items():
            assert entry.get("description"), f"{name}.{field} is not described"
    json.dumps(schema, allow_nan=False)


def test_the_editor_schema_takes_the_short_forms_of_schedulers_and_optimizers() -> None:
    properties = recipe_json_schema()["$defs"]["ScheduleComparison"]["properties"]
    for name in ("schedules", "optimizers"):
        forms = properties[name]["items"]["anyOf"]
        assert any(form.get("type") == "string" or "enum" in form for form in forms)
        assert any(form.get("required") == ["class_path"] for form in forms)
    assert "lion" in properties["optimizers"]["items"]["anyOf"][0]["enum"]


def test_loading_a_recipe_imports_no_heavy_package() -> None:
    code = (
        "import sys; from lrscale.recipe import load_recipe; load_recipe('digits');"
        "print([name for name in ('torch', 'lightning', 'pytorch_lightning', 'numpy', 'pandas', 'scipy')"
        " if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
