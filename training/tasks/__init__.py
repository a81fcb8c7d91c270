"""Multiple-choice tasks through lm-eval: which there are, local files, how one is asked, the run, the results."""
