"""The three mandatory privacy topics: export and redaction of a customer, erasure of a shop."""
