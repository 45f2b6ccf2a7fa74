"""The fleet on one machine: embedded servers, supervisor, command."""
