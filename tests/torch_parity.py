"""Writes what PyTorch's layers and losses give, for torch_parity_test.ts to compare with ours.

    python3 tests/torch_parity.py [.cache/torch_parity.safetensors]

Needs PyTorch 2 and NumPy. Everything is computed in float64 and written as float32; inputs and
parameters are rounded to float32 first. Keys of a case:

    <case>/in0 ...        inputs; integers as int32
    <case>/state/<name>   parameters and buffers before
    <case>/out0 ...       outputs
    <case>/seed0 ...      gradients the backward pass starts from
    <case>/din0 ...       gradients of the float inputs
    <case>/dstate/<name>  gradients of the parameters
    <case>/after/<name>   buffers after
"""

import json
import os
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def r(*shape, low=-2.0, high=2.0):
    return (torch.rand(*shape) * (high - low) + low).float().double()


def ids(*values):
    return torch.tensor(values, dtype=torch.int64)


def flat(result):
    """Tensors in nested tuples, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result if part is not None for t in flat(part)]


def packed(net, x, lengths):
    """A recurrent net on a padded batch [T, N, I]."""
    out, state = net(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(out, total_length=x.shape[0])[0], state


class Call(nn.Module):
    """A function as a module without parameters."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, *inputs):
        return self.fn(*inputs)


def plain(module, *inputs):
    return module(*inputs)


IMAGE = (2, 4, 7, 6)
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5], dtype=torch.float64)

# name: (module, inputs, how to call it). Names and options are those of CASES in torch_parity_test.ts.
CASES = {
    "linear": (nn.Linear(5, 3), [r(4, 5)], plain),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), [r(2, 4, 9)], plain),
    "conv2d": (nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), [r(*IMAGE)], plain),
    "conv2d_depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), [r(*IMAGE)], plain),
    "conv_transpose2d": (
        nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        [r(*IMAGE)],
        plain,
    ),
    "batch_norm1d": (nn.BatchNorm1d(5), [r(6, 5)], plain),
    "batch_norm2d": (nn.BatchNorm2d(4), [r(*IMAGE)], plain),
    "batch_norm2d_eval": (nn.BatchNorm2d(4).eval(), [r(*IMAGE)], plain),
    "layer_norm": (nn.LayerNorm([6]), [r(3, 4, 6)], plain),
    "group_norm": (nn.GroupNorm(2, 4), [r(*IMAGE)], plain),
    "embedding": (nn.Embedding(7, 3, padding_idx=2), [ids(0, 2, 6, 0, 5)], plain),
    "max_pool2d": (nn.MaxPool2d(3, stride=2, padding=1), [r(*IMAGE)], plain),
    "avg_pool2d": (nn.AvgPool2d(3, stride=2, padding=1), [r(*IMAGE)], plain),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d(3), [r(*IMAGE)], plain),
    "gelu": (nn.GELU(), [r(40, low=-5, high=5)], plain),
    "gelu_tanh": (nn.GELU(approximate="tanh"), [r(40, low=-5, high=5)], plain),
    "silu": (nn.SiLU(), [r(40, low=-5, high=5)], plain),
    "mish": (nn.Mish(), [r(40, low=-5, high=5)], plain),
    "elu": (nn.ELU(), [r(40, low=-5, high=5)], plain),
    "selu": (nn.SELU(), [r(40, low=-5, high=5)], plain),
    "softplus": (nn.Softplus(), [r(40, low=-5, high=5)], plain),
    "softsign": (nn.Softsign(), [r(40, low=-5, high=5)], plain),
    "hardswish": (nn.Hardswish(), [r(40, low=-5, high=5)], plain),
    "hardsigmoid": (nn.Hardsigmoid(), [r(40, low=-5, high=5)], plain),
    "log_softmax": (nn.LogSoftmax(1), [r(3, 5, 2)], plain),
    "lstm": (nn.LSTM(3, 4, num_layers=2, bidirectional=True), [r(5, 2, 3)], plain),
    "lstm_batch_first": (nn.LSTM(3, 4, batch_first=True), [r(2, 5, 3)], plain),
    "lstm_lengths": (
        nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        [r(5, 3, 3)],
        lambda m, x: packed(m, x, [3, 5, 1]),
    ),
    "gru": (nn.GRU(3, 4, num_layers=2, bidirectional=True), [r(5, 2, 3)], plain),
    "gru_lengths": (
        nn.GRU(3, 4, bidirectional=True),
        [r(5, 3, 3)],
        lambda m, x: packed(m, x, [3, 5, 1]),
    ),
    "rnn": (nn.RNN(3, 4, bidirectional=True), [r(5, 2, 3)], plain),
    "rnn_relu": (nn.RNN(3, 4, nonlinearity="relu"), [r(5, 2, 3)], plain),
    "lstm_cell": (
        nn.LSTMCell(3, 4),
        [r(2, 3), r(2, 4), r(2, 4)],
        lambda m, x, h, c: m(x, (h, c)),
    ),
    "gru_cell": (nn.GRUCell(3, 4), [r(2, 3), r(2, 4)], plain),
    "rnn_cell": (nn.RNNCell(3, 4), [r(2, 3), r(2, 4)], plain),
    "multihead_attention": (
        nn.MultiheadAttention(8, 2, batch_first=True),
        [r(2, 3, 8), r(2, 5, 8), r(2, 5, 8)],
        lambda m, q, k, v: m(q, k, v, need_weights=False)[0],
    ),
    "cross_entropy": (nn.CrossEntropyLoss(ignore_index=1), [r(6, 5), ids(0, 4, 1, 2, 2, 3)], plain),
    "cross_entropy_weight": (
        nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1, ignore_index=1),
        [r(6, 5), ids(0, 4, 1, 2, 2, 3)],
        plain,
    ),
    "cross_entropy_places": (
        nn.CrossEntropyLoss(reduction="sum"),
        [r(2, 5, 3), ids(0, 4, 1, 2, 2, 3).reshape(2, 3)],
        plain,
    ),
    "cross_entropy_soft": (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        [r(6, 5), torch.softmax(r(6, 5), 1).float().double()],
        plain,
    ),
    "nll_loss": (
        nn.NLLLoss(weight=WEIGHT),
        [r(6, 5, low=-3, high=0), ids(0, 4, 1, 2, 2, 3)],
        plain,
    ),
    "mse_loss": (nn.MSELoss(), [r(4, 5), r(4, 5)], plain),
    "l1_loss": (nn.L1Loss(reduction="sum"), [r(4, 5), r(4, 5)], plain),
    "smooth_l1_loss": (nn.SmoothL1Loss(beta=0.5), [r(4, 5), r(4, 5)], plain),
    "huber_loss": (nn.HuberLoss(delta=0.5), [r(4, 5), r(4, 5)], plain),
    "bce_loss": (
        nn.BCELoss(),
        [r(4, 5, low=0.05, high=0.95), r(4, 5, low=0, high=1)],
        plain,
    ),
    "bce_with_logits_loss": (
        nn.BCEWithLogitsLoss(pos_weight=WEIGHT),
        [r(4, 5), r(4, 5, low=0, high=1)],
        plain,
    ),
    "kl_div_loss": (
        nn.KLDivLoss(reduction="batchmean"),
        [r(4, 5, low=-3, high=0), r(4, 5, low=0.05, high=1)],
        plain,
    ),
    "attention": (
        Call(F.scaled_dot_product_attention),
        [r(2, 2, 3, 4), r(2, 2, 5, 4), r(2, 2, 5, 4)],
        plain,
    ),
}


def run(name, module, inputs, call):
    """All tensors of a case, by key."""
    module = module.double()
    with torch.no_grad():
        if "norm" in name:  # they start as ones and zeros, which would hide mistakes
            for t in list(module.parameters()) + list(module.buffers()):
                if t.is_floating_point():
                    t.copy_(r(*t.shape, low=0.5, high=1.5))
        for t in list(module.parameters()) + list(module.buffers()):
            if t.is_floating_point():
                t.copy_(t.float().double())
    found = {f"{name}/state/{key}": t.detach().clone() for key, t in module.state_dict().items()}
    for i, t in enumerate(inputs):
        found[f"{name}/in{i}"] = t.clone()
        if t.is_floating_point():
            t.requires_grad_()
    outputs = flat(call(module, *inputs))
    seeds = [r(*t.shape) if t.dim() > 0 else torch.ones((), dtype=torch.float64) for t in outputs]
    torch.autograd.backward(outputs, seeds)
    for i, (out, seed) in enumerate(zip(outputs, seeds)):
        found[f"{name}/out{i}"] = out.detach()
        found[f"{name}/seed{i}"] = seed
    for i, t in enumerate(inputs):
        if t.grad is not None:
            found[f"{name}/din{i}"] = t.grad
    for key, t in module.named_parameters():
        if t.grad is not None:
            found[f"{name}/dstate/{key}"] = t.grad
    for key, t in module.named_buffers():
        found[f"{name}/after/{key}"] = t.detach()
    return found


def save(path, tensors):
    """A safetensors file: length, JSON header, little-endian data."""
    header, chunks, start = {"__metadata__": {"torch": torch.__version__}}, [], 0
    for key, t in tensors.items():
        whole = not t.is_floating_point()
        data = (t.to(torch.int32) if whole else t.float()).contiguous().numpy().tobytes()
        header[key] = {
            "dtype": "I32" if whole else "F32",
            "shape": list(t.shape),
            "data_offsets": [start, start + len(data)],
        }
        chunks.append(data)
        start += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def main():
    torch.manual_seed(0)
    path = sys.argv[1] if len(sys.argv) > 1 else ".cache/torch_parity.safetensors"
    tensors = {}
    for name, (module, inputs, call) in CASES.items():
        tensors.update(run(name, module, inputs, call))
    save(path, tensors)
    print(f"{len(CASES)} cases by PyTorch {torch.__version__} in {path}")


if __name__ == "__main__":
    main()
