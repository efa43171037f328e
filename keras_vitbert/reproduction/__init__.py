"""The paper's tables and figures: what is run for them, what came out, and what that says."""
