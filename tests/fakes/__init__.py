"""Test doubles of other processes and services."""
