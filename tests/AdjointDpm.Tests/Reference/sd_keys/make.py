#!/usr/bin/env python3
"""Writes names.txt.gz, the names and shapes that sd_keys.py generates: one tensor a line, "set name shape". Run: python3 make.py"""
import gzip
from sd_keys import *
u15, uxl, v, t = unet((320, 640, 1280, 1280), 768, (1, 1, 1, 0), (1, 1, 1, 1)), unet((320, 640, 1280), 2048, (0, 1, 1), (0, 2, 10), True, 2816), vae(), clip_text()
sets = {"sd1.unet": u15, "xl.unet": uxl, "vae": v, "clip_l": t,
        "sd1.file": {unet_to_ldm(k, (0, 1, 1, 1)): s for k, s in u15.items()}, "xl.file": {unet_to_ldm(k, (1, 1, 0)): s for k, s in uxl.items()}}
lora = {}
for prefix, modules, shapes in (("lora_unet", lora_modules_unet(u15), u15), ("lora_te", lora_modules_te(t), t)):
    for m in modules:
        out, *rest = shapes[m + ".weight"]
        lora[kohya(prefix, m) + ".lora_down.weight"] = (4, *rest)
        lora[kohya(prefix, m) + ".lora_up.weight"] = (out, 4, *(1 for _ in rest[1:]))
        lora[kohya(prefix, m) + ".alpha"] = ()
sets["sd1.lora"] = lora
text = "".join(f"{name} {k} {','.join(map(str, s))}\n" for name, d in sets.items() for k, s in sorted(d.items()))
with gzip.GzipFile("names.txt.gz", "wb", mtime=0) as f: f.write(text.encode())
