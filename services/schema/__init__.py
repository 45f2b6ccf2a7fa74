"""The database's shape: every table in one place, and the migrations that lead there."""
