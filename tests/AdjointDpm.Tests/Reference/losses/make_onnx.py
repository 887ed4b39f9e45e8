#!/usr/bin/env python3
"""Makes ONNX files of small networks with PyTorch's exporter, in float64, with the outputs and gradients that PyTorch gives. Run: python3 make_onnx.py"""
import json, struct, torch
from torch import nn
from torch.nn import functional as F

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

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)

class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(3, 6, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(6)
        self.a, self.n1, self.b, self.n2 = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.BatchNorm2d(8)
        self.down, self.head = nn.Conv2d(6, 8, 1, stride=2), nn.Linear(8, 4)
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.n0(self.stem(x))), 3, stride=1, padding=1)
        x = F.relu(self.n2(self.b(F.relu(self.n1(self.a(x))))) + self.down(x))
        return F.log_softmax(self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)), 1)

class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand, self.depth, self.project = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 6, 1)
        self.squeeze, self.excite, self.head, self.tail = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1), nn.Linear(6, 5), nn.Linear(5, 1)
    def forward(self, x):
        x = F.interpolate(F.pad(x, (1, 0, 2, 1), mode="reflect"), (10, 12), mode="bilinear", align_corners=False)
        x = self.project(F.hardswish(self.depth(F.relu6(self.expand(x) * 3))))
        s = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = F.avg_pool2d(F.leaky_relu(x * s, 0.1), 2)
        return self.tail(F.silu(self.head(x.mean([2, 3])))).squeeze(1)

class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.n1, self.n2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out, self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, 20), nn.Linear(20, width)
    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        a = torch.softmax(q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5, -1) @ v
        x = x + self.out(a.transpose(1, 2).reshape(b, n, c))
        h = self.up(self.n2(x))
        return x + self.down(h * torch.sigmoid(1.702 * h)) + self.down(F.gelu(h))

class Clip(nn.Module):
    """Patches, a class state, two layers, a projection, the cosine with a text."""
    def __init__(self):
        super().__init__()
        self.patch, self.first, self.place = nn.Conv2d(3, 12, 4, stride=4, bias=False), nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(10, 12))
        self.blocks, self.norm, self.project = nn.ModuleList(Block(12, 3) for _ in range(2)), nn.LayerNorm(12), nn.Linear(12, 7, bias=False)
        self.register_buffer("text", F.normalize(torch.randn(7), dim=0))
    def forward(self, x):
        x = (x.clamp(0, 1) - 0.45) / 0.27
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], 1, -1), x], 1)
        x = x + self.place[:x.shape[1]]
        for block in self.blocks: x = block(x)
        e = self.project(self.norm(x[:, 0]))
        return (e / e.norm(dim=-1, keepdim=True)) @ self.text

class Others(nn.Module):
    """What the networks above have no use for."""
    def __init__(self):
        super().__init__()
        self.norm, self.each, self.slope = nn.BatchNorm2d(3, eps=2**-16), nn.InstanceNorm2d(3, eps=2**-16, affine=True), nn.PReLU(3)
        with torch.no_grad(): self.each.weight.normal_(); self.each.bias.normal_(); self.slope.weight.uniform_(0.1, 0.9)
    def forward(self, x):
        x = self.norm(x)
        x = torch.tanh(x) + F.elu(x, 0.75) + self.slope(self.each(x)) + F.softplus(-x) + torch.log(1 + x.abs()) + torch.exp(-x * x).reciprocal()
        x = torch.maximum(x, x.sin() + 1) + torch.minimum(x.cos(), x * x)
        a, b = F.adaptive_max_pool2d(x, 1).flatten(1), x.norm(dim=(2, 3)) + x.amax((2, 3)) - x.amin((2, 3))
        x = F.conv2d(F.pad(x, (1, 2, 0, 1)), self.each.weight.view(1, 3, 1, 1).expand(2, 3, 3, 2).contiguous() * 0.125)
        return (a * b).sum(1) + x.prelu(self.slope.weight[:1]).sum((1, 2, 3))

golden = {}
for name, net, shape, opset in (("resnet", ResNet(), (2, 3, 17, 18), 13), ("mobilenet", MobileNet(), (2, 3, 9, 11), 14), ("clip", Clip(), (2, 3, 12, 12), 17), ("clip9", Clip(), (2, 3, 12, 12), 11), ("others", Others(), (2, 3, 5, 6), 13), ("ranked", None, (2, 3, 4, 4), 13)):
    if net is None:
        class Ranked(nn.Module):
            def forward(self, x): return x.flatten(1).argmax(1).double() + torch.det(x[:, 0])
        net = Ranked()
    net.eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(); m.running_var.uniform_(0.5, 2)
    for p in net.parameters(): p.requires_grad_(False)
    x = torch.rand(*shape).requires_grad_()
    torch.onnx.export(net, x, f"{name}.onnx", opset_version=opset, input_names=["image"], output_names=["score"], dynamic_axes={"image": {0: "batch"}, "score": {0: "batch"}})
    y = net(x)
    if name == "ranked": continue
    cotangent = torch.randn_like(y)
    if y.dim() == 2: cotangent = torch.zeros_like(y); cotangent[:, 2] = 1
    (y * cotangent).sum().backward()
    golden |= {name + ".x": x, name + ".y": y, name + ".cotangent": cotangent, name + ".gradient": x.grad}

# Written field by field: operators that this exporter does not write.
def varint(n):
    out = b""
    while n > 127: out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def field(number, value): return varint(number << 3) + varint(value) if isinstance(value, int) else varint(number << 3 | 2) + varint(len(value)) + value
def node(kind, inputs, output, **ints):
    attributes = b"".join(field(5, field(1, k.encode()) + (field(3, v) + field(20, 2) if isinstance(v, int) else field(8, b"".join(map(varint, v))) + field(20, 7))) for k, v in ints.items())
    return field(1, b"".join(field(1, i.encode()) for i in inputs) + field(2, output.encode()) + field(4, kind.encode()) + attributes)
cond = field(5, b"".join(field(1, d) for d in (1, 1, 4, 1)) + field(2, 9) + field(8, b"cond") + field(9, bytes([1, 0, 0, 1])))
axes = field(5, field(1, 3) + field(2, 7) + field(8, b"axes") + field(9, struct.pack("<3q", 1, 2, 3)))
graph = (node("Gelu", ["image"], "gelu") + node("Dropout", ["image"], "same") + node("GlobalMaxPool", ["image"], "top") + node("Sum", ["gelu", "same", "top"], "sum")
         + node("Not", ["cond"], "other") + node("Where", ["other", "sum", "image"], "mixed") + node("ReduceL2", ["mixed", "axes"], "score", keepdims=0)
         + cond + axes + field(11, field(1, b"image")) + field(12, field(1, b"score")))
open("written.onnx", "wb").write(field(1, 9) + field(7, graph) + field(8, field(1, b"") + field(2, 20)))
x = torch.randn(2, 3, 4, 5).float().double().requires_grad_()
y = torch.where(torch.tensor([False, True, True, False]).view(1, 1, 4, 1), F.gelu(x) + x + x.amax((2, 3), keepdim=True), x).square().sum((1, 2, 3)).sqrt()
cotangent = torch.randn_like(y)
(y * cotangent).sum().backward()
golden |= {"written.x": x, "written.y": y, "written.cotangent": cotangent, "written.gradient": x.grad}
save("onnx.safetensors", golden)
