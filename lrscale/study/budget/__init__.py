"""Budgets: what a study may spend, what it has spent, and which of its questions that answers."""

from lrscale.study.budget.allowance import Allowance as Allowance
