"""Which tensor of a single file becomes which of diffusers' autoencoder and text encoders, by diffusers' own conversion, and in what form.

The names of single files are CompVis' autoencoder's and OpenCLIP's, written out here; diffusers' code finds its own for them.
A line is "set, diffusers' name, single file's name, form": same, pointwise (a 1x1 convolution that becomes linear), transposed, q, k or v (a third of it).

python3 names.py DIFFUSERS/src/diffusers
"""
import gzip, importlib, sys, types
import torch
from bare import install, stub

install(sys.argv[1])
for name in ["requests", "yaml"]:
    stub(name)
# This one module of the folder is the real one.
sys.modules["diffusers.loaders"].__path__ = [sys.argv[1] + "/loaders"]
convert = importlib.import_module("diffusers.loaders.single_file_utils")


def vae():
    both = lambda path: [path + ".weight", path + ".bias"]
    names = both("quant_conv") + both("post_quant_conv")
    for side in ["encoder", "decoder"]:
        for layer in ["conv_in", "norm_out", "conv_out"] + [f"mid.block_{n}.{l}" for n in (1, 2) for l in ("norm1", "conv1", "norm2", "conv2")] + [f"mid.attn_1.{l}" for l in ("norm", "q", "k", "v", "proj_out")]:
            names += both(f"{side}.{layer}")
        for stage in range(4):
            level = f"{side}.{'down' if side == 'encoder' else 'up'}.{stage}"
            widens = stage in (1, 2) if side == "encoder" else stage in (0, 1)
            for block in range(2 if side == "encoder" else 3):
                for layer in ["norm1", "conv1", "norm2", "conv2"] + (["nin_shortcut"] if widens and block == 0 else []):
                    names += both(f"{level}.block.{block}.{layer}")
            if side == "encoder" and stage < 3:
                names += both(level + ".downsample.conv")
            if side == "decoder" and stage > 0:
                names += both(level + ".upsample.conv")
    return names


def open_clip(layers, projects):
    names = ["positional_embedding", "token_embedding.weight", "ln_final.weight", "ln_final.bias"] + (["text_projection"] if projects else [])
    for n in range(layers):
        at = f"transformer.resblocks.{n}."
        names += [at + f"{norm}.{kind}" for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")] + [at + "attn.in_proj_weight", at + "attn.in_proj_bias"]
        names += [at + f"{layer}.{kind}" for layer in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj") for kind in ("weight", "bias")]
    return names


def lines(label, prefix, names, run):
    # Each tensor holds its number, and each of its rows and columns its place, so that what comes out says where it is from.
    there = {}
    for number, name in enumerate(names):
        shape = (6, 2) if name.endswith("in_proj_weight") else (6,) if name.endswith("in_proj_bias") else (2, 2, 1, 1) if ".attn_1." in name and name.endswith("weight") and ".norm." not in name else (2, 2)
        places = torch.arange(12).float()[: torch.Size(shape).numel()].reshape(shape)
        there[prefix + name] = number * 100 + places
    for ours, value in sorted(run(there).items()):
        theirs = names[int(value.flatten()[0]) // 100]
        source = there[prefix + theirs]
        if "in_proj" in theirs:
            form = "qkv"[int(value.flatten()[0] - source.flatten()[0]) // (4 if value.dim() == 2 else 2)]
        elif source.dim() == 4:
            form = "pointwise" if value.dim() == 2 else "same"
        else:
            form = "same" if torch.equal(value, source) else "transposed"
        yield f"{label} {ours} {prefix}{theirs} {form}"


encoder = types.SimpleNamespace(config=types.SimpleNamespace(hidden_size=2))
text = "\n".join([
    *lines("vae", "first_stage_model.", vae(), lambda c: convert.convert_ldm_vae_checkpoint(c, {"down_block_types": [0] * 4, "up_block_types": [0] * 4})),
    *lines("sd2.text", "cond_stage_model.model.", open_clip(23, False), lambda c: convert.convert_open_clip_checkpoint(encoder, c)),
    *lines("xl.text2", "conditioner.embedders.1.model.", open_clip(32, True), lambda c: convert.convert_open_clip_checkpoint(encoder, c, prefix="conditioner.embedders.1.model.")),
]) + "\n"
with open("names.txt.gz", "wb") as file:
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        packed.write(text.encode())
