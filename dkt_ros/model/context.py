"""Cross-attention over DKT's constant context, each distinct token once.

The prompt is one fixed embedding whose padding tokens are all equal, and every image token is zero:
n equal keys weigh as much as one key whose logit is raised by ln n, and equal image tokens give
their value whatever the query. Exact up to rounding. Knows diffusers' `WanAttention`, nothing of
checkpoints or sampling.
"""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformer3DModel
from torch import Tensor
from torch.nn import functional


class ConstantContextProcessor:
    """Attention processor of `attn2`: a context of one image token and distinct text tokens.

    counts: (L,) how often each distinct text token stands in the full prompt.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """hidden_states (B, N, D), context (B, [1 +] L, D) -> (B, N, D), or (B, 1, D) if L is 1."""
        length = len(self.counts)
        image_tokens = encoder_hidden_states.shape[1] - length
        if image_tokens not in (0, 1):
            raise ValueError(f"context has {image_tokens} image tokens, expected at most one")
        text = encoder_hidden_states[:, image_tokens:]
        out = attn.to_v(text) if length == 1 else self._attend(attn, hidden_states, text)
        if image_tokens and attn.add_v_proj is not None:
            out = out + attn.add_v_proj(encoder_hidden_states[:, :1])
        for layer in attn.to_out:
            out = layer(out)
        return out

    def _attend(self, attn: WanAttention, hidden_states: Tensor, text: Tensor) -> Tensor:
        heads = attn.heads
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (heads, -1)).transpose(1, 2)
        key = attn.norm_k(attn.to_k(text)).unflatten(2, (heads, -1)).transpose(1, 2)
        value = attn.to_v(text).unflatten(2, (heads, -1)).transpose(1, 2)
        bias = self.counts.to(query).log()
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return out.transpose(1, 2).flatten(2)


def distinct_tokens(prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Prompt (1, L, D) -> its distinct tokens (1, U, D) and how often each occurs (U,)."""
    tokens, counts = torch.unique(prompt[0], dim=0, return_counts=True)
    return tokens[None], counts


def use_constant_context(transformer: WanTransformer3DModel, counts: Tensor) -> None:
    """Makes every block's cross-attention expect distinct tokens, in place.

    From then on the transformer is called with `distinct_tokens(prompt)[0]` as its text and, where
    it has an image branch, with ONE zero image token (B, 1, image_dim).
    """
    for block in transformer.blocks:
        block.attn2.set_processor(ConstantContextProcessor(counts))
