"""The fleet on one machine: its embedded servers, its supervisor, and the ``fleet`` command."""
