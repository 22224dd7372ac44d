"""Writes what PyTorch's layers, losses and models give, for torch_parity_test.ts to compare with ours.

    python3 tests/torch_parity.py [.cache/torch_parity.safetensors]

Needs PyTorch 1.13 or later and NumPy; torchvision for its models, timm or torchvision for EfficientNet.
A case that the installed version has not is left out, and named at the end. Debian has both as python3-torch
and python3-torchvision: 1.13 in Debian 12, the newest in sid, which a folder beside the system can hold:

    debootstrap --variant=minbase sid DIR && chroot DIR apt-get install python3-torch python3-torchvision

with this project bound to a folder in it. Everything is computed in float64 and
written as float32; inputs and parameters are rounded to float32 first. Keys of a case:

    <case>/in0 ...        inputs; integers as int32
    <case>/state/<name>   parameters and buffers before
    <case>/out0 ...       outputs
    <case>/seed0 ...      gradients the backward pass starts from
    <case>/din0 ...       gradients of the float inputs
    <case>/dstate/<name>  gradients of the parameters
    <case>/after/<name>   buffers after
    <case>/twice/sum      sum of all these gradients times `pattern`, where they have gradients in turn
    <case>/twice/din0 ... its gradients, likewise
    <case>/twice/dstate/<name>

Optimizers walk from and by `pattern`, too; learning rates are those of two groups, epoch by epoch, and
with OneCycleLR the momenta after them:

    optim/<name>/<steps>/p0 p1         parameters after that many steps
    optim/<name>/noise/<steps>/p0 p1   as for the models
    schedule/<name>                    [epochs, groups]

A training: losses of the ConvNet under clipped gradients, AdamW and OneCycleLR, on one batch:

    training/losses training/noise     [steps]; noise is the largest difference of float32's so far

A model's parameters are not in the file: both sides fill them by `pattern`. Of each of its tensors the
file has at most 256 elements, evenly spread, and PyTorch's own rounding as the measure of ours:

    model/<model>/<tensor>     `out`, `d<parameter>` or `after<buffer>` in float64
    model/<model>/noise/<tensor>   root mean square of float32's difference from it
"""

import contextlib
import json
import os
import struct
import sys

import numpy as np
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
VOLUME = (2, 4, 5, 4, 6)
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
        Call(getattr(F, "scaled_dot_product_attention", None)),
        [r(2, 2, 3, 4), r(2, 2, 5, 4), r(2, 2, 5, 4)],
        plain,
    ),
    "relu": (nn.ReLU(), [r(40)], plain),
    "leaky_relu": (nn.LeakyReLU(0.2), [r(40)], plain),
    "relu6": (nn.ReLU6(), [r(40, low=-8, high=8)], plain),
    "celu": (nn.CELU(1.5), [r(40, low=-5, high=5)], plain),
    "hardtanh": (nn.Hardtanh(-1.5, 0.5), [r(40)], plain),
    "log_sigmoid": (nn.LogSigmoid(), [r(40, low=-9, high=9)], plain),
    "sigmoid": (nn.Sigmoid(), [r(40, low=-9, high=9)], plain),
    "tanh": (nn.Tanh(), [r(40, low=-5, high=5)], plain),
    "softmax": (nn.Softmax(1), [r(3, 5, 2)], plain),
    "conv2d_groups": (
        nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), groups=2, bias=False),
        [r(*IMAGE)],
        plain,
    ),
    "conv2d_pointwise": (nn.Conv2d(4, 6, 1), [r(*IMAGE)], plain),
    "conv_transpose2d_groups": (
        nn.ConvTranspose2d(4, 6, 2, stride=3, groups=2, dilation=2),
        [r(*IMAGE)],
        plain,
    ),
    "instance_norm1d": (nn.InstanceNorm1d(4, affine=True), [r(2, 4, 9)], plain),
    "instance_norm2d": (nn.InstanceNorm2d(4, affine=True), [r(*IMAGE)], plain),
    "batch_norm2d_cumulative": (nn.BatchNorm2d(4, momentum=None), [r(*IMAGE)], plain),
    "rms_norm": (nn.RMSNorm([6], eps=1e-5) if hasattr(nn, "RMSNorm") else None, [r(3, 4, 6)], plain),
    "max_pool2d_ceil": (
        nn.MaxPool2d(2, stride=2, dilation=2, ceil_mode=True),
        [r(*IMAGE)],
        plain,
    ),
    "avg_pool2d_ceil": (
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        [r(*IMAGE)],
        plain,
    ),
    "adaptive_max_pool2d": (
        Call(lambda x: F.adaptive_max_pool2d(x, (3, 2))),
        [r(*IMAGE)],
        plain,
    ),
    "interpolate": (
        Call(lambda x: F.interpolate(x, (5, 11), mode="bilinear")),
        [r(*IMAGE)],
        plain,
    ),
    "interpolate_corners": (
        Call(lambda x: F.interpolate(x, (5, 11), mode="bilinear", align_corners=True)),
        [r(*IMAGE)],
        plain,
    ),
    "interpolate_antialias": (
        Call(lambda x: F.interpolate(x, (3, 4), mode="bilinear", antialias=True)),
        [r(*IMAGE)],
        plain,
    ),
    "interpolate_nearest": (
        Call(lambda x: F.interpolate(x, (5, 11), mode="nearest")),
        [r(*IMAGE)],
        plain,
    ),
    "grid_sample": (
        Call(lambda x, grid: F.grid_sample(x, grid, align_corners=False)),
        [r(*IMAGE), r(2, 3, 5, 2, low=-1.2, high=1.2)],
        plain,
    ),
    "grid_sample_border": (
        Call(lambda x, g: F.grid_sample(x, g, padding_mode="border", align_corners=True)),
        [r(*IMAGE), r(2, 3, 5, 2, low=-1.2, high=1.2)],
        plain,
    ),
    "affine_grid": (
        Call(lambda theta: F.affine_grid(theta, [2, 4, 3, 5], align_corners=False)),
        [r(2, 2, 3)],
        plain,
    ),
    "pad_reflect": (Call(lambda x: F.pad(x, (2, 1, 3, 2), mode="reflect")), [r(*IMAGE)], plain),
    "pad_replicate": (
        Call(lambda x: F.pad(x, (2, 1, 3, 2), mode="replicate")),
        [r(*IMAGE)],
        plain,
    ),
    "pad_circular": (Call(lambda x: F.pad(x, (2, 1, 3, 2), mode="circular")), [r(*IMAGE)], plain),
    "normalize": (Call(lambda x: F.normalize(x, dim=1)), [r(4, 5)], plain),
    "logsumexp": (Call(lambda x: torch.logsumexp(x, 1)), [r(4, 5, 3)], plain),
    "variance": (Call(lambda x: torch.var(x, 1)), [r(4, 5, 3)], plain),
    "cumprod": (Call(lambda x: torch.cumprod(x, 1)), [r(4, 5, 3)], plain),
    "prelu": (nn.PReLU(4, init=0.3), [r(*IMAGE)], plain),
    "glu": (nn.GLU(1), [r(*IMAGE)], plain),
    "softshrink": (nn.Softshrink(0.7), [r(40)], plain),
    "hardshrink": (nn.Hardshrink(0.7), [r(40)], plain),
    "tanhshrink": (nn.Tanhshrink(), [r(40)], plain),
    "threshold": (nn.Threshold(0.3, -2.5), [r(40)], plain),
    "softmin": (nn.Softmin(1), [r(3, 5, 2)], plain),
    "unflatten": (nn.Unflatten(1, (2, 2)), [r(*IMAGE)], plain),
    "upsample": (nn.Upsample(scale_factor=2), [r(*IMAGE)], plain),
    "upsample_bilinear": (
        nn.Upsample(scale_factor=(1.7, 0.6), mode="bilinear"),
        [r(*IMAGE)],
        plain,
    ),
    "upsample_corners": (
        nn.Upsample(scale_factor=1.7, mode="bilinear", align_corners=True),
        [r(*IMAGE)],
        plain,
    ),
    "upsample_nearest": (nn.Upsample(scale_factor=(1.7, 0.6)), [r(*IMAGE)], plain),
    "interpolate_factor_same": (
        Call(lambda x: F.interpolate(x, scale_factor=(1.1, 1.05), mode="bilinear")),
        [r(*IMAGE)],
        plain,
    ),
    "interpolate_factor_antialias": (
        Call(lambda x: F.interpolate(x, scale_factor=0.6, mode="bilinear", antialias=True)),
        [r(*IMAGE)],
        plain,
    ),
    "pixel_shuffle": (nn.PixelShuffle(2), [r(*IMAGE)], plain),
    "pixel_unshuffle": (nn.PixelUnshuffle(2), [r(2, 3, 4, 6)], plain),
    "zero_pad2d": (nn.ZeroPad2d((1, 2, 3, -1)), [r(*IMAGE)], plain),
    "constant_pad2d": (nn.ConstantPad2d(1, 2.5), [r(*IMAGE)], plain),
    "reflection_pad2d": (nn.ReflectionPad2d((1, 2, 3, 0)), [r(*IMAGE)], plain),
    "replication_pad2d": (nn.ReplicationPad2d((1, 2, 3, 0)), [r(*IMAGE)], plain),
    "circular_pad2d": (nn.CircularPad2d((1, 2, 3, 0)), [r(*IMAGE)], plain),
    "max_pool1d": (nn.MaxPool1d(3, 2, padding=1, ceil_mode=True), [r(2, 4, 9)], plain),
    "max_pool1d_dilation": (nn.MaxPool1d(2, dilation=3), [r(2, 4, 9)], plain),
    "avg_pool1d": (
        nn.AvgPool1d(3, 2, padding=1, count_include_pad=False),
        [r(2, 4, 9)],
        plain,
    ),
    "adaptive_avg_pool1d": (nn.AdaptiveAvgPool1d(4), [r(2, 4, 9)], plain),
    "adaptive_max_pool1d": (nn.AdaptiveMaxPool1d(4), [r(2, 4, 9)], plain),
    "softmax2d": (nn.Softmax2d(), [r(*IMAGE)], plain),
    "adaptive_max_pool2d_layer": (nn.AdaptiveMaxPool2d((3, 2)), [r(*IMAGE)], plain),
    "conv_transpose1d": (
        nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
        [r(2, 4, 9)],
        plain,
    ),
    "conv3d": (
        nn.Conv3d(4, 6, (3, 2, 3), stride=(2, 1, 1), padding=(1, 0, 2), dilation=(1, 2, 1), groups=2),
        [r(*VOLUME)],
        plain,
    ),
    "conv3d_same": (nn.Conv3d(4, 3, (2, 3, 4), padding="same"), [r(*VOLUME)], plain),
    "conv_transpose3d": (
        nn.ConvTranspose3d(
            4, 6, (3, 2, 3), stride=(2, 1, 3), padding=(1, 0, 2), output_padding=(1, 0, 2),
            dilation=(1, 2, 1), groups=2,
        ),
        [r(*VOLUME)],
        plain,
    ),
    "batch_norm3d": (nn.BatchNorm3d(4), [r(*VOLUME)], plain),
    "instance_norm3d": (nn.InstanceNorm3d(4, affine=True), [r(*VOLUME)], plain),
    "max_pool3d": (
        nn.MaxPool3d((2, 3, 2), stride=(1, 2, 2), padding=(1, 1, 0), ceil_mode=True),
        [r(*VOLUME)],
        plain,
    ),
    "max_pool3d_dilation": (nn.MaxPool3d(2, dilation=(3, 2, 1)), [r(*VOLUME)], plain),
    "avg_pool3d": (
        nn.AvgPool3d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        [r(*VOLUME)],
        plain,
    ),
    "avg_pool3d_padding": (nn.AvgPool3d((2, 3, 2), padding=(1, 1, 0), ceil_mode=True), [r(*VOLUME)], plain),
    "adaptive_avg_pool3d": (nn.AdaptiveAvgPool3d((2, 3, 4)), [r(*VOLUME)], plain),
    "adaptive_max_pool3d": (nn.AdaptiveMaxPool3d((2, 3, 4)), [r(*VOLUME)], plain),
    "unfold": (nn.Unfold((2, 3), dilation=2, padding=1, stride=(2, 1)), [r(*IMAGE)], plain),
    "fold": (nn.Fold((5, 6), (2, 3), padding=(1, 0), stride=(2, 1)), [r(2, 12, 12)], plain),
    "unfold_dim": (Call(lambda x: x.unfold(1, 3, 2)), [r(2, 9, 4)], plain),
    "reflection_pad3d": (nn.ReflectionPad3d((1, 2, 0, 1, 2, 1)), [r(*VOLUME)], plain),
    "replication_pad1d": (nn.ReplicationPad1d((3, 1)), [r(2, 4, 6)], plain),
    "upsample_volume": (
        nn.Upsample(scale_factor=(1.7, 0.6, 1.2), mode="trilinear"),
        [r(*VOLUME)],
        plain,
    ),
    "upsample_volume_corners": (
        nn.Upsample(size=(3, 7, 2), mode="trilinear", align_corners=True),
        [r(*VOLUME)],
        plain,
    ),
    "upsample_volume_nearest": (nn.Upsample(scale_factor=1.6), [r(*VOLUME)], plain),
    "upsample_row": (nn.Upsample(scale_factor=1.6, mode="linear"), [r(2, 4, 6)], plain),
    "cosine_similarity": (nn.CosineSimilarity(dim=1), [r(4, 5, 3), r(4, 5, 1)], plain),
    "pairwise_distance": (nn.PairwiseDistance(p=3), [r(4, 5), r(4, 5)], plain),
    "cosine_embedding_loss": (
        nn.CosineEmbeddingLoss(margin=0.1),
        [r(6, 5), r(6, 5), torch.tensor([1, -1, -1, 1, -1, -1])],
        plain,
    ),
    "triplet_margin_loss": (
        nn.TripletMarginLoss(margin=0.5, swap=True),
        [r(6, 5), r(6, 5), r(6, 5)],
        plain,
    ),
    "triplet_margin_loss_1": (nn.TripletMarginLoss(p=1), [r(6, 5), r(6, 5), r(6, 5)], plain),
    "margin_ranking_loss": (
        nn.MarginRankingLoss(margin=0.2),
        [r(6), r(6), torch.tensor([1, -1, -1, 1, -1, 1])],
        plain,
    ),
    "gaussian_nll_loss": (
        nn.GaussianNLLLoss(full=True),
        [r(4, 5), r(4, 5), r(4, 1, low=0.2, high=2)],
        plain,
    ),
    "poisson_nll_loss": (
        nn.PoissonNLLLoss(full=True, reduction="sum"),
        [r(4, 5), r(4, 5, low=0.3, high=4)],
        plain,
    ),
    "poisson_nll_loss_rates": (
        nn.PoissonNLLLoss(log_input=False),
        [r(4, 5, low=0.2, high=4), r(4, 5, low=0, high=4).round()],
        plain,
    ),
    "transformer_encoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0), 2),
        [r(5, 2, 8)],
        plain,
    ),
    # Not "norm" in the name: parameters that are all positive make this one a sum that cancels.
    "transformer_encoder_first": (
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                8, 2, 16, dropout=0, activation="gelu", batch_first=True, norm_first=True
            ),
            2,
            norm=nn.LayerNorm(8),
            enable_nested_tensor=False,
        ),
        [r(2, 5, 8)],
        lambda m, x: m(
            x,
            mask=torch.ones(5, 5).triu(1).bool(),
            src_key_padding_mask=torch.tensor([[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).bool(),
        ),
    ),
    "transformer_decoder": (
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, dropout=0), 2),
        [r(5, 2, 8), r(4, 2, 8)],
        lambda m, x, memory: m(
            x,
            memory,
            tgt_mask=torch.ones(5, 5).triu(1).bool(),
            memory_key_padding_mask=torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]]).bool(),
        ),
    ),
    "transformer_decoder_first": (
        nn.TransformerDecoder(
            nn.TransformerDecoderLayer(
                8, 2, 16, dropout=0, batch_first=True, norm_first=True, bias=False
            ),
            1,
            norm=nn.LayerNorm(8),
        ),
        [r(2, 5, 8), r(2, 4, 8)],
        plain,
    ),
    "einsum": (
        Call(lambda a, b: torch.einsum("bij,bkj->bik", a, b)),
        [r(2, 3, 4), r(2, 5, 4)],
        plain,
    ),
}


def conv_net():
    layers, before = [], 3
    for c in (32, 64, 128):
        layers += [nn.Conv2d(before, c, 3, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        layers += [nn.Dropout(0), nn.MaxPool2d(2)]
        before = c
    net = nn.Module()
    net.conv, net.fc = nn.Sequential(*layers), nn.Linear(512, 512)
    net.forward = lambda x: net.fc(net.conv(x).flatten(1))
    return net


def toy_ssd():
    """The five-scale net; gives classes and boxes."""

    def down(before, c):
        return nn.Sequential(
            nn.Conv2d(before, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    net = nn.Module()
    net.body = nn.Sequential(down(3, 16), down(16, 32), down(32, 64))
    net.downsamples = nn.ModuleList([down(64, 128), down(128, 128), down(128, 128)])
    inputs = (64, 128, 128, 128, 128)
    net.class_preds = nn.ModuleList(nn.Conv2d(c, 8, 3, padding=1) for c in inputs)
    net.box_preds = nn.ModuleList(nn.Conv2d(c, 16, 3, padding=1) for c in inputs)

    def forward(x):
        x, classes, boxes = net.body(x), [], []
        for i in range(5):
            classes.append(net.class_preds[i](x).permute(0, 2, 3, 1).flatten(1))
            boxes.append(net.box_preds[i](x).permute(0, 2, 3, 1).flatten(1))
            if i < 3:
                x = net.downsamples[i](x)
            elif i == 3:
                x = F.adaptive_max_pool2d(x, 1)
        return torch.cat(classes + boxes, 1)

    net.forward = forward
    return net


def caption_decoder():
    net = nn.Module()
    net.embedding = nn.Embedding(50, 16)
    net.lstm = nn.LSTM(16, 24, batch_first=True)
    net.fc = nn.Linear(24, 50)

    def forward(vectors):
        words = net.embedding((torch.arange(2 * 6).reshape(2, 6) * 7 + 3) % 50)
        return net.fc(net.lstm(torch.cat([vectors.unsqueeze(1), words[:, :-1]], 1))[0])

    net.forward = forward
    return net


def torchvision_net(name):
    import torchvision

    net = getattr(torchvision.models, name)(num_classes=10)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


class SamePad2d(nn.Module):
    """TensorFlow's "SAME" before a convolution of stride 2: zeros on both sides, the odd one behind."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x):
        for axis in (-1, -2):
            size = x.shape[axis]
            total = max((-(-size // 2) - 1) * 2 + self.kernel - size, 0)
            pads = (total // 2, total - total // 2)
            x = F.pad(x, pads if axis == -1 else (0, 0, *pads))
        return x


def under_names(children, forward):
    """A module with these children, by name, and this forward."""
    net = nn.Module()
    for name, child in children.items():
        net.add_module(name, child)
    net.forward = forward
    return net


def efficientnet():
    """timm's tf_efficientnet_b0; where timm is missing, torchvision's layers with TensorFlow's padding and
    eps, under timm's names. The two share no code."""
    try:
        import timm

        return timm.create_model("tf_efficientnet_b0", num_classes=10)
    except ImportError:
        pass
    from functools import partial

    import torchvision

    made = torchvision.models.efficientnet_b0(
        num_classes=10,
        dropout=0.0,
        stochastic_depth_prob=0.0,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
    )
    # Padding in front, as a hook, keeps the convolution the module that its name says.
    for module in made.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            pad = SamePad2d(module.kernel_size[0])
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, args, pad=pad: (pad(args[0]),))

    def block(mbconv):
        parts = list(mbconv.block)
        first = ("conv_pw", "bn1", "conv_dw", "bn2") if len(parts) == 4 else ("conv_dw", "bn1")
        last = ("conv_pwl", "bn3") if len(parts) == 4 else ("conv_pw", "bn2")
        convs = [part for conv in parts[:-2] + parts[-1:] for part in (conv[0], conv[1])]
        se = parts[-2]
        squeeze = under_names({"conv_reduce": se.fc1, "conv_expand": se.fc2}, None)
        children = dict(zip(first + last, convs)) | {"se": squeeze}
        return under_names(children, mbconv.forward)

    features, stages = made.features, nn.Sequential()
    for stage in features[1:-1]:
        stages.append(nn.Sequential(*(block(mbconv) for mbconv in stage)))
    children = {
        "conv_stem": features[0][0],
        "bn1": features[0][1],
        "blocks": stages,
        "conv_head": features[-1][0],
        "bn2": features[-1][1],
        "classifier": made.classifier[1],
    }
    return under_names(children, made.forward)


# name: (how to make it, shape of its input). Names are those of MODELS in torch_parity_test.ts.
MODELS = {
    "conv_net": (conv_net, (4, 3, 32, 32)),
    "toy_ssd": (toy_ssd, (2, 3, 64, 64)),
    "caption_decoder": (caption_decoder, (2, 16)),
    "alexnet": (lambda: torchvision_net("alexnet"), (2, 3, 96, 96)),
    "resnet18": (lambda: torchvision_net("resnet18"), (2, 3, 64, 64)),
    "resnet34": (lambda: torchvision_net("resnet34"), (2, 3, 64, 64)),
    "resnet50": (lambda: torchvision_net("resnet50"), (2, 3, 64, 64)),
    "efficientnet_b0": (efficientnet, (2, 3, 64, 64)),
}


optim = torch.optim
schedule = torch.optim.lr_scheduler

# name: (optimizer of two groups, largest norm of the gradients). Names are those of OPTIMIZERS in
# torch_parity_test.ts. The second group has half the learning rate.
OPTIMIZERS = {
    "sgd": (lambda g: optim.SGD(g, lr=0.1), None),
    "sgd_momentum": (lambda g: optim.SGD(g, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.05), None),
    "sgd_nesterov": (lambda g: optim.SGD(g, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05), None),
    "sgd_clipped": (lambda g: optim.SGD(g, lr=0.1, momentum=0.9), 1.5),
    "adam": (lambda g: optim.Adam(g, lr=0.02), None),
    "adam_amsgrad": (
        lambda g: optim.Adam(g, lr=0.02, betas=(0.8, 0.95), eps=1e-2, weight_decay=0.1, amsgrad=True),
        None,
    ),
    "adamw": (lambda g: optim.AdamW(g, lr=0.02), None),
    "adamw_amsgrad": (lambda g: optim.AdamW(g, lr=0.02, weight_decay=0.2, amsgrad=True), None),
    "adagrad": (lambda g: optim.Adagrad(g, lr=0.05), None),
    "adagrad_decay": (
        lambda g: optim.Adagrad(
            g, lr=0.05, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-2
        ),
        None,
    ),
    "rmsprop": (lambda g: optim.RMSprop(g, lr=0.02), None),
    "rmsprop_centered": (
        lambda g: optim.RMSprop(
            g, lr=0.02, alpha=0.9, eps=1e-2, weight_decay=0.1, momentum=0.9, centered=True
        ),
        None,
    ),
}

EPOCHS = 40

# name: the scheduler of an optimizer. Names are those of SCHEDULES in torch_parity_test.ts.
SCHEDULES = {
    "step": lambda o: schedule.StepLR(o, step_size=7, gamma=0.5),
    "multi_step": lambda o: schedule.MultiStepLR(o, milestones=[3, 11, 11, 30], gamma=0.4),
    "exponential": lambda o: schedule.ExponentialLR(o, gamma=0.9),
    "cosine": lambda o: schedule.CosineAnnealingLR(o, T_max=13, eta_min=1e-3),
    "linear": lambda o: schedule.LinearLR(o, start_factor=0.2, end_factor=0.7, total_iters=12),
    "constant": lambda o: schedule.ConstantLR(o, factor=0.3, total_iters=9),
    "polynomial": lambda o: schedule.PolynomialLR(o, total_iters=17, power=1.7),
    "warm_restarts": lambda o: schedule.CosineAnnealingWarmRestarts(o, T_0=7, eta_min=1e-3),
    "warm_restarts_longer": lambda o: schedule.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
    "lambda": lambda o: schedule.LambdaLR(o, [lambda e: 0.95**e, lambda e: 1 / (1 + e)]),
    "one_cycle": lambda o: schedule.OneCycleLR(o, max_lr=[1.0, 0.5], total_steps=EPOCHS + 1),
    "one_cycle_phases": lambda o: schedule.OneCycleLR(
        o,
        max_lr=0.8,
        total_steps=EPOCHS + 1,
        pct_start=0.4,
        anneal_strategy="linear",
        base_momentum=0.7,
        max_momentum=0.99,
        div_factor=10.0,
        final_div_factor=100.0,
        three_phase=True,
    ),
    "sequential": lambda o: schedule.SequentialLR(
        o,
        schedulers=[
            schedule.LinearLR(o, start_factor=0.1, total_iters=5),
            schedule.CosineAnnealingLR(o, T_max=20),
            schedule.ExponentialLR(o, gamma=0.8),
        ],
        milestones=[5, 25],
    ),
    "plateau": lambda o: schedule.ReduceLROnPlateau(
        o, factor=0.5, patience=2, threshold=0.05, cooldown=1, min_lr=[0.02, 1e-4]
    ),
    "plateau_max": lambda o: schedule.ReduceLROnPlateau(
        o, mode="max", factor=0.3, patience=1, threshold=0.1, threshold_mode="abs"
    ),
}


def pattern(shape, seed):
    """Even numbers in [-1, 1) that any language makes alike: mixed bits of the element's number."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 1000003 + 1)
    x = x * np.uint64(2654435761) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(15)
    x = x * np.uint64(2246822519) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(13)
    return torch.from_numpy(x.astype(np.float64) / 2**31 - 1).reshape(tuple(shape)).float().double()


def fill(net):
    """Weights at Kaiming's scale, factors and variances about 1, everything else small.

    Offsets of normalisations are about 3: few activations are near the kink of ReLU, where rounding
    alone decides whether a gradient passes.
    """
    state = net.state_dict()
    for seed, (name, t) in enumerate(sorted(state.items())):
        if not t.is_floating_point():
            continue
        value = pattern(t.shape, seed)
        norm = name.endswith("bias") and state[name[:-4] + "weight"].dim() == 1
        if t.dim() > 1:
            fan_in = t[0].numel()
            value = value * np.float32((6 / fan_in) ** 0.5).item()
        elif name.endswith("weight") or name.endswith("var"):
            value = 1 + value / 4
        else:
            value = value / 8 + (3 if norm else 0)
        t.copy_(value.float())


def spread(t):
    """At most 256 elements, evenly spread."""
    flat = t.detach().reshape(-1)
    return flat[:: max(1, -(-flat.numel() // 256))]


def run_model(name, make, shape):
    """All tensors of a model in training mode, by key."""
    found, exact = {}, {}
    for dtype in (torch.float64, torch.float32):
        net = make().train()
        fill(net)
        net = net.to(dtype)
        out = net(pattern(shape, 999).to(dtype))
        out.backward(pattern(out.shape, 998).to(dtype))
        tensors = {"out": out.detach()}
        tensors.update({f"d{key}": t.grad for key, t in net.named_parameters()})
        tensors.update({f"after{key}": t for key, t in net.named_buffers()})
        for key, t in tensors.items():
            if dtype is torch.float64:
                exact[key] = t
                found[f"model/{name}/{key}"] = spread(t)
            elif t.is_floating_point():
                noise = (t.double() - exact[key]).square().mean().sqrt()
                found[f"model/{name}/noise/{key}"] = noise
    return found


def run_optimizer(name, make, norm):
    """Parameters after some steps; the second has no gradient in the fifth."""
    found, exact = {}, {}
    for dtype in (torch.float64, torch.float32):
        params = [nn.Parameter(pattern(shape, 900 + i).to(dtype)) for i, shape in enumerate([(5, 7), (11,)])]
        optimizer = make([{"params": params[:1]}, {"params": params[1:]}])
        optimizer.param_groups[1]["lr"] *= 0.5
        for step in range(1, 13):
            for i, p in enumerate(params):
                p.grad = None if (step, i) == (5, 1) else pattern(p.shape, 900 + 10 * step + i).to(dtype)
            if norm is not None:
                nn.utils.clip_grad_norm_(params, norm)
            optimizer.step()
            if step not in (1, 5, 12):
                continue
            for i, p in enumerate(params):
                key = f"{step}/p{i}"
                if dtype is torch.float64:
                    exact[key] = found[f"optim/{name}/{key}"] = p.detach().clone()
                else:
                    noise = (p.detach().double() - exact[key]).square().mean().sqrt()
                    found[f"optim/{name}/noise/{key}"] = noise
    return found


STEPS = 16


def run_training():
    """Losses of a small net that learns one batch by heart."""
    losses = {}
    for dtype in (torch.float64, torch.float32):
        net = conv_net().train()
        fill(net)
        net = net.to(dtype)
        x, target = pattern((8, 3, 32, 32), 700).to(dtype), torch.arange(8) * 61 % 512
        optimizer = optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
        scheduler = schedule.OneCycleLR(optimizer, max_lr=2e-3, total_steps=STEPS + 1)
        losses[dtype] = []
        for _ in range(STEPS):
            loss = F.cross_entropy(net(x), target, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses[dtype].append(loss.item())
    exact, rounded = (torch.tensor(losses[t], dtype=torch.float64) for t in (torch.float64, torch.float32))
    noise = (exact - rounded).abs().cummax(0).values
    return {"training/losses": exact, "training/noise": noise}


def run_schedule(make):
    """Learning rates of two groups by epoch, the first before any step."""
    params = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.04}]
    optimizer = optim.SGD(groups, lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    metrics = pattern((EPOCHS,), 990)
    rows = []
    for epoch in range(EPOCHS):
        rows.append([group["lr"] for group in optimizer.param_groups])
        if isinstance(scheduler, schedule.OneCycleLR):
            rows[-1] += [group["momentum"] for group in optimizer.param_groups]
        optimizer.step()
        if isinstance(scheduler, schedule.ReduceLROnPlateau):
            scheduler.step(metrics[epoch].item())
        else:
            scheduler.step()
    return torch.tensor(rows, dtype=torch.float64)


def plain_attention():
    """Attention of products and a softmax, of whose gradient PyTorch has a gradient."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:
        return contextlib.nullcontext()
    return sdpa_kernel(SDPBackend.MATH)


def gradients(outputs, leaves, seeds=None, **options):
    """The gradients that there are, by key."""
    found = torch.autograd.grad(outputs, list(leaves.values()), seeds, allow_unused=True, **options)
    return {key: t for key, t in zip(leaves, found) if t is not None}


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
    for i, (out, seed) in enumerate(zip(outputs, seeds)):
        found[f"{name}/out{i}"] = out.detach()
        found[f"{name}/seed{i}"] = seed
    leaves = {f"din{i}": t for i, t in enumerate(inputs) if t.requires_grad}
    leaves.update({f"dstate/{key}": t for key, t in sorted(module.named_parameters())})
    first = gradients(outputs, leaves, seeds, create_graph=True)
    found.update({f"{name}/{key}": t.detach() for key, t in first.items()})
    weighted = sum((t * pattern(t.shape, 500 + i)).sum() for i, t in enumerate(first.values()))
    try:
        second = gradients([weighted], leaves) if weighted.requires_grad else {}
    except (RuntimeError, NotImplementedError):  # PyTorch has no gradient of this gradient
        second = {}
    if second:
        found[f"{name}/twice/sum"] = weighted.detach()
    found.update({f"{name}/twice/{key}": t for key, t in second.items()})
    for key, t in module.named_buffers():
        found[f"{name}/after/{key}"] = t.detach()
    return found


def save(path, tensors, metadata):
    """A safetensors file: length, JSON header, little-endian data."""
    header, chunks, start = {"__metadata__": metadata}, [], 0
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
    tensors, absent = {}, []
    for name, (module, inputs, call) in CASES.items():
        if module is None or getattr(module, "fn", module) is None:
            absent.append(name)
        else:
            with plain_attention():
                tensors.update(run(name, module, inputs, call))
    for name, (make, shape) in MODELS.items():
        try:
            make()
        except ImportError:
            absent.append(name)
        else:
            tensors.update(run_model(name, make, shape))
    for name, (make, norm) in OPTIMIZERS.items():
        tensors.update(run_optimizer(name, make, norm))
    tensors.update(run_training())
    for name, make in SCHEDULES.items():
        tensors[f"schedule/{name}"] = run_schedule(make)
    save(path, tensors, {"torch": torch.__version__, "absent": ",".join(absent)})
    count = sum(map(len, (CASES, MODELS, OPTIMIZERS, SCHEDULES))) + 1 - len(absent)
    print(f"{count} cases by PyTorch {torch.__version__} in {path}")
    if absent:
        print(f"left out, since this installation has them not: {', '.join(absent)}")


if __name__ == "__main__":
    main()
