"""The paper's tables and figures: the runs behind them, their results, and what these say."""
