"""Alerts: rules over figures in the database, and the incidents that they open."""
