"""Measures of a detector."""
