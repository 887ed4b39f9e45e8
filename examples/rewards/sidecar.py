#!/usr/bin/env python3
"""A reward in a process of its own, without any package: python3 sidecar.py 8900. Asked POST /v1/reward?gradient=true with safetensors
{images: F32 [B, C, H, W] in [0, 1]}, it answers {score: F32 [B], gradient: F32 [B, C, H, W]}, here of -mean((x - 0.75)^2). With PyTorch, reward()
is: x.requires_grad_(); s = model(x); s.sum().backward(); return s, x.grad"""
import array, http.server, json, struct, sys


def reward(x, shape):
    n = len(x) // shape[0]  # values of a picture
    score = [-sum((v - 0.75) ** 2 for v in x[i * n:(i + 1) * n]) / n for i in range(shape[0])]
    return array.array("f", score), array.array("f", [-2 * (v - 0.75) / n for v in x])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length, = struct.unpack("<Q", body[:8])
        images = json.loads(body[8:8 + length])["images"]
        begin, end = (8 + length + offset for offset in images["data_offsets"])
        score, gradient = (part.tobytes() for part in reward(array.array("f", body[begin:end]), images["shape"]))
        header = {"score": {"dtype": "F32", "shape": images["shape"][:1], "data_offsets": [0, len(score)]},
                  "gradient": {"dtype": "F32", "shape": images["shape"], "data_offsets": [len(score), len(score) + len(gradient)]}}
        text = json.dumps(header).encode()
        answer = struct.pack("<Q", len(text)) + text + score + gradient
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8900), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
