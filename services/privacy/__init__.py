"""The three mandatory privacy topics: who asks for their data, and who asks to be forgotten."""
