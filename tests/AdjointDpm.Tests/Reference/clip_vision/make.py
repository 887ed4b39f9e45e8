#!/usr/bin/env python3
"""Makes the reference of the CLIP vision tower with PyTorch alone, as make.py of clip_text does for the text encoders: the Vision Transformer of
OpenAI's CLIP (class state first, normalised before and behind the layers, no mask), under transformers' names. Float64, stored in float32.
Run: python3 make.py"""
import json, sys, torch
from torch import nn
sys.path.insert(0, "../clip_text")
from layers import Layer, save

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
width, heads, inner, layers, size, patch, projection = 24, 3, 40, 3, 12, 4, 10
first, patches, places = nn.Parameter(torch.zeros(width)), nn.Conv2d(3, width, patch, patch, bias=False), nn.Embedding((size // patch) ** 2 + 1, width)
before, behind, project = nn.LayerNorm(width), nn.LayerNorm(width), nn.Linear(width, projection, bias=False)
stack = nn.ModuleList(Layer(width, heads, inner, nn.functional.gelu) for _ in range(layers))
v = "vision_model."
named = {v + "embeddings.class_embedding": first, v + "embeddings.patch_embedding.weight": patches.weight, v + "embeddings.position_embedding.weight": places.weight,
         v + "pre_layrnorm.weight": before.weight, v + "pre_layrnorm.bias": before.bias, v + "post_layernorm.weight": behind.weight, v + "post_layernorm.bias": behind.bias,
         "visual_projection.weight": project.weight}
joined = {}
for i, l in enumerate(stack):
    p = f"{v}encoder.layers.{i}."
    for ours, theirs in (("layer_norm1", l.ln_1), ("layer_norm2", l.ln_2), ("mlp.fc1", l.c_fc), ("mlp.fc2", l.c_proj), ("self_attn.out_proj", l.attn.out_proj)):
        named[p + ours + ".weight"], named[p + ours + ".bias"] = theirs.weight, theirs.bias
    joined[p] = l.attn
with torch.no_grad():
    for w in [*named.values(), *(w for a in joined.values() for w in (a.in_proj_weight, a.in_proj_bias))]:
        w.copy_((torch.randn_like(w) * (0.15 if w.dim() > 1 else 0.5)).float())
pixels = torch.randn(2, 3, size, size).float().double().requires_grad_()
x = patches(pixels).flatten(2).transpose(1, 2)
x = before(torch.cat([first.expand(2, 1, -1), x], 1) + places.weight)
for l in stack: x = l(x, None)
output = project(behind(x[:, 0]))
cotangent = torch.randn_like(output)
(cotangent * output).sum().backward()
def split(which):
    out = {k: which(w) for k, w in named.items()}
    for p, a in joined.items():
        for k, w, b in zip("qkv", which(a.in_proj_weight).chunk(3), which(a.in_proj_bias).chunk(3)):
            out[f"{p}self_attn.{k}_proj.weight"], out[f"{p}self_attn.{k}_proj.bias"] = w, b
    return out
save("model.safetensors", split(lambda w: w))
save("param_grads.safetensors", split(lambda w: w.grad))
save("io.safetensors", {"pixels": pixels, "output": output, "cotangent": cotangent, "grad.pixels": pixels.grad})
json.dump({"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model", "hidden_size": width, "intermediate_size": inner, "projection_dim": projection,
           "num_hidden_layers": layers, "num_attention_heads": heads, "image_size": size, "patch_size": patch, "hidden_act": "gelu"}, open("config.json", "w"), indent=2)
