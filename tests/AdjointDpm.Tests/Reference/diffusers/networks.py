"""Outputs and gradients of diffusers' networks for configurations beyond those of the released models, in float64.

Weights and inputs are numbers of a formula (`numbers`), so that none has to be stored. Of a weight's gradient the file has its
product with such numbers.

python3 networks.py DIFFUSERS/src/diffusers > networks.json
"""
import importlib, json, math, sys
import numpy as np
import torch
from bare import install

install(sys.argv[1])
torch.set_default_dtype(torch.float64)
# Products of small matrices read memory that nobody wrote in the PyTorch 1.13 of Debian 12.
torch.bmm = lambda a, b: (a.unsqueeze(-1) * b.unsqueeze(1)).sum(2)
torch.baddbmm = lambda _, a, b, beta, alpha: alpha * torch.bmm(a, b)


def numbers(name, shape):
    """Uniform in [-1, 1), by name and place."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    count = int(np.prod(shape, dtype=np.int64))
    u = np.sin(12.9898 * (np.arange(count, dtype=np.float64) + 1) + 78.233 * seed / 2**32) * 43758.5453
    return torch.from_numpy(2 * (u - np.floor(u)) - 1).reshape(tuple(shape))


def fill(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = numbers(name, p.shape)
            if p.dim() > 1:
                value = value * math.sqrt(3 / np.prod(p.shape[1:]))
            else:
                value = value * 0.2 + (1 if name.endswith("weight") else 0)
            p.copy_(value)


CONDITION = {"block_out_channels": [8, 16], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 12, "attention_head_dim": 2}
XL = {**CONDITION, "block_out_channels": [8, 16, 16], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
      "attention_head_dim": [1, 2, 4], "transformer_layers_per_block": [1, 1, 2], "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 6, "projection_class_embeddings_input_dim": 41}
UNCONDITIONAL = {"in_channels": 2, "out_channels": 3, "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
KL = {"block_out_channels": [8, 12], "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "norm_num_groups": 4}
CASES = {
    "sd2": ("UNet2DConditionModel", {**CONDITION, "attention_head_dim": [2, 4], "use_linear_projection": True, "upcast_attention": True}),
    "sdxl": ("UNet2DConditionModel", XL),
    "sdxl-mish": ("UNet2DConditionModel", {**XL, "act_fn": "mish"}),
    "only-cross-attention": ("UNet2DConditionModel", {**CONDITION, "only_cross_attention": True}),
    "no-middle": ("UNet2DConditionModel", {**CONDITION, "mid_block_type": None}),
    "kernels": ("UNet2DConditionModel", {**CONDITION, "conv_in_kernel": 5, "conv_out_kernel": 1}),
    "scale-shift": ("UNet2DConditionModel", {**CONDITION, "resnet_time_scale_shift": "scale_shift", "center_input_sample": True, "flip_sin_to_cos": False, "freq_shift": 1}),
    "gelu-classes": ("UNet2DConditionModel", {**CONDITION, "act_fn": "gelu", "class_embed_type": "timestep", "downsample_padding": 0, "mid_block_scale_factor": 1.5}),
    "projected-classes": ("UNet2DConditionModel", {**CONDITION, "act_fn": "gelu", "class_embed_type": "projection", "projection_class_embeddings_input_dim": 5}),
    "picture-mish": ("UNet2DModel", {**UNCONDITIONAL, "act_fn": "mish", "class_embed_type": "timestep"}),
    "picture-gelu": ("UNet2DModel", {**UNCONDITIONAL, "act_fn": "gelu", "num_class_embeds": 5, "attention_head_dim": None, "mid_block_scale_factor": 1.5}),
    "picture-no-middle": ("UNet2DModel", {**UNCONDITIONAL, "mid_block_type": None, "downsample_type": "resnet", "upsample_type": "resnet"}),
    "picture-scale-shift": ("UNet2DModel", {**UNCONDITIONAL, "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 2}),
    "autoencoder-mish": ("AutoencoderKL", {**KL, "act_fn": "mish"}),
    "autoencoder-plain": ("AutoencoderKL", {**KL, "use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False, "layers_per_block": 2, "latent_channels": 3}),
}
WHERE = {"UNet2DConditionModel": "unets.unet_2d_condition", "UNet2DModel": "unets.unet_2d", "AutoencoderKL": "autoencoders.autoencoder_kl"}


def run(kind, config):
    model = getattr(importlib.import_module("diffusers.models." + WHERE[kind]), kind)(**config)
    fill(model)
    model.eval()
    if config.get("class_embed_type") == "timestep":
        # Waves of times are float32 always; one of the classes forgets to widen them.
        model.class_embedding.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    give = lambda name, *shape: numbers("input." + name, shape).mul_(1.7).requires_grad_()
    if kind == "UNet2DConditionModel":
        leaves = {"sample": give("sample", 2, 4, 6, 7), "context": give("context", 2, 5, 12)}
        more = {}
        if config.get("addition_embed_type"):
            leaves["text_embeds"] = give("text_embeds", 2, 5)
            more["added_cond_kwargs"] = {"text_embeds": leaves["text_embeds"], "time_ids": torch.tensor([[64.0, 48, 0, 8, 64, 64], [32, 64, 4, 0, 32, 32]])}
        if config.get("class_embed_type") == "timestep":
            more["class_labels"] = torch.tensor([250.0, 3.0])
        if config.get("class_embed_type") == "projection":
            more["class_labels"] = leaves["classes"] = give("classes", 2, 5)
        output = model(leaves["sample"], torch.tensor([31.0, 907.0]), leaves["context"], **more).sample
    elif kind == "UNet2DModel":
        leaves = {"sample": give("sample", 2, 2, 6, 8)}
        labels = torch.tensor([250.0, 3.0]) if config.get("class_embed_type") else torch.tensor([4, 0]) if config.get("num_class_embeds") else None
        output = model(leaves["sample"], torch.tensor([31.0, 907.0]), class_labels=labels).sample
    else:
        leaves = {"sample": give("sample", 2, 3, 8, 12)}
        mean = model.encode(leaves["sample"]).latent_dist.mean
        output = model.decode(mean).sample
    output.mul(numbers("cotangent", output.shape)).sum().backward()
    rounded = lambda t: [float(f"{v:.7g}") for v in t.detach().flatten().tolist()]
    gradients = {n: rounded((p.grad * numbers("cotangent." + n, p.shape)).sum())[0] for n, p in model.named_parameters() if p.grad is not None}
    return {"class": kind, "config": json.dumps({"_class_name": kind, **config}), "shape": list(output.shape), "output": rounded(output), "inputs": {n: rounded(x.grad) for n, x in leaves.items()}, "gradients": gradients}


print("{" + ",\n".join(f"{json.dumps(n)}: {json.dumps(run(*c), separators=(',', ':'))}" for n, c in CASES.items()) + "}")
