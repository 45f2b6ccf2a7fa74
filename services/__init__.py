"""The work: plain Python that knows neither Celery nor, outside ingress and console, Flask."""
