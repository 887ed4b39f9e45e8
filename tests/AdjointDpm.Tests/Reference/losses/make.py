#!/usr/bin/env python3
"""Makes the references of the losses with PyTorch alone: antialiased resizing with its gradient, and rewards as TorchScript files with what they give.
Run: python3 make.py"""
import json, struct, torch
from torch import nn

torch.manual_seed(5)

def save(path, tensors):
    header, at = {}, 0
    for name, x in tensors.items():
        n = x.numel() * 8
        header[name] = {"dtype": "F64", "shape": list(x.shape), "data_offsets": [at, at + n]}
        at += n
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for x in tensors.values():
            f.write(x.detach().double().contiguous().numpy().tobytes())

golden = {"x": torch.randn(2, 2, 9, 13, dtype=torch.float64)}
for mode in ("bilinear", "bicubic"):
    for size in ((4, 5), (20, 17), (5, 21), (1, 1)):
        x = golden["x"].clone().requires_grad_()
        y = nn.functional.interpolate(x, size, mode=mode, align_corners=False, antialias=True)
        cotangent = torch.randn_like(y)
        (y * cotangent).sum().backward()
        key = f"{mode}.{size[0]}x{size[1]}"
        golden |= {key + ".y": y, key + ".cotangent": cotangent, key + ".vjp": x.grad}
save("resize.safetensors", golden)

class Reward(nn.Module):
    """Images [B, 3, H, W] in [0, 1] to scores [B]."""
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Linear(4, 1)
    def forward(self, image):
        return self.head(torch.tanh(self.norm(self.conv(image))).mean([2, 3])).squeeze(1)

class Column(Reward):
    def forward(self, image):
        return self.head(torch.tanh(self.norm(self.conv(image))).mean([2, 3]))

class Whole(Reward):
    def forward(self, image):
        return self.head(torch.tanh(self.norm(self.conv(image))).mean([2, 3])).mean()

class Rank(Reward):
    def forward(self, image):
        return self.head(torch.tanh(self.norm(self.conv(image))).mean([2, 3])).squeeze(1).round().long()

class Cut(Reward):
    def forward(self, image):
        return self.head(torch.tanh(self.norm(self.conv(image.detach()))).mean([2, 3])).squeeze(1)

class Pair(Reward):
    def forward(self, image):
        return image.mean([1, 2, 3]), image

class Coupled(Reward):
    def forward(self, image):
        score = image.square().mean([1, 2, 3])
        return score - score.mean()

reward = Reward().double()
with torch.no_grad():
    reward.norm.running_mean.normal_(); reward.norm.running_var.uniform_(0.5, 2)
reward.eval()
x = torch.rand(3, 3, 9, 8, dtype=torch.float64).requires_grad_()
score = reward(x)
score.sum().backward()
save("torchscript.safetensors", {"x": x, "score": score, "gradient": x.grad})
torch.jit.script(reward).save("reward.pt")
torch.save(reward.state_dict(), "state_dict.pt")
for kind in (Column, Whole, Rank, Cut, Pair, Coupled):
    other = kind().double()
    other.load_state_dict(reward.state_dict())
    # Saved in training mode, as files from the wild are: whoever loads them sets them to evaluation.
    torch.jit.script(other).save(kind.__name__.lower() + ".pt")
