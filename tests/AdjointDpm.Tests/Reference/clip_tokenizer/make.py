#!/usr/bin/env python3
"""Makes a small CLIP-style vocabulary, learnt on the text below, and golden ids by a plain byte-level BPE after OpenAI's simple_tokenizer;
and golden ids of the same code for CLIP's own table of merges. Pure Python. Run: python3 make.py"""
import gzip, json, random, unicodedata

CORPUS = """a photo of a red square on a white ground; a painting of a blue circle, in the style of an old master. the quick brown fox jumps
over the lazy dog. a small green triangle above a large yellow square; a drawing of a dark night with bright stars, high quality, detailed.
low quality, blurry. don't, it's, we'll, they've, i'm, you'd, we're. naïve café, straße, ключ и замок, 日本語 の 写真, ελληνικά γράμματα.
photograph photography photographic circle circles square squares triangle triangles painting painted drawing drawn 2024 1999 50% off!""" * 3

def byte_map():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    codes, extra = keep[:], 0
    for b in range(256):
        if b not in keep: keep.append(b); codes.append(256 + extra); extra += 1
    return dict(zip(keep, map(chr, codes)))
BYTES = byte_map()

def kind(c):
    g = unicodedata.category(c)[0]
    return "s" if c.isspace() else g if g in "LN" else "o"

def words(text):
    text = unicodedata.normalize("NFC", text)
    text = "".join(c.lower() for c in text)
    out, i = [], 0
    while i < len(text):
        for special in ("<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
            if text.startswith(special, i): out.append(special); i += len(special); break
        else:
            k, j = kind(text[i]), i + 1
            if k == "s": i += 1; continue
            while k != "N" and j < len(text) and kind(text[j]) == k: j += 1
            out.append(text[i:j]); i = j
    return out

def symbols(word):
    s = [BYTES[b] for b in word.encode("utf-8")]
    s[-1] += "</w>"
    return s

def merge(s, pair):
    out, i = [], 0
    while i < len(s):
        if i + 1 < len(s) and (s[i], s[i + 1]) == pair: out.append(s[i] + s[i + 1]); i += 2
        else: out.append(s[i]); i += 1
    return out

def learn(count):
    corpus, merges = [symbols(w) for w in words(CORPUS)], []
    while len(merges) < count:
        seen = {}
        for s in corpus:
            for p in zip(s, s[1:]): seen[p] = seen.get(p, 0) + 1
        if not seen: break
        best = max(seen, key=lambda p: (seen[p], p))
        merges.append(best); corpus = [merge(s, best) for s in corpus]
    return merges

def tokenizer(merges):
    base = list(BYTES.values())
    vocab = {t: i for i, t in enumerate([*base, *(b + "</w>" for b in base), *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"])}
    assert len(vocab) == 512 + len(merges) + 2
    rank = {p: i for i, p in enumerate(merges)}
    def encode(text):
        ids = [vocab["<|startoftext|>"]]
        for w in words(text):
            if w.startswith("<|") and w in vocab: ids.append(vocab[w]); continue
            s = symbols(w)
            while len(s) > 1 and (best := min(zip(s, s[1:]), key=lambda p: rank.get(p, 10**9))) in rank: s = merge(s, best)
            ids += [vocab[x] for x in s]
        return ids + [vocab["<|endoftext|>"]]
    return vocab, encode

texts = ["", " ", "a photo of a red square", "A  Photo\tOF a\nRED square ", "don't it's we'll they've i'm you'd we're 'tis o'clock 's''t", "naïve café 日本語 🙂", "e\u0301 and \u00e9 are one letter",
         "<|startoftext|>don't <|endoftext|>", "1234 ½ Ⅷ ٣ 5%", "İstanbul ΣΑΣ STRASSE straße", "!?...---((()))", "𝒳𝓎 a𝒳b 𝟘𝟙", "ключ и замок; ключи", "\u00a0nbsp\u2003wide\u3000cjk", "a_b c-d e@f.g #h", "👩\u200d🚀 zero\u200dwidth", "한국어 عربى हिन्दी ไทย"]
draw = random.Random(7)
pools = ["abcdefghijklmnopqrstuvwxyz", "ABCXYZ'", "0123456789½²", " \t\n", "!?.,;:<|>()'\"", "äöüßéèñçÅØ", "абвгд", "αβγΣς", "日本語漢字", "🙂🚀👍", "𝒳𝓎𝟘", "\u0301\u0308\u0323\u0345", "\u1112\u1161\u11ab\u1100\uac00", "\u0958\u212b\u2126\u0f73\u1e69"]
for _ in range(200): texts.append("".join(draw.choice(draw.choice(pools)) for _ in range(draw.randint(1, 40))))
def golden(name, encode, texts): open(name, "w").write("[\n" + ",\n".join(json.dumps({"text": t, "ids": encode(t)}) for t in texts) + "\n]\n")

merges = learn(256)
vocab, encode = tokenizer(merges)
json.dump(vocab, open("vocab.json", "w"), ensure_ascii=True, indent=0)
open("merges.txt", "w", encoding="utf-8").write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
golden("golden.json", encode, texts)
json.dump({"model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"}, open("tokenizer_config.json", "w"), indent=2)

table = gzip.open("../../../../src/AdjointDpm/Models/Clip/clip_merges.txt.gz").read().decode().split("\n")
_, encode = tokenizer([tuple(line.split()) for line in table if line])
golden("clip.json", encode, texts[:60] + ["a photo of a cat", "a photo of a fox", "A painting of an astronaut riding a horse, in the style of Van Gogh", "Hello, world! it's 2024 — 50% off", "the quick brown fox jumps over the lazy dog", "antidisestablishmentarianism, masterpiece, best quality, (8k uhd:1.2)"])
