"""Trainings that are run to measure something."""
