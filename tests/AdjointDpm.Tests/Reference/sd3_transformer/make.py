#!/usr/bin/env python3
"""Makes the references of Stable Diffusion 3's transformer with PyTorch alone: the multimodal diffusion transformer of Esser et al. (2024), written as
plain functions of named weights after the paper and diffusers' public transformer_sd3.py, with its names. Float64, stored in float32: outputs, and the
gradient of every input and weight by PyTorch's own autograd. sd3: as Stable Diffusion 3. sd35: normalised queries and keys, two blocks with a second
attention. The latents are no square, two samples have times of their own. Run: python3 make.py"""
import json, math, os, sys, numpy as np, torch
import torch.nn.functional as F
sys.path.insert(0, "../clip_text")
from layers import save

torch.set_default_dtype(torch.float64)

def shapes(c):
    d = c["num_attention_heads"] * c["attention_head_dim"]
    out = {"pos_embed.proj": (d, c["in_channels"], c["patch_size"], c["patch_size"]), "context_embedder": (d, c["joint_attention_dim"]),
           "time_text_embed.timestep_embedder.linear_1": (d, 256), "time_text_embed.timestep_embedder.linear_2": (d, d),
           "time_text_embed.text_embedder.linear_1": (d, c["pooled_projection_dim"]), "time_text_embed.text_embedder.linear_2": (d, d),
           "norm_out.linear": (2 * d, d), "proj_out": (c["patch_size"] ** 2 * c["out_channels"], d)}
    single = {}
    for i in range(c["num_layers"]):
        p, last, dual = f"transformer_blocks.{i}.", i == c["num_layers"] - 1, i in c.get("dual_attention_layers", [])
        out[p + "norm1.linear"], out[p + "norm1_context.linear"] = ((9 if dual else 6) * d, d), ((2 if last else 6) * d, d)
        for name in ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0"] + ([] if last else ["to_add_out"]): out[p + "attn." + name] = (d, d)
        for name in ["to_q", "to_k", "to_v", "to_out.0"] if dual else []: out[p + "attn2." + name] = (d, d)
        for name in ["ff"] + ([] if last else ["ff_context"]): out[p + name + ".net.0.proj"], out[p + name + ".net.2"] = (4 * d, d), (d, 4 * d)
        if c.get("qk_norm"):
            for name in ["attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k"] + (["attn2.norm_q", "attn2.norm_k"] if dual else []): single[p + name + ".weight"] = (c["attention_head_dim"],)
    return {**{k + ".weight": s for k, s in out.items()}, **{k + ".bias": s[:1] for k, s in out.items()}, **single}

def positions(c):
    d, side, base = c["num_attention_heads"] * c["attention_head_dim"], c["pos_embed_max_size"], c["sample_size"] // c["patch_size"]
    line = np.arange(side, dtype=np.float32) / (side / base)
    columns, rows = np.meshgrid(line, line)
    omega = 1.0 / 10000 ** (np.arange(d // 4, dtype=np.float64) / (d / 4.0))
    parts = [f(np.outer(which.reshape(-1), omega)) for which in (columns, rows) for f in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate(parts, 1)).float().double()[None]

def forward(c, w, x, time, states, pooled):
    lin = lambda name, v: F.linear(v, w[name + ".weight"], w[name + ".bias"])
    heads, p, side = c["num_attention_heads"], c["patch_size"], c["pos_embed_max_size"]
    b, _, height, width = x.shape
    h, v = height // p, width // p
    d = heads * c["attention_head_dim"]
    norm = lambda t: F.layer_norm(t, (d,), eps=1e-6)
    split = lambda t: t.reshape(b, -1, heads, d // heads).permute(0, 2, 1, 3)
    def rms(name, t):
        return t / torch.sqrt(t.pow(2).mean(-1, keepdim=True) + 1e-6) * w[name + ".weight"] if c.get("qk_norm") else t
    def attend(q, k, v): return (torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // heads), -1) @ v).permute(0, 2, 1, 3).reshape(b, -1, d)
    ff = lambda name, t: lin(name + ".net.2", F.gelu(lin(name + ".net.0.proj", t), approximate="tanh"))
    table = w["pos_embed.pos_embed"].reshape(side, side, d)
    top, left = (side - h) // 2, (side - v) // 2
    image = F.conv2d(x, w["pos_embed.proj.weight"], w["pos_embed.proj.bias"], stride=p).flatten(2).transpose(1, 2) + table[top:top + h, left:left + v].reshape(1, h * v, d)
    # In float32 and in this order, as in diffusers: trained weights have only ever seen these values.
    angles = time.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
    wave = torch.cat([angles.cos(), angles.sin()], 1).double()
    t = lin("time_text_embed.timestep_embedder.linear_2", F.silu(lin("time_text_embed.timestep_embedder.linear_1", wave)))
    t = F.silu(t + lin("time_text_embed.text_embedder.linear_2", F.silu(lin("time_text_embed.text_embedder.linear_1", pooled))))
    text = lin("context_embedder", states)
    for i in range(c["num_layers"]):
        k, last, dual = f"transformer_blocks.{i}.", i == c["num_layers"] - 1, i in c.get("dual_attention_layers", [])
        m = lin(k + "norm1.linear", t)[:, None].split(d, -1)
        n = lin(k + "norm1_context.linear", t)[:, None].split(d, -1)
        a = norm(image) * (1 + m[1]) + m[0]
        e = norm(text) * (1 + n[0]) + n[1] if last else norm(text) * (1 + n[1]) + n[0]
        q, r, s = (split(lin(k + "attn.to_" + z, a)) for z in "qkv")
        q2, r2, s2 = (split(lin(k + f"attn.add_{z}_proj", e)) for z in "qkv")
        q, r, q2, r2 = rms(k + "attn.norm_q", q), rms(k + "attn.norm_k", r), rms(k + "attn.norm_added_q", q2), rms(k + "attn.norm_added_k", r2)
        both = attend(torch.cat([q, q2], 2), torch.cat([r, r2], 2), torch.cat([s, s2], 2))
        count = image.shape[1]
        if dual:
            a2 = norm(image) * (1 + m[7]) + m[6]
            q, r, s = (split(lin(k + "attn2.to_" + z, a2)) for z in "qkv")
            second = m[8] * lin(k + "attn2.to_out.0", attend(rms(k + "attn2.norm_q", q), rms(k + "attn2.norm_k", r), s))
        image = image + m[2] * lin(k + "attn.to_out.0", both[:, :count])
        if dual: image = image + second
        image = image + m[5] * ff(k + "ff", norm(image) * (1 + m[4]) + m[3])
        if not last:
            text = text + n[2] * lin(k + "attn.to_add_out", both[:, count:])
            text = text + n[5] * ff(k + "ff_context", norm(text) * (1 + n[4]) + n[3])
    scale, shift = lin("norm_out.linear", t)[:, None].split(d, -1)
    y = lin("proj_out", norm(image) * (1 + scale) + shift).reshape(b, h, v, p, p, c["out_channels"])
    return torch.einsum("nhwpqc->nchpwq", y).reshape(b, c["out_channels"], height, width)

common = {"_class_name": "SD3Transformer2DModel", "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "attention_head_dim": 8, "num_attention_heads": 2,
          "joint_attention_dim": 12, "caption_projection_dim": 16, "pooled_projection_dim": 10, "pos_embed_max_size": 6}
for seed, (name, c) in enumerate({"sd3": {**common, "num_layers": 2}, "sd35": {**common, "num_layers": 3, "qk_norm": "rms_norm", "dual_attention_layers": [0, 1]}}.items()):
    torch.manual_seed(seed)
    w = {k: (torch.randn(s) * (0.15 if len(s) > 1 else 0.3) + (1 if "norm_" in k and len(s) == 1 and "linear" not in k else 0)).float().double().requires_grad_() for k, s in shapes(c).items()}
    inputs = {"sample": torch.randn(2, 4, 10, 6), "states": torch.randn(2, 3, 12), "pooled": torch.randn(2, 10)}
    inputs = {k: v.float().double().requires_grad_() for k, v in inputs.items()}
    time = torch.tensor([7.25, 2.0])  # Small: the last bit of a frequency in float32 differs between releases, and times it is the angle.
    fixed = {"pos_embed.pos_embed": positions(c)}
    output = forward(c, {**w, **fixed}, inputs["sample"], time, inputs["states"], inputs["pooled"])
    cotangent = torch.randn_like(output).float().double()
    (output * cotangent).sum().backward()
    os.makedirs(name, exist_ok=True)
    save(f"{name}/diffusion_pytorch_model.safetensors", {**w, **fixed})
    save(f"{name}/param_grads.safetensors", {k: v.grad for k, v in w.items()})
    save(f"{name}/io.safetensors", {**inputs, "timestep": time, "output": output, "cotangent": cotangent, **{"grad." + k: v.grad for k, v in inputs.items()}})
    json.dump(c, open(f"{name}/config.json", "w"), indent=2)
