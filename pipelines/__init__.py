"""Floor 2: from a corpus to a ranked, immutable token store, and the plan that views it. Ray only in the stage runner."""
