# A network with every kind of layer, its outputs, features and gradient in PyTorch: python3 make.py (writes config.json, model.safetensors and golden.safetensors beside it).
import json, os, struct
import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
here = os.path.dirname(os.path.abspath(__file__))


def save(name, tensors):
    header, data = {}, b""
    for key, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        header[key] = {"dtype": "F64", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(os.path.join(here, name), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def same(x, kernel, stride, value=0.0):  # TensorFlow's SAME: what is odd goes to the far side
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


layers = [
    {"type": "conv2d", "name": "stem", "out_channels": 8, "kernel_size": 3, "stride": 2, "same_padding": True, "bias": False},
    {"type": "batch_norm", "name": "stem_bn", "eps": 1e-3},
    {"type": "relu6", "name": "stem_act"},
    {"type": "conv2d", "name": "depthwise", "out_channels": 8, "kernel_size": 3, "padding": 1, "groups": 8},
    {"type": "leaky_relu", "slope": 0.1},
    {"type": "conv2d", "name": "project", "out_channels": 8, "kernel_size": 1},
    {"type": "add", "name": "block", "from": "stem_act"},
    {"type": "max_pool2d", "kernel_size": 3, "stride": 2, "same_padding": True},
    {"type": "silu", "name": "deep"},
    {"type": "max_pool2d", "kernel_size": 2, "stride": 1},
    {"type": "avg_pool2d", "kernel_size": 2},
    {"type": "relu"},
    {"type": "flatten"},
    {"type": "linear", "name": "hidden", "in_features": 8, "out_features": 6},
    {"type": "tanh"},
    {"type": "linear", "name": "head", "out_features": 5, "bias": False},
]
config = {"_class_name": "SequentialClassifier", "in_channels": 3, "input_min": 0.0, "input_max": 1.0, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "layers": layers}
w = {
    "stem.weight": torch.randn(8, 3, 3, 3) / 3, "stem_bn.weight": torch.rand(8) + 0.5, "stem_bn.bias": torch.randn(8), "stem_bn.running_mean": torch.randn(8) / 4,
    "stem_bn.running_var": torch.rand(8) + 0.5, "depthwise.weight": torch.randn(8, 1, 3, 3) / 2, "depthwise.bias": torch.randn(8) / 4, "project.weight": torch.randn(8, 8, 1, 1) / 2,
    "project.bias": torch.randn(8) / 4, "hidden.weight": torch.randn(6, 8), "hidden.bias": torch.randn(6), "head.weight": torch.randn(5, 6),
}
x = (torch.rand(2, 3, 11, 12) * 2 - 1).requires_grad_()

y = ((x + 1) / 2 - torch.tensor(config["mean"]).view(1, -1, 1, 1)) / torch.tensor(config["std"]).view(1, -1, 1, 1)
y = F.conv2d(same(y, 3, 2), w["stem.weight"], stride=2)
y = F.batch_norm(y, w["stem_bn.running_mean"], w["stem_bn.running_var"], w["stem_bn.weight"], w["stem_bn.bias"], False, 0.0, 1e-3)
act = F.relu6(y)
y = F.leaky_relu(F.conv2d(act, w["depthwise.weight"], w["depthwise.bias"], padding=1, groups=8), 0.1)
block = F.conv2d(y, w["project.weight"], w["project.bias"]) + act
y = F.max_pool2d(same(block, 3, 2, float("-inf")), 3, 2)
deep = F.silu(y)
y = F.relu(F.avg_pool2d(F.max_pool2d(deep, 2, 1), 2)).flatten(1)
logits = F.linear(torch.tanh(F.linear(y, w["hidden.weight"], w["hidden.bias"])), w["head.weight"])
cotangent = torch.randn(2, 5)
logits.backward(cotangent)

save("model.safetensors", w)
save("golden.safetensors", {"x": x, "logits": logits, "block": block, "deep": deep, "cotangent": cotangent, "vjp": x.grad})
with open(os.path.join(here, "config.json"), "w") as file:
    json.dump(config, file, indent=1)
    file.write("\n")
