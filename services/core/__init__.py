"""Ground: settings, clock, database, errors, logs, broker, crypto. Imports nothing above it."""
