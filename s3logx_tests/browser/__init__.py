"""Tests that look at what people look at, through a real browser: the Dagster UI and the public report."""
