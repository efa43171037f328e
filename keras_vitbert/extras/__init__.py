"""What stands above the core and is used by single commands: figures, tables, the demo."""
