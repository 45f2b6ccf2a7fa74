"""Stand-in for QuickBooks Time: OAuth, users, job codes and timesheets of companies."""
