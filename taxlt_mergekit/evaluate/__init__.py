"""Scoring classification heads in lm-eval: its model, its tasks, and a model that stays in memory."""
