"""The base package: settings, clock, database, errors, logs, broker, crypto. Imports no other package."""
