"""The networks: backbone, embeddings, heads, and the transfer of weights between them."""
