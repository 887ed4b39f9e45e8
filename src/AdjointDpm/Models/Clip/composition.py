#!/usr/bin/env python3
"""Writes composition.txt beside this file: Unicode's canonical decompositions ("c CODE PARTS…", a leading "x" where they do not
compose again) and combining classes ("m CODE CLASS"), Hangul left out. Needs the plain Python whose Unicode version it then has."""
import pathlib, sys, unicodedata as u
lines = [f"# Unicode {u.unidata_version}"]
for code in range(sys.maxunicode + 1):
    c = chr(code)
    if 0xAC00 <= code <= 0xD7A3 or 0xD800 <= code <= 0xDFFF: continue
    parts = u.decomposition(c)
    if parts and not parts.startswith("<"):
        lines.append(("c" if u.normalize("NFC", c) == c else "x") + f" {code:X} {parts}")
    if u.combining(c): lines.append(f"m {code:X} {u.combining(c)}")
pathlib.Path(__file__).with_name("composition.txt").write_text("\n".join(lines) + "\n")
