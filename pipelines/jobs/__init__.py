"""Jobs that make sharded data on many cores or machines, and go on where they were stopped."""
