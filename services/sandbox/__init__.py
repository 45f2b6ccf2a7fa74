"""A stand-in for the outside world on loopback: providers, a mail sink, payloads. Not for production."""
