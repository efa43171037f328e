"""Jobs that make sharded data on many cores or machines, and resume where they were stopped."""
