"""Remember: inbound events and work. The truth about what was accepted and what became of it."""
