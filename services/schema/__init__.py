"""The database schema: all tables in one place, and the migrations."""
