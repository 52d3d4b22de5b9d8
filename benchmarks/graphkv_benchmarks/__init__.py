"""Runners, tasks and readers of data sets: task × strategy × model → rows."""
