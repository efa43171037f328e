"""Above the core, used by single commands: figures, tables, the demo, the compiler's verdict."""
