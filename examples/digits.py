"""A classifier of handwritten digits: a network in plain NumPy, trained with the gradient that chainrule gives.

python examples/digits.py
chainrule report examples/digits.py:loss --out report.html
"""

import numpy as np
from sklearn.datasets import load_digits

import chainrule as cr

_digits = load_digits()
_order = np.random.default_rng(0).permutation(len(_digits.target))
images, labels = _digits.data[_order] / 16.0, _digits.target[_order]
train, test = slice(0, 1400), slice(1400, None)
batch = slice(0, 256)


def network(parameters, images):
    """The score of each of the ten digits, for each image: two layers."""
    hidden = np.tanh(images @ parameters["W1"] + parameters["b1"])
    return hidden @ parameters["W2"] + parameters["b2"]


def loss(parameters, images=images[batch], labels=labels[batch]):
    """The mean cross-entropy of the network's scores, and a little weight decay."""
    scores = network(parameters, images)
    top = np.max(scores, axis=1, keepdims=True)
    log_total = top[:, 0] + np.log(np.sum(np.exp(scores - top), axis=1))
    chosen = scores[np.arange(len(labels)), labels]
    decay = 1e-4 * (np.sum(parameters["W1"] ** 2) + np.sum(parameters["W2"] ** 2))
    return np.mean(log_total - chosen) + decay


def start(hidden=32, seed=0):
    """Random parameters."""
    rng = np.random.default_rng(seed)
    return {
        "W1": rng.normal(0, 1 / 8, (64, hidden)),
        "b1": np.zeros(hidden),
        "W2": rng.normal(0, 1 / np.sqrt(hidden), (hidden, 10)),
        "b2": np.zeros(10),
    }


def loss_inputs():
    """What the report differentiates at."""
    return (start(),)


def accuracy(parameters, images, labels):
    """The share of images that are recognised."""
    return float(np.mean(np.argmax(network(parameters, images), axis=1) == labels))


def trained(epochs=40, size=100, rate=0.01, seed=0):
    """Parameters after so many epochs of Adam, over batches of `size` images."""
    rng = np.random.default_rng(seed)
    parameters = start(seed=seed)
    mean = {name: np.zeros_like(p) for name, p in parameters.items()}
    square = {name: np.zeros_like(p) for name, p in parameters.items()}
    gradient = cr.grad(loss)
    step = 0
    for _ in range(epochs):
        for chosen in np.array_split(rng.permutation(train.stop), train.stop // size):
            step += 1
            slopes = gradient(parameters, images[chosen], labels[chosen])
            for name, g in slopes.items():
                mean[name] += 0.1 * (g - mean[name])
                square[name] += 0.001 * (g * g - square[name])
                scale = np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8
                parameters[name] = parameters[name] - rate * mean[name] / (1 - 0.9**step) / scale
    return parameters


def main():
    """Train, and print how well the network does on images that it has not seen."""
    before = start()
    print(f"before training: loss {loss(before):.3f}, test accuracy {accuracy(before, images[test], labels[test]):.1%}")
    parameters = trained()
    print(
        f"after training:  loss {loss(parameters):.3f}, test accuracy {accuracy(parameters, images[test], labels[test]):.1%}"
    )


if __name__ == "__main__":
    main()
