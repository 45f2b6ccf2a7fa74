"""Warn: rules over figures in the database, and the incidents they open."""
