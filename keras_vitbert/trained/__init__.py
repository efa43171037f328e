"""The one place that says what lies at a path, and opens it."""
