"""The training step in JAX, compiled as a whole."""

import jax
import jax.numpy as jnp

import work


def loss_of(layers, inputs, labels):
    for index, (weight, bias) in enumerate(layers):
        inputs = (jax.nn.relu(inputs) if index > 0 else inputs) @ weight + bias
    log_probabilities = jax.nn.log_softmax(inputs)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()


def train_step(layers, inputs, labels, indices):
    loss, gradients = jax.value_and_grad(loss_of)(layers, inputs[indices], labels[indices])
    return loss, jax.tree.map(lambda value, gradient: value - work.LEARNING_RATE * gradient, layers, gradients)


def make_step(sizes, batch_size, inputs, labels):
    layers = []
    for width, outputs in zip(sizes, sizes[1:]):
        bound = (6 / width) ** 0.5
        weight = jax.random.uniform(jax.random.key(0), (width, outputs), minval=-bound, maxval=bound)
        layers.append((weight, jnp.zeros(outputs)))
    compiled = jax.jit(train_step, donate_argnums=0)

    def step(indices):
        nonlocal layers
        loss, layers = compiled(layers, inputs, labels, indices)
        return loss.item()

    return step


def to_integers(array):
    return jnp.asarray(array, jnp.int32)


def choose_device(name):
    jax.config.update("jax_platforms", name)


if __name__ == "__main__":
    work.main(make_step, jnp.asarray, to_integers, to_integers, choose_device=choose_device)
