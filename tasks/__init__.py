"""Celery: the app, the tasks of workers and beat, Flower, and the subcommands of ``celery``."""
