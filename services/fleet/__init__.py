"""The fleet on one machine: its embedded servers and its supervisor."""
