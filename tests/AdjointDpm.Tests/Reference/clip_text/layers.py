"""What the references of both CLIP towers share: a safetensors writer and a transformer layer of PyTorch's own parts."""
import json, struct, torch
from torch import nn

def save(path, tensors):
    header, blob = {}, b""
    for name, t in sorted(tensors.items()):
        data = (t if t.dtype == torch.int64 else t.float()).detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": "I64" if t.dtype == torch.int64 else "F32", "shape": list(t.shape), "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode(); text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + blob)

class Layer(nn.Module):
    def __init__(self, width, heads, inner, act):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.c_fc, self.c_proj, self.act = nn.Linear(width, inner), nn.Linear(inner, width), act
    def forward(self, x, mask):
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        return x + self.c_proj(self.act(self.c_fc(self.ln_2(x))))
