#!/usr/bin/env python3
"""One rank of the transport bench's other side: Gloo's all-reduce between processes on loopback.

The bench starts every rank with RANK, WORLD and a file to meet at, and writes one command a line to each: reduce BYTES, answered with the seconds from the barrier
to the end of the all-reduce on this rank."""
import os, sys, time

try:
    import torch
    import torch.distributed as dist
except ImportError as e:
    print(f"missing: {e}. Name a Python that has PyTorch in PYTHON.", flush=True)
    sys.exit(0)
if not dist.is_available():
    print("missing: this PyTorch was built without torch.distributed. Name another Python in PYTHON.", flush=True)
    sys.exit(0)

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
torch.set_num_threads(1)
rank, world, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=world)
print(f"ready: PyTorch {torch.__version__}", flush=True)
gradients = {}
for line in sys.stdin:
    size = int(line.split()[1])
    if size not in gradients:
        gradients[size] = torch.randn(size // 4)
    gradient = gradients[size].clone()
    dist.barrier()
    start = time.perf_counter()
    dist.all_reduce(gradient)
    print(time.perf_counter() - start, flush=True)
