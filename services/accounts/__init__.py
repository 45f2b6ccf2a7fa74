"""People who use the console: roles, sessions, locks of sign-in and API tokens."""
