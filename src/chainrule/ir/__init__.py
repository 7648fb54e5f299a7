"""The program: types, primitives and their registry, equations, checking, and text. Knows nothing of tracing or transforms."""
