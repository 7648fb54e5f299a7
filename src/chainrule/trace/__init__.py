"""From the user's function to operations: tracers, NumPy's protocols, interception, recordings, and trees of arguments."""
