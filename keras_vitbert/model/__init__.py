"""The networks: backbone, embeddings, heads, and how weights go from one to another."""
