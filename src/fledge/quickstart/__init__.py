"""The main job from end to end: train a teacher, a student alone and the same student distilled; compare; use it."""

from fledge.quickstart.job import Result, quickstart

__all__ = ["Result", "quickstart"]
