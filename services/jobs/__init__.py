"""Periodic jobs: plans due runs, runs them, and records their results."""
