"""The two consumers: a byte-level language model and a classifier, small enough for two cores."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

VOCABULARY = 256


class ByteModel(nn.Module):
    """A causal transformer of one block over bytes; `forward` takes i64 [b, t] and gives logits f32 [b, t, 256]."""

    def __init__(self, sequence_length: int, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.zeros(sequence_length, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv = nn.Linear(width, 3 * width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        state = self.embed(tokens) + self.position
        query, key, value = (
            part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(self.norms[0](state)).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        state = state + mixed.transpose(1, 2).flatten(-2)
        state = state + self.feed_forward(self.norms[1](state))
        return self.head(self.norms[2](state))


def byte_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats per byte."""
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def classifier(feature_count: int) -> nn.Module:
    """A perceptron with one hidden layer; f32 [b, feature_count] to logits f32 [b, 2]."""
    return nn.Sequential(nn.Linear(feature_count, 32), nn.ReLU(), nn.Linear(32, 2))


def class_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats per row."""
    return functional.cross_entropy(model(x), y)
