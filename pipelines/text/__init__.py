"""Text: from dumps and books to documents, word pieces and BERT's pre-training examples."""
