"""Trained detectors at work."""
