#!/usr/bin/env python3
"""Makes the reference of the CLIP text encoders with PyTorch alone: pre-norm transformer layers with a causal mask, attention by
torch.nn.MultiheadAttention, as OpenAI's CLIP and OpenCLIP have them, written under transformers' parameter names.
Run: python3 make.py   (any PyTorch; the committed files are from 1.13, computed in float64 and stored in float32)"""
import json, torch
from torch import nn
from layers import Layer, save

def case(name, seed, vocab, width, layers, heads, inner, positions, act, projection, eos, ids):
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    tokens, places = nn.Embedding(vocab, width), nn.Embedding(positions, width)
    stack = nn.ModuleList(Layer(width, heads, inner, {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": nn.functional.gelu}[act]) for _ in range(layers))
    final = nn.LayerNorm(width)
    project = nn.Linear(width, projection, bias=False) if projection else None
    named = {"text_model.embeddings.token_embedding.weight": tokens.weight, "text_model.embeddings.position_embedding.weight": places.weight,
             "text_model.final_layer_norm.weight": final.weight, "text_model.final_layer_norm.bias": final.bias}
    if project: named["text_projection.weight"] = project.weight
    joined = {}
    for i, l in enumerate(stack):
        p = f"text_model.encoder.layers.{i}."
        for ours, theirs in (("layer_norm1", l.ln_1), ("layer_norm2", l.ln_2), ("mlp.fc1", l.c_fc), ("mlp.fc2", l.c_proj), ("self_attn.out_proj", l.attn.out_proj)):
            named[p + ours + ".weight"], named[p + ours + ".bias"] = theirs.weight, theirs.bias
        joined[p] = l.attn
    with torch.no_grad():
        for w in [*named.values(), *(w for a in joined.values() for w in (a.in_proj_weight, a.in_proj_bias))]:
            w.copy_((torch.randn_like(w) * (0.15 if w.dim() > 1 else 0.5) + (1 if w is final.weight else 0)).float())
    # Token embeddings as a leaf of their own: learnt words are differentiated there.
    looked = tokens(ids); looked.retain_grad()
    x = looked + places.weight[: ids.shape[1]]
    mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)
    states = [x]
    for l in stack: states.append(x := l(x, mask))
    last = final(x)
    at = ids.argmax(-1) if eos == 2 else (ids == eos).int().argmax(-1)
    pooled = last[torch.arange(len(ids)), at]
    if project: pooled = project(pooled)
    cotangents = {k: torch.randn_like(v) for k, v in (("last", last), ("pooled", pooled), ("penultimate", states[-2]))}
    (sum((cotangents[k] * v).sum() for k, v in (("last", last), ("pooled", pooled), ("penultimate", states[-2])))).backward()
    def split(which):
        out = {k: which(v) for k, v in named.items()}
        for p, a in joined.items():
            for k, w, b in zip("qkv", which(a.in_proj_weight).chunk(3), which(a.in_proj_bias).chunk(3)):
                out[f"{p}self_attn.{k}_proj.weight"], out[f"{p}self_attn.{k}_proj.bias"] = w, b
        return out
    save(f"{name}/model.safetensors", split(lambda w: w))
    save(f"{name}/param_grads.safetensors", split(lambda w: w.grad))
    save(f"{name}/io.safetensors", {"ids": ids, "last_hidden_state": last, "penultimate": states[-2], "pooled": pooled, "grad.embeddings": looked.grad, **{"cotangent." + k: v for k, v in cotangents.items()}})
    json.dump({"architectures": ["CLIPTextModelWithProjection" if projection else "CLIPTextModel"], "model_type": "clip_text_model", "vocab_size": vocab, "hidden_size": width,
               "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": positions, "hidden_act": act,
               "eos_token_id": eos, **({"projection_dim": projection} if projection else {})}, open(f"{name}/config.json", "w"), indent=2)

import os
for d in ("quick_gelu", "gelu_projection"): os.makedirs(d, exist_ok=True)
# The end token, the largest, comes more than once where it also pads: the first counts.
case("quick_gelu", 1, 40, 24, 3, 4, 96, 12, "quick_gelu", None, 2, torch.tensor([[38, 3, 9, 9, 39, 39, 39, 39, 39, 39], [38, 7, 30, 1, 4, 4, 25, 11, 12, 39]]))
case("gelu_projection", 2, 40, 20, 2, 5, 64, 12, "gelu", 14, 39, torch.tensor([[38, 3, 9, 39, 0, 0, 0, 0], [38, 7, 30, 1, 4, 39, 0, 0], [38, 39, 0, 0, 0, 0, 0, 0]]))
