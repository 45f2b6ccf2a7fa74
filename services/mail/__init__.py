"""Composes mails, stores them in the outbox and sends each one once through a transport."""
