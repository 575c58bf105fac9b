"""Comparing methods honestly: paired runs over seeds, and what they allow to be said."""
