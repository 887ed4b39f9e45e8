#!/usr/bin/env python3
"""PyTorch's side of the side-by-side bench: the same UNet, grid, noise and loss, and three ways to the gradient.

The bench starts it with a folder that holds weights.safetensors, grid.json and, later, ours.safetensors, and writes one command a line:
operator NAME and time METHOD (processor seconds), memory METHOD (peak bytes), gradient METHOD (against plain backprop in float64). METHOD: adjoint, backprop, checkpoint or,
for gradient, ours. torchdiffeq is imported from the folder in TORCHDIFFEQ, or as installed."""
import ctypes, json, math, os, re, struct, sys, time, types

try:
    import numpy as np, torch
    import torch.nn.functional as F
    from torch.utils.checkpoint import checkpoint
except ImportError as e:
    print(f"missing: {e}. Name a Python that has PyTorch in PYTHON.", flush=True)
    sys.exit(0)
if "TORCHDIFFEQ" in os.environ:
    sys.path.insert(0, os.environ["TORCHDIFFEQ"])
try:
    import scipy.integrate
except ImportError:  # torchdiffeq needs it for a wrapper that is not used here
    sys.modules["scipy"], sys.modules["scipy.integrate"] = types.ModuleType("scipy"), types.ModuleType("scipy.integrate")
    sys.modules["scipy.integrate"].solve_ivp = None
try:
    from torchdiffeq import odeint_adjoint
except ImportError as e:
    print(f"missing: {e}. Install torchdiffeq, or name the folder of a copy in TORCHDIFFEQ.", flush=True)
    sys.exit(0)

torch.set_num_threads(1)
folder = sys.argv[1]


def load(name):
    data = open(os.path.join(folder, name), "rb").read()
    n, = struct.unpack("<Q", data[:8])
    kinds = {"F32": np.float32, "F64": np.float64}
    return {k: torch.from_numpy(np.frombuffer(data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]], kinds[v["dtype"]]).reshape(v["shape"]).copy())
            for k, v in json.loads(data[8:8 + n]).items() if k != "__metadata__"}


def unet(P, x, t):
    """diffusers' UNet2DModel by its parameters' names; heads of 32 channels, 32 groups."""
    conv = lambda n, h, **k: F.conv2d(h, P[n + ".weight"], P[n + ".bias"], **k)
    linear = lambda n, h: F.linear(h, P[n + ".weight"], P[n + ".bias"])
    norm = lambda n, h: F.group_norm(h, 32, P[n + ".weight"], P[n + ".bias"], 1e-5)

    def resnet(n, h):
        r = conv(n + ".conv1", F.silu(norm(n + ".norm1", h)), padding=1)
        r = norm(n + ".norm2", r + linear(n + ".time_emb_proj", F.silu(time))[:, :, None, None])
        r = conv(n + ".conv2", F.silu(r), padding=1)
        return (conv(n + ".conv_shortcut", h) if n + ".conv_shortcut.weight" in P else h) + r

    def attend(n, h):
        if n + ".to_q.weight" not in P:
            return h
        b, c, *_ = h.shape
        s = norm(n + ".group_norm", h).flatten(2).transpose(1, 2)
        q, k, v = (linear(f"{n}.to_{i}", s).reshape(b, -1, c // 32, 32).transpose(1, 2) for i in "qkv")
        m = torch.softmax(q @ k.transpose(-1, -2) * 32 ** -0.5, -1) @ v
        return linear(n + ".to_out.0", m.transpose(1, 2).reshape(b, -1, c)).transpose(1, 2).reshape(h.shape) + h

    half = P["conv_in.weight"].shape[0] // 2
    angles = torch.tensor([t], dtype=torch.float32)[:, None] * torch.exp(torch.arange(half, dtype=torch.float32) * -math.log(10000) / half)[None]
    time = torch.cat([angles.cos(), angles.sin()], -1).to(x.dtype)
    time = linear("time_embedding.linear_2", F.silu(linear("time_embedding.linear_1", time)))
    x = conv("conv_in", x, padding=1)
    skips, stages = [x], len({k.split(".")[1] for k in P if k.startswith("down_blocks")})
    for i in range(stages):
        for j in range(2):
            x = attend(f"down_blocks.{i}.attentions.{j}", resnet(f"down_blocks.{i}.resnets.{j}", x))
            skips.append(x)
        if f"down_blocks.{i}.downsamplers.0.conv.weight" in P:
            x = conv(f"down_blocks.{i}.downsamplers.0.conv", x, stride=2, padding=1)
            skips.append(x)
    x = resnet("mid_block.resnets.1", attend("mid_block.attentions.0", resnet("mid_block.resnets.0", x)))
    for i in range(stages):
        for j in range(3):
            x = attend(f"up_blocks.{i}.attentions.{j}", resnet(f"up_blocks.{i}.resnets.{j}", torch.cat([x, skips.pop()], 1)))
        if f"up_blocks.{i}.upsamplers.0.conv.weight" in P:
            x = conv(f"up_blocks.{i}.upsamplers.0.conv", F.interpolate(x, skips[-1].shape[2:], mode="nearest"), padding=1)
    return conv("conv_out", F.silu(norm("conv_norm_out", x)), padding=1)


def gradient(method, P, noise, grid):
    """dL/dx_T and dL/dweights of L = mean(x_0^2), x_0 by Euler's method in rho: y' = eps(alpha y, t), y = x / alpha."""
    for p in P.values():
        p.grad = None
        p.requires_grad_(True)
    x_T = noise.clone().requires_grad_(True)
    (_, _, alpha_T), (_, _, alpha_0) = grid[0], grid[-1]
    y = x_T / alpha_T
    if method == "adjoint":
        rhos = torch.tensor([g[0] for g in grid], dtype=y.dtype)

        def field(rho, y):
            _, t, alpha = grid[int((rhos - rho).abs().argmin())]
            return unet(P, y * alpha, t)

        # It solves forwards and backwards, each in time or in time's negative: the grid is the one whose ends fit.
        grids = [g for r in (rhos, -rhos) for g in (r, r.flip(0))]
        steps = dict(grid_constructor=lambda func, y0, t: next(g for g in grids if g[0] == t[0] and g[-1] == t[-1]))
        y = odeint_adjoint(field, y, rhos[[0, -1]], method="euler", options=steps, adjoint_options=dict(steps), adjoint_params=tuple(P.values()))[-1]
    else:
        for (rho, t, alpha), (after, _, _) in zip(grid, grid[1:]):
            step = lambda y, rho=rho, t=t, alpha=alpha, after=after: y + (after - rho) * unet(P, y * alpha, t)
            y = checkpoint(step, y) if method == "checkpoint" else step(y)
    (y * alpha_0).pow(2).mean().backward()
    return {"x_T": x_T.grad, **{k: p.grad for k, p in P.items()}}


libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]


def peak(work):
    """Most bytes held at once above those before, by the kernel's high-water mark; as AdjointDpm's HighWater measures its own."""
    high = lambda: 1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1))
    libc.mallopt(-3, 16 << 10)
    held = []
    while True:
        block = libc.malloc(16 << 10)
        if ctypes.c_size_t.from_address(block - 8).value & 2:
            libc.free(block)
            break
        held.append(block)
    libc.malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = high()
    work()
    after = high()
    for block in held:
        libc.free(block)
    libc.mallopt(-3, 32 << 20)
    libc.mallopt(-1, 64 << 20)
    return after - before


def compare(a, b):
    """1 - cosine and norm ratio at x_T and over all weights."""
    flat = lambda g, keys: torch.cat([g[k].double().flatten() for k in keys])
    out = []
    for keys in (["x_T"], sorted(k for k in b if k != "x_T")):
        u, v = flat(a, keys), flat(b, keys)
        out += [1 - float(u @ v / u.norm() / v.norm()), float(u.norm() / v.norm())]
    return out


def operator(name, repeats=40):
    """Processor seconds of one application."""
    square, image, sequence = torch.randn(512, 512), torch.randn(1, 128, 16, 16, requires_grad=True), torch.randn(1, 4, 1024, 32, requires_grad=True)
    weight = torch.randn(128, 128, 3, 3, requires_grad=True)
    work = {
        "matmul": lambda: square @ square,
        "convolution": lambda: F.conv2d(image, weight, padding=1).sum().backward(),
        "attention": lambda: (torch.softmax(sequence @ sequence.transpose(-1, -2), -1) @ sequence).sum().backward(),
        "norm": lambda: F.silu(F.group_norm(image, 32)).sum().backward(),
    }[name]
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


weights = load("weights.safetensors")
noise = weights.pop("x_T")
grid, exact = None, None
print(f"ready: PyTorch {torch.__version__}", flush=True)
for line in sys.stdin:
    what, name = line.split()
    if what == "grid":
        grid, exact = json.load(open(os.path.join(folder, name))), None
        answer = len(grid) - 1
    elif what == "time":
        start = time.process_time()
        gradient(name, weights, noise, grid)
        answer = time.process_time() - start
    elif what == "operator":
        answer = operator(name)
    elif what == "memory":
        def once():
            gradient(name, weights, noise, grid)
        for p in weights.values():
            p.grad = None
        answer = peak(once)
    else:
        exact = exact or gradient("backprop", {k: v.detach().double() for k, v in weights.items()}, noise.double(), grid)
        answer = compare(load("ours.safetensors") if name == "ours" else gradient(name, weights, noise, grid), exact)
    print(json.dumps(answer), flush=True)
