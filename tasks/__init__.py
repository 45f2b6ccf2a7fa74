"""What workers do: thin Celery tasks, one module per queue. The app is in ``tasks.celery``."""
