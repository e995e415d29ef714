"""Recipes: what the user wrote, validated before anything runs."""

from lrscale.recipe.builtin import BuiltinRecipe as BuiltinRecipe
from lrscale.recipe.builtin import builtin_recipes as builtin_recipes
from lrscale.recipe.changes import ABSENT as ABSENT
from lrscale.recipe.changes import Change as Change
from lrscale.recipe.changes import compare_recipes as compare_recipes
from lrscale.recipe.editor import recipe_json_schema as recipe_json_schema
from lrscale.recipe.experiments import Experiments as Experiments
from lrscale.recipe.experiments import Memory as Memory
from lrscale.recipe.experiments import NoiseScale as NoiseScale
from lrscale.recipe.experiments import RangeTest as RangeTest
from lrscale.recipe.experiments import Scaling as Scaling
from lrscale.recipe.experiments import ScheduleChoice as ScheduleChoice
from lrscale.recipe.experiments import ScheduleComparison as ScheduleComparison
from lrscale.recipe.experiments import Target as Target
from lrscale.recipe.experiments import Throughput as Throughput
from lrscale.recipe.instruments import Instruments as Instruments
from lrscale.recipe.load import find_recipe as find_recipe
from lrscale.recipe.load import load_recipe as load_recipe
from lrscale.recipe.load import parse_recipe as parse_recipe
from lrscale.recipe.schema import LayoutSettings as LayoutSettings
from lrscale.recipe.schema import Recipe as Recipe
from lrscale.recipe.task import ClassEntry as ClassEntry
from lrscale.recipe.task import Task as Task
