"""Metered costs of each shop (AI, SMS), their monthly limits, and what happens at the limits."""
