"""DKT's transformer with everything that never changes computed once. Equal up to rounding.

Constant per checkpoint: the cross-attention's keys and values (the prompt is fixed, its padding
tokens are all equal, and so are the image tokens), and the part of the patch embedding's input that
is zero. Constant per sigma: time embedding and modulations. Constant per clip: what the RGB latents
add to the tokens. Knows diffusers' `WanTransformer3DModel`; nothing of steps, windows or the VAE.
"""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel, WanTransformerBlock
from torch import Tensor, nn
from torch.nn import functional

from dkt_ros.errors import DktError
from dkt_ros.model.context import ConstantContextProcessor, distinct_tokens

ROPE_THETA = 10000.0
KEPT_TABLES = 32
"""Of positions: a stream's windows have some ten, each picture size its own, of megabytes each."""


class ConstantContext(nn.Module):
    """Cross-attention over a context that never changes.

    n equal keys weigh as much as one key whose logit is raised by ln n; equal image tokens give
    their value whatever the query, so they are a bias; V and the output projection are one matrix.
    With a single distinct text token the whole layer is a bias.
    """

    def __init__(
        self, block: WanTransformerBlock, text: Tensor, counts: Tensor, image: Tensor | None
    ) -> None:
        """text: (U, D) distinct tokens; counts: (U,); image: (1, D) the image token, or None."""
        super().__init__()
        attention = block.attn2
        self.heads = attention.heads
        out, dtype = attention.to_out[0], attention.to_q.weight.dtype
        constant = out.bias.float()
        if image is not None and attention.add_v_proj is not None:
            constant = constant + out.weight.float() @ attention.add_v_proj(image)[0].float()
        value = attention.to_v(text).float().unflatten(1, (self.heads, -1))
        weight = out.weight.float().unflatten(1, (self.heads, -1))
        values = torch.einsum("uhd,ohd->huo", value, weight).flatten(0, 1)
        self.single = len(counts) == 1
        if self.single:
            constant = constant + values.sum(dim=0)
        else:
            key = attention.norm_k(attention.to_k(text)).unflatten(1, (self.heads, -1))
            scale = key.shape[-1] ** -0.5
            self.register_buffer("keys", (key.float() * scale).permute(1, 2, 0).to(dtype))
            self.register_buffer("log_counts", counts.to(values).log())
            self.register_buffer("values", values.to(dtype))
            self.norm, self.to_q, self.norm_q = block.norm2, attention.to_q, attention.norm_q
        self.register_buffer("constant", constant.to(dtype))
        self.constant: Tensor
        self.keys: Tensor
        self.log_counts: Tensor
        self.values: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """What the cross-attention adds to tokens x (B, N, D)."""
        if self.single:
            return self.constant
        query = self.norm_q(self.to_q(self.norm(x.float()).to(x.dtype)))
        query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)
        logits = (query @ self.keys).float() + self.log_counts
        weights = logits.softmax(dim=-1).to(x.dtype).transpose(1, 2).flatten(2)
        return weights @ self.values + self.constant


class FastTransformer(nn.Module):
    """The step function of the samplers and the constants it takes.

    `step` is pure: tensors in, one tensor out, static shapes. The rest computes its arguments.
    """

    def __init__(
        self, transformer: WanTransformer3DModel, prompt_embeds: Tensor, sees_depth: bool = False
    ) -> None:
        """prompt_embeds: (1, L, text_dim), the prompt as the transformer takes it.

        sees_depth: whether the checkpoint is shown raw depth beside RGB; else those inputs are
        always zero. The weights are shared, not copied.
        """
        super().__init__()
        config, embedder = transformer.config, transformer.condition_embedder
        if config["pos_embed_seq_len"] is not None:
            raise DktError("the transformer's image tokens differ by position: expected equal ones")
        self.patch = tuple(config["patch_size"])
        self.channels = int(config["out_channels"])
        self.heads = int(config["num_attention_heads"])
        self.head_dim = int(config["attention_head_dim"])
        self.freq_dim = int(config["freq_dim"])
        self.blocks, self.embedder = transformer.blocks, embedder
        self.norm_out, self.proj_out = transformer.norm_out, transformer.proj_out
        self.scale_shift_table = transformer.scale_shift_table
        weight = transformer.patch_embedding.weight
        self.conditions = self.channels * (2 if sees_depth else 1)
        noisy, rgb, _ = weight.tensor_split((self.channels, self.channels + self.conditions), dim=1)
        self.register_buffer("noisy_weight", noisy.flatten(1).detach().clone())
        self.register_buffer("rgb_weight", rgb.flatten(1).detach().clone())
        self.patch_bias = transformer.patch_embedding.bias
        self.noisy_weight: Tensor
        self.rgb_weight: Tensor
        self.dtype = weight.dtype
        with torch.no_grad():
            tokens, counts = _prompt_tokens(transformer, prompt_embeds)
            text = embedder.text_embedder(tokens.to(weight.device, self.dtype))[0]
            image = None
            if embedder.image_embedder is not None:
                zero = torch.zeros(1, 1, config["image_dim"], device=weight.device)
                image = embedder.image_embedder(zero.to(self.dtype))[0]
            self.contexts = nn.ModuleList(
                ConstantContext(block, text, counts.to(weight.device), image)
                for block in transformer.blocks
            )
        self._modulations: dict[float, tuple[Tensor, Tensor]] = {}
        self._tables: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def embed_rgb(self, latents: Tensor) -> Tensor:
        """RGB latents (1, Z, T, h, w) -> their part of the tokens (1, 1, T, n, D), n per frame.

        With those of the raw depth behind them, (1, 2 Z, ...), where the checkpoint is shown it.
        """
        tokens = functional.linear(self._patches(latents), self.rgb_weight, self.patch_bias)
        return tokens.unflatten(1, (latents.shape[2] // self.patch[0], -1))[:, None]

    def modulations(self, timestep: float) -> tuple[Tensor, Tensor]:
        """Shifts, scales and gates at a timestep: of the blocks (L, 6, D), the output (2, D)."""
        if timestep not in self._modulations:
            embedder = self.embedder
            with torch.no_grad():
                where = self.noisy_weight.device
                steps = torch.tensor([timestep], device=where, dtype=torch.float32)
                sines = embedder.timesteps_proj(steps)
                linear = embedder.time_embedder.linear_1.weight.dtype
                time = embedder.time_embedder(sines.to(linear)).to(self.dtype)
                change = embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1)).float()
                tables = [block.scale_shift_table.float() + change for block in self.blocks]
                final = self.scale_shift_table.float() + time.float()[:, None]
            self._modulations[timestep] = torch.cat(tables), final[0]
        return self._modulations[timestep]

    def rope(self, frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """cos and sin (N, 1, head_dim / 2), float32, for a window of that many patches a side.

        Angles are position / theta^(2i/dim), built in float64; the pairs of a head belong to time,
        then height, then width.
        """
        size = (frames, height, width)
        if size not in self._tables:
            across = 2 * (self.head_dim // 6)
            dims = (self.head_dim - 2 * across, across, across)
            parts = []
            for axis, (count, dim) in enumerate(zip(size, dims, strict=True)):
                rates = ROPE_THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
                angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
                shape = [1, 1, 1, -1]
                shape[axis] = count
                parts.append(angles.view(shape).expand(*size, -1))
            table = torch.cat(parts, dim=-1).flatten(0, 2)[:, None]
            device = self.noisy_weight.device
            while len(self._tables) >= KEPT_TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[size] = (table.cos().float().to(device), table.sin().float().to(device))
        return self._tables[size]

    def step(
        self,
        noisy: Tensor,
        rgb_tokens: Tensor,
        modulation: Tensor,
        final: Tensor,
        cos: Tensor,
        sin: Tensor,
        keep: int,
    ) -> Tensor:
        """Flow velocity (1, Z, keep, h, w) float32 of a window's last `keep` latent frames.

        noisy: (1, Z, T, h, w); rgb_tokens: (1, 1, T, n, D) of `embed_rgb`; modulation and final of
        `modulations`; cos and sin of `rope`. Frames that are not kept serve as context.
        """
        x = functional.linear(self._patches(noisy), self.noisy_weight) + rgb_tokens.flatten(1, 3)
        last = keep * rgb_tokens.shape[3]  # tokens of the frames that are kept
        for index, block in enumerate(self.blocks):
            shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = modulation[index].unbind(0)
            y = (block.norm1(x.float()) * (1 + scale) + shift).to(x.dtype)
            kept = last if index == len(self.blocks) - 1 else x.shape[1]
            # In the last block the context has said what it knows once it has keys and values.
            x = x[:, x.shape[1] - kept :]
            attended = self._self_attention(block, y, cos, sin, kept)
            x = (x.float() + attended * gate).to(x.dtype)
            x = x + self.contexts[index](x)
            y = (block.norm3(x.float()) * (1 + ffn_scale) + ffn_shift).to(x.dtype)
            x = (x.float() + block.ffn(y).float() * ffn_gate).to(x.dtype)
        shift, scale = final.unbind(0)
        x = self.proj_out((self.norm_out(x.float()) * (1 + scale) + shift).to(x.dtype))
        return self._unpatched(x.float(), keep, noisy.shape[3], noisy.shape[4])

    def _self_attention(
        self, block: WanTransformerBlock, y: Tensor, cos: Tensor, sin: Tensor, kept: int
    ) -> Tensor:
        attention, start = block.attn1, y.shape[1] - kept
        query = attention.norm_q(attention.to_q(y[:, start:])).unflatten(2, (self.heads, -1))
        key = attention.norm_k(attention.to_k(y)).unflatten(2, (self.heads, -1))
        value = attention.to_v(y).unflatten(2, (self.heads, -1))
        query, key = rotate(query, cos[start:], sin[start:]), rotate(key, cos, sin)
        out = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        return attention.to_out[0](out.transpose(1, 2).flatten(2))

    def _patches(self, latents: Tensor) -> Tensor:
        """(1, Z, T, h, w) -> (1, N, Z * patch), in the order of the patch embedding's weight."""
        t, h, w = self.patch
        _, channels, frames, height, width = latents.shape
        x = latents.to(self.dtype).view(1, channels, frames // t, t, height // h, h, width // w, w)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def _unpatched(self, x: Tensor, frames: int, height: int, width: int) -> Tensor:
        """(1, N, patch * Z) -> (1, Z, T, h, w)."""
        t, h, w = self.patch
        x = x.view(1, frames // t, height // h, width // w, t, h, w, self.channels)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(1, self.channels, frames, height, width)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions in real numbers: neighbouring pairs of x (B, N, H, D) turn by an angle."""
    pairs = x.unflatten(-1, (-1, 2))
    first, second = pairs[..., 0], pairs[..., 1]
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def _prompt_tokens(
    transformer: WanTransformer3DModel, prompt_embeds: Tensor
) -> tuple[Tensor, Tensor]:
    processor = transformer.blocks[0].attn2.processor
    if isinstance(processor, ConstantContextProcessor):  # its prompt holds distinct tokens already
        return prompt_embeds, processor.counts
    return distinct_tokens(prompt_embeds)
