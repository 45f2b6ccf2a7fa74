"""Stand-in for Notion, API version 2026-03-11: data sources, pages and blocks of workspaces."""
