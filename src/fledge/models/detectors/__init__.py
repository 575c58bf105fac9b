"""Detectors, each a short essay."""
