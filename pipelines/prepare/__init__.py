"""Prepares data: raw Wikipedia, books and images become records, on many cores or machines."""
