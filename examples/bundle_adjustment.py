"""Bundle adjustment: cameras and points from where the points appear in the pictures. Plain vectorised NumPy.

    python examples/bundle_adjustment.py
    chainrule report examples/bundle_adjustment.py:residuals

A camera has nine numbers, as in the benchmark "Bundle adjustment in the large" (Agarwal et al. 2010): a rotation vector, a
translation, the focal length and two coefficients of radial distortion.
"""

import numpy as np
from scipy.optimize import least_squares

import chainrule as cr

CAMERAS, POINTS, NOISE = 5, 40, 0.3  # the noise is in pixels


def rotate(vectors, points):
    """Rodrigues' formula: each point turned about a vector, by its length as the angle."""
    angle = np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
    axis = vectors / angle
    along = np.sum(axis * points, axis=1, keepdims=True)
    return points * np.cos(angle) + np.cross(axis, points) * np.sin(angle) + axis * along * (1 - np.cos(angle))


def project(cameras, points):
    """Where each point appears in the picture of its camera, in pixels."""
    seen = rotate(cameras[:, 0:3], points) + cameras[:, 3:6]
    flat = -seen[:, 0:2] / seen[:, 2:3]
    radius = np.sum(flat**2, axis=1, keepdims=True)
    distortion = 1 + cameras[:, 7:8] * radius + cameras[:, 8:9] * radius**2
    return cameras[:, 6:7] * distortion * flat


def make_scene(seed=0):
    """A cloud of points, cameras around it that see most of them, and what they measure."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 1, (POINTS, 3))
    angles = np.linspace(-0.6, 0.6, CAMERAS)
    turns = np.stack([0.1 * rng.normal(size=CAMERAS), angles, 0.1 * rng.normal(size=CAMERAS)], axis=1)
    places = np.stack([0.2 * rng.normal(size=CAMERAS), 0.2 * rng.normal(size=CAMERAS), np.full(CAMERAS, -8.0)], axis=1)
    lenses = np.stack(
        [rng.normal(500, 20, CAMERAS), rng.normal(0, 0.02, CAMERAS), rng.normal(0, 0.002, CAMERAS)], axis=1
    )
    cameras = np.concatenate([turns, places, lenses], axis=1)
    camera, point = np.nonzero(rng.random((CAMERAS, POINTS)) < 0.85)
    measured = project(cameras[camera], points[point]) + rng.normal(0, NOISE, (len(camera), 2))
    return cameras, points, camera, point, measured


true_cameras, true_points, camera_of, point_of, measured = make_scene()


def residuals(cameras, points):
    """How far each measurement is from where the point should appear; two numbers each."""
    return np.ravel(project(cameras[camera_of], points[point_of]) - measured)


def start(seed=1):
    """A first guess, as it would come from matching pictures in pairs."""
    rng = np.random.default_rng(seed)
    sizes = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05, 5.0, 0.005, 0.0005])
    return true_cameras + sizes * rng.normal(size=true_cameras.shape), true_points + 0.05 * rng.normal(
        size=true_points.shape
    )


def residuals_inputs():
    """What the report differentiates at."""
    return start()


def adjusted():
    """Cameras and points after Levenberg-Marquardt with chainrule's Jacobian, and the solver's own account."""
    cameras, points = start()
    split = cameras.size

    def unpack(x):
        return x[:split].reshape(cameras.shape), x[split:].reshape(points.shape)

    def f(x):
        return residuals(*unpack(x))

    x0 = np.concatenate([cameras.ravel(), points.ravel()])
    found = least_squares(f, x0, jac=cr.jacobian(f), method="trf", x_scale="jac", max_nfev=30)
    return (*unpack(found.x), found)


def root_mean_square(r):
    """The typical size of a residual, in pixels."""
    return float(np.sqrt(np.mean(r**2)))


def main():
    """Adjust the scene, and print how well it then fits."""
    print(f"{CAMERAS} cameras, {POINTS} points, {len(measured)} measurements: {9 * CAMERAS + 3 * POINTS} unknowns")
    print(f"before: {root_mean_square(residuals(*start())):.2f} pixels")
    cameras, points, found = adjusted()
    print(
        f"after:  {root_mean_square(residuals(cameras, points)):.2f} pixels, in {found.njev} Jacobians (noise: {NOISE} pixels)"
    )


if __name__ == "__main__":
    main()
