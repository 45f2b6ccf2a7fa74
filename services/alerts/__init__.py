"""Alerts: rules on figures in the database, and the incidents that they open."""
