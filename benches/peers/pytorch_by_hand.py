"""The training step in PyTorch with hand-written gradients: its kernels without its autograd."""

import math

import torch
import torch.nn.functional as functional

import work

torch.set_grad_enabled(False)


def make_step(sizes, batch_size, inputs, labels):
    weights, biases = [], []
    for width, outputs in zip(sizes, sizes[1:]):
        bound = math.sqrt(6 / width)
        weights.append(torch.empty(width, outputs).uniform_(-bound, bound))
        biases.append(torch.zeros(outputs))
    rows = torch.arange(batch_size)

    def step(indices):
        batch_labels = labels[indices]
        values = [inputs[indices]]
        for weight, bias in zip(weights[:-1], biases[:-1]):
            values.append(torch.addmm(bias, values[-1], weight).relu_())
        log_probabilities = functional.log_softmax(torch.addmm(biases[-1], values[-1], weights[-1]), dim=1)
        loss = functional.nll_loss(log_probabilities, batch_labels)

        d_outputs = log_probabilities.exp_()
        d_outputs[rows, batch_labels] -= 1
        d_outputs /= batch_size
        for layer in reversed(range(len(weights))):
            value, weight, d_weight_outputs = values[layer], weights[layer], d_outputs
            if layer > 0:
                d_outputs = torch.mm(d_weight_outputs, weight.t()).mul_(value > 0)
            weight.addmm_(value.t(), d_weight_outputs, alpha=-work.LEARNING_RATE)
            biases[layer].sub_(d_weight_outputs.sum(dim=0), alpha=work.LEARNING_RATE)
        return loss.item()

    return step


if __name__ == "__main__":
    work.pytorch_main(make_step)
