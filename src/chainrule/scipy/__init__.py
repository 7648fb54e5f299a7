"""SciPy's functions, differentiable: what `import scipy` reaches through NumPy's protocols, and the namespaces called directly."""

from chainrule.scipy import fft, interpolate, linalg, signal, spatial, special, stats, updates

__all__ = ["fft", "interpolate", "linalg", "signal", "spatial", "special", "stats", "updates"]
