"""What tests of native code share."""

import threading

import numpy as np
import pytest


@pytest.fixture
def agree_in_threads():
    """A check that a compiled function gives what another gives at each of some points, asked many times in a thread a point."""

    def check(fast, plain, points, rtol=1e-10):
        wrong = []

        def work(point):
            wanted = plain(point)
            wrong.extend(point for _ in range(50) if not np.allclose(fast(point), wanted, rtol=rtol))

        threads = [threading.Thread(target=work, args=(p,)) for p in points]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong

    return check
