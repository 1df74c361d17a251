"""Which searches win by the clock: every search at several budgets on the same pools of paths, and its seconds."""
