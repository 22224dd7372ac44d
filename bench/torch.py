"""The work of `deno task bench` in PyTorch, eager.

    deno task bench --list work.json
    python3 bench/torch.py work.json --json torch.json
    deno task bench --merge torch.json

Products and convolutions run in f32 with TF32 off; where there is CUDA a second row has everything under
autocast to f16. Times are medians by the wall clock of many runs, one after the other, and one wait for
the device. Training steps need torchvision; for them the memory at the peak is reported, too.
"""

import argparse
import json
import statistics
import sys
import time

# This file has the package's name, so its own folder must not be searched.
sys.path.pop(0)

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY = 8492
WORDS = 20
FEATURES = 2048
SAMPLES = 5


class ConvNet(nn.Module):
    """nn/models/conv_net.ts"""

    def __init__(self):
        super().__init__()
        layers = []
        for before, after in [(3, 32), (32, 64), (64, 128)]:
            layers += [nn.Conv2d(before, after, 3, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
                       nn.Dropout(0.3), nn.MaxPool2d(2)]
        self.conv = nn.Sequential(*layers)
        self.fc = nn.Linear(512, 512)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


class ToySsd(nn.Module):
    """nn/models/toy_ssd.ts, without the anchors, which do not depend on the pixels"""

    def __init__(self, classes=2, anchors=4):
        super().__init__()

        def block(before, after):
            layers = []
            for c in [before, after]:
                layers += [nn.Conv2d(c, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            return nn.Sequential(*layers, nn.MaxPool2d(2))

        inputs = [64, 128, 128, 128, 128]
        self.classes = classes
        self.body = nn.Sequential(block(3, 16), block(16, 32), block(32, 64))
        self.downsamples = nn.ModuleList(block(c, 128) for c in inputs[:3])
        self.class_preds = nn.ModuleList(nn.Conv2d(c, anchors * classes, 3, padding=1)
                                         for c in inputs)
        self.box_preds = nn.ModuleList(nn.Conv2d(c, anchors * 4, 3, padding=1) for c in inputs)

    def forward(self, x):
        x = self.body(x)
        classes, boxes = [], []
        for i in range(5):
            classes.append(self.class_preds[i](x).permute(0, 2, 3, 1).flatten(1))
            boxes.append(self.box_preds[i](x).permute(0, 2, 3, 1).flatten(1))
            if i < 3:
                x = self.downsamples[i](x)
            elif i == 3:
                x = F.max_pool2d(x, x.shape[2:])
        return torch.cat(classes, 1).reshape(x.shape[0], -1, self.classes), torch.cat(boxes, 1)


class MoCo(nn.Module):
    """nn/models/moco.ts"""

    def __init__(self, dim=512, size=4096, momentum=0.99, temperature=0.07):
        super().__init__()
        self.encoder_q, self.encoder_k = ConvNet(), ConvNet()
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())
        self.encoder_k.requires_grad_(False)
        self.momentum, self.temperature, self.size = momentum, temperature, size
        self.register_buffer("queue", F.normalize(torch.randn(dim, size), dim=0))
        self.pointer = 0

    def contrast(self, queries, images):
        q = F.normalize(self.encoder_q(queries), dim=1)
        with torch.no_grad():
            order = torch.randperm(images.shape[0], device=images.device)
            k = F.normalize(self.encoder_k(images[order]), dim=1)[order.argsort()]
        positive = (q * k).sum(1, keepdim=True)
        logits = torch.cat([positive, q @ self.queue.clone()], 1) / self.temperature
        target = torch.zeros(queries.shape[0], dtype=torch.long, device=queries.device)
        return F.cross_entropy(logits, target), k

    def forward(self, first, second):
        with torch.no_grad():
            for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
                k.mul_(self.momentum).add_(q, alpha=1 - self.momentum)
        a, keys_a = self.contrast(first, second)
        b, keys_b = self.contrast(second, first)
        keys = torch.cat([keys_b, keys_a])
        with torch.no_grad():
            self.queue[:, self.pointer:self.pointer + keys.shape[0]] = keys.T
        self.pointer = (self.pointer + keys.shape[0]) % self.size
        return a + b


class Captioner(nn.Module):
    """nn/models/captioner.ts; the residual net is frozen, or left out"""

    def __init__(self, resnet):
        super().__init__()
        self.resnet = resnet
        self.fc = nn.Linear(FEATURES, 256)
        self.batch_norm = nn.BatchNorm1d(256, momentum=0.01)
        self.embedding = nn.Embedding(VOCABULARY, 256)
        self.lstm = nn.LSTM(256, 512, batch_first=True)
        self.out = nn.Linear(512, VOCABULARY)

    def forward(self, x, words):
        if self.resnet is not None:
            with torch.no_grad():
                x = self.resnet(x)
        vectors = self.batch_norm(self.fc(x)).unsqueeze(1)
        hidden, _ = self.lstm(torch.cat([vectors, self.embedding(words[:, :-1])], 1))
        return self.out(hidden)


def training(work, device):
    """A function that gives the loss, and the optimizer."""
    n, side, name = work["n"], work["side"], work["model"]

    def images(channels=3):
        return torch.randn(n, channels, side, side, device=device)

    def classifier(model, classes, rule="sgd", channels=3):
        model.to(device).train()
        x, y = images(channels), torch.randint(classes, (n,), device=device)
        if rule == "sgd":
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        return lambda: F.cross_entropy(model(x), y), optimizer

    if name == "MoCo ConvNet":
        return classifier(ConvNet(), 512)
    if name == "ToySSD":
        model = ToySsd().to(device).train()
        x = images()
        anchors = model(x)[0].shape[1]
        ids = torch.randint(2, (n * anchors,), device=device)
        offsets = torch.randn(n, 4 * anchors, device=device)
        mask = torch.randint(2, (n, 4 * anchors), device=device).float()

        def loss():
            classes, boxes = model(x)
            return F.cross_entropy(classes.reshape(-1, 2), ids) + F.smooth_l1_loss(
                boxes * mask, offsets)

        return loss, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if name == "MoCo":
        model = MoCo().to(device).train()
        first, second = images(), images()
        optimizer = torch.optim.SGD(model.encoder_q.parameters(), lr=0.03, momentum=0.9)
        return lambda: model(first, second), optimizer

    import torchvision

    if name == "AlexNet":
        model = torchvision.models.alexnet(num_classes=26)
        model.features[0] = nn.Conv2d(1, 64, 11, stride=4, padding=2)
        return classifier(model, 26, channels=1)
    if name == "ResNet-50":
        return classifier(torchvision.models.resnet50(), 1000)
    if name == "EfficientNet-B0":
        # Symmetric padding where ours has TensorFlow's: the same sizes and operations.
        return classifier(torchvision.models.efficientnet_b0(num_classes=264), 264, rule="adamw")
    if name in ("captioning", "captioning decoder"):
        resnet = None
        if name == "captioning":
            resnet = torchvision.models.resnet50()
            resnet.fc = nn.Identity()
            resnet.requires_grad_(False)
        model = Captioner(resnet).to(device).train()
        if resnet is not None:
            resnet.eval()
        x = images() if resnet is not None else torch.randn(n, FEATURES, device=device)
        words = torch.randint(VOCABULARY, (n, WORDS), device=device)
        trained = [p for p in model.parameters() if p.requires_grad]
        loss = lambda: F.cross_entropy(model(x, words).flatten(0, 1), words.flatten())
        return loss, torch.optim.Adam(trained, lr=1e-3)
    raise ValueError(f"no model {name}")


def step(work, device, amp):
    """A function that trains one step."""
    loss_of, optimizer = training(work, device)
    scaler_of = getattr(torch.amp, "GradScaler", None)  # from 2.3 on
    scaler = scaler_of(device.type, enabled=amp) if scaler_of else torch.cuda.amp.GradScaler(enabled=amp)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, enabled=amp):
            loss = loss_of()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return run


def convolution(w, device):
    top, bottom, left, right = w["padding"]
    x = torch.randn(w["n"], w["c"], w["h"], w["w"], device=device)
    kernel = torch.randn(w["o"], w["c"] // w["groups"], *w["kernel"], device=device)
    even = top == bottom and left == right

    def forward():
        y = x if even else F.pad(x, (left, right, top, bottom))
        return F.conv2d(y, kernel, stride=w["stride"], groups=w["groups"],
                        padding=(top, left) if even else 0)

    if w["pass"] == "forward":
        return forward
    x.requires_grad_(w["pass"] != "dW")
    kernel.requires_grad_(w["pass"] != "dX")
    inputs = [t for t in (x, kernel) if t.requires_grad]
    y = forward()
    dy = torch.randn_like(y)
    if w["pass"] == "train":
        return lambda: torch.autograd.grad(forward(), inputs, dy)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def operation(w, device, amp):
    """A function that does the work once."""
    op = w["op"]
    if op == "step":
        return step(w, device, amp)
    if op == "gemm":
        dtype = torch.float16 if w["dtype"] == "f16" else torch.float32
        a = torch.randn(w["m"], w["k"], device=device).to(dtype)
        b = torch.randn(w["k"], w["n"], device=device).to(dtype)
        return lambda: a @ b
    if op == "conv":
        return convolution(w, device)
    if op == "batch norm":
        x = torch.randn(w["n"], w["c"], w["h"], w["w"], device=device, requires_grad=True)
        weight = torch.randn(w["c"], device=device, requires_grad=True)
        bias = torch.randn(w["c"], device=device, requires_grad=True)
        dy = torch.randn_like(x)
        return lambda: torch.autograd.grad(
            F.batch_norm(x, None, None, weight, bias, training=True), [x, weight, bias], dy)
    if op == "lstm":
        lstm = nn.LSTM(w["features"], w["hidden"], batch_first=True).to(device)
        x = torch.randn(w["n"], w["steps"], w["features"], device=device)
        if w["pass"] == "forward":
            return lambda: lstm(x)
        x.requires_grad_()
        inputs = [x, *lstm.parameters()]
        dy = torch.randn(w["n"], w["steps"], w["hidden"], device=device)

        def train():
            with torch.enable_grad():
                return torch.autograd.grad(lstm(x)[0], inputs, dy)

        return train
    if op == "adam":
        p = nn.Parameter(torch.randn(w["parameters"], device=device))
        p.grad = torch.randn_like(p)
        return torch.optim.Adam([p], lr=1e-3).step
    x = torch.randn(w["rows"], w["columns"], device=device)
    if op == "cross entropy":
        y = torch.randint(w["columns"], (w["rows"],), device=device)
        x.requires_grad_()
        return lambda: torch.autograd.grad(F.cross_entropy(x, y), x)
    return {
        "softmax": lambda: x.softmax(1),
        "sum rows": lambda: x.sum(1),
        "sum columns": lambda: x.sum(0),
        "transpose": lambda: x.t().contiguous(),
        "copy": lambda: x.clone(),
    }[op]


def milliseconds(run, device, seconds):
    """Median time of one run."""
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def sample(runs):
        wait()
        start = time.perf_counter()
        for _ in range(runs):
            run()
        wait()
        return 1e3 * (time.perf_counter() - start) / runs

    run()
    guess = sample(1)
    runs = max(1, min(4096, round(1e3 * seconds / SAMPLES / guess)))
    return statistics.median(sample(runs) for _ in range(SAMPLES))


def peak_bytes(make, device):
    """Most bytes of tensors that building the work and two runs of it hold at once."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run = make()
        run()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=True) as profiler:
        run = make()
        run()
        run()
    live = most = 0
    for event in profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most


def grads_needed(w):
    return w["op"] in ("step", "batch norm", "cross entropy") or \
        w.get("pass") in ("dX", "dW", "train")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("work", help="what `deno task bench --list` wrote")
    parser.add_argument("--json", help="write the times to this file, for --merge")
    parser.add_argument("--filter", default="", help="only work whose name has this text")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each piece of work")
    parser.add_argument("--cpu", action="store_true", help="leave CUDA alone")
    options = parser.parse_args()

    cuda = torch.cuda.is_available() and not options.cpu
    device = torch.device("cuda" if cuda else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__} on {name}, TF32 off")
    with open(options.work, encoding="utf-8") as file:
        works = [w for w in json.load(file) if options.filter in w["name"]]
    rows = {"f32": {}, "amp": {}} if cuda else {"f32": {}}
    memory = {row: {} for row in rows}
    for w in works:
        texts = []
        for row, times in rows.items():
            # What says amp itself has no row in f32.
            if w.get("amp", False) and row == "f32":
                continue
            try:
                amp = row == "amp"
                with torch.autocast(device.type, enabled=amp and w["op"] != "step"), \
                        torch.set_grad_enabled(grads_needed(w)):
                    times[w["name"]] = milliseconds(operation(w, device, amp), device,
                                                    options.seconds)
                texts.append(f"{row} {times[w['name']]:.3f} ms")
                if w["op"] == "step":
                    most = peak_bytes(lambda: step(w, device, amp), device)
                    memory[row][w["name"]] = most
                    texts.append(f"{most / 2**20:.1f} MiB")
            except (RuntimeError, ImportError) as error:
                texts.append(f"{row}: {str(error).splitlines()[0]}")
        print(f"{w['name']:56} {', '.join(texts)}")
        sys.stdout.flush()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"device": name, "torch": torch.__version__, "rows": rows, "memory": memory},
                      file, indent=2)


if __name__ == "__main__":
    main()
