"""Runs that are killed at random must end like runs that are left alone: ``python -m tests.soak``."""
