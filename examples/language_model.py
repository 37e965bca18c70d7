# SPDX-License-Identifier: Apache-2.0
"""A small MoE language model on real text, in PyTorch and with compiled experts.

    make demo

1. Trains a byte-level transformer with sparse experts on the sources of Python's
   standard library, twice from the same seed: in plain PyTorch, with a loop over
   experts, and with the compiled layer, forward and backward, from the first
   step. Each training has a process of its own, so that its memory is its own.
2. Swaps the experts of the model trained in PyTorch for the compiled layer: on
   held-out text, each byte's loss and the gradient have to be the same to rounding.
3. Times both, plots both loss curves, and shows the stages the layer went through.

Exits with 1 where losses or gradients differ, or where a model does not know
held-out files better than a unigram model does. That the check can fail is
shown, not claimed: every expert is zeroed once, and each time it has to notice.
"""

from __future__ import annotations

import os

# Threads that wait give way after 0.1 ms: the machine may have other work.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import argparse
import copy
import ctypes
import dataclasses
import functools
import multiprocessing
import pathlib
import re
import statistics
import sys
import sysconfig
import time
from multiprocessing.connection import Connection
from typing import Callable, Optional, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import moe_mlir
import moe_mlir.torch

VOCABULARY = 256
"""Tokens are bytes."""
CURVES = 0.1
"""How far apart two trainings may end, in nats a byte. Roundings grow as they
train, by expert choices that tip; that each step is right is checked apart."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The model and how long it is trained."""

    layers: int = 2
    d_model: int = 128
    heads: int = 4
    d_expert: int = 128
    experts: int = 8
    top_k: int = 2
    context: int = 128
    batch: int = 16
    steps: int = 300
    seconds: float = 40.0
    """The training in PyTorch stops after so many seconds, or three times as many where
    it is not better than a unigram model yet; the other one makes as many steps."""
    learning_rate: float = 3e-3
    balance: float = 1e-2
    """Weight of the auxiliary loss that keeps every expert in use."""
    held_out_windows: int = 64
    evaluate_every: int = 25
    """Steps between two points of the held-out curve."""
    seed: int = 0
    device: str = "auto"
    """cpu, cuda, or auto: a GPU that the compiler has a target for, else the CPU."""

    @property
    def place(self) -> torch.device:
        """Where the model is."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
                                else "cpu")
        return torch.device(self.device)

    def compiled(self) -> moe_mlir.torch.Operator:
        """The experts of one block, compiled for where they are called."""
        return moe_mlir.torch.Operator(self.layer)

    @property
    def layer(self) -> moe_mlir.layers.GatedMLP:
        """The experts of one block, for the compiler."""
        return moe_mlir.layers.GatedMLP(d_model=self.d_model, d_expert=self.d_expert,
                                        experts=self.experts, top_k=self.top_k)


# ---- text --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Text:
    """Bytes to train on and bytes held out, from different files."""

    train: Tensor
    held_out: Tensor
    files: int


def standard_library(place: torch.device, limit: int = 6_000_000) -> Text:
    """The standard library's sources, every eighth file held out, int64."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
    files = [f for f in sorted(root.rglob("*.py")) if not skipped & set(f.relative_to(root).parts)]
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    for number, file in enumerate(files):
        parts[number % 8 == 7].append(file.read_bytes())
        size += len(parts[number % 8 == 7][-1])
        if size > limit:
            break
    train, held_out = (torch.frombuffer(bytearray(b"".join(p)), dtype=torch.uint8).long().to(place) for p in parts)
    return Text(train, held_out, number + 1)


def unigram_loss(text: Text) -> float:
    """Nats a byte of held-out text, under the frequencies of the training text."""
    counts = torch.bincount(text.train, minlength=VOCABULARY).double() + 1
    return -(counts / counts.sum()).log()[text.held_out].mean().item()


def windows(text: Tensor, count: int, context: int, generator: Optional[torch.Generator]) -> Tensor:
    """(count, context + 1) bytes: at random places, or evenly spread without a generator."""
    last = len(text) - context - 1
    if generator is None:
        starts = torch.linspace(0, last, count).long()
    else:
        starts = torch.randint(last + 1, (count,), generator=generator)
    return text[(starts[:, None] + torch.arange(context + 1)).to(text.device)]


# ---- model -------------------------------------------------------------------


class LoopOverExperts(nn.Module):
    """Gated MLP experts as they are written in PyTorch: one expert at a time.

    x (T, d), ids and gates (T, K) to (T, d); w1 (E, 2n, d), w2 (E, d, n).
    """

    def __init__(self, c: Config):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(c.experts, 2 * c.d_expert, c.d_model) / c.d_model**0.5)
        self.w2 = nn.Parameter(torch.randn(c.experts, c.d_model, c.d_expert) / c.d_expert**0.5)

    def forward(self, x: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for expert in range(self.w1.shape[0]):
            token, choice = torch.where(ids == expert)
            gate, up = F.linear(x[token], self.w1[expert]).chunk(2, dim=1)
            y = F.linear(F.silu(gate) * up, self.w2[expert])
            out = out.index_add(0, token, y * gates[token, choice, None])
        return out


class CompiledExperts(nn.Module):
    """The same experts, the same parameters, computed by the compiled layer."""

    def __init__(self, experts: LoopOverExperts, compiled: moe_mlir.torch.Operator):
        super().__init__()
        self.w1, self.w2, self.compiled = experts.w1, experts.w2, compiled

    def forward(self, x: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        return self.compiled(x, ids, gates, self.w1, self.w2)


class Block(nn.Module):
    """Attention, then experts chosen by a softmax router with normalised gates."""

    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.top_k = c.heads, c.top_k
        self.norm1, self.norm2 = nn.LayerNorm(c.d_model), nn.LayerNorm(c.d_model)
        self.qkv = nn.Linear(c.d_model, 3 * c.d_model, bias=False)
        self.proj = nn.Linear(c.d_model, c.d_model, bias=False)
        self.router = nn.Linear(c.d_model, c.experts, bias=False)
        self.experts: nn.Module = LoopOverExperts(c)

    def forward(self, x: Tensor, replay: Optional[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        b, s, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(b, s, d))

        rows = self.norm2(x).view(b * s, d)
        scores = self.router(rows).softmax(dim=1)
        ids = scores.topk(self.top_k).indices if replay is None else replay
        gates = scores.gather(1, ids)
        gates = gates / gates.sum(dim=1, keepdim=True)
        # As in the Switch transformer: share of slots times mean score.
        share = F.one_hot(ids, scores.shape[1]).to(scores.dtype).mean(dim=(0, 1))
        balance = scores.shape[1] * (share * scores.mean(dim=0)).sum()
        return x + self.experts(rows, ids, gates).view(b, s, d), ids, balance


class LanguageModel(nn.Module):
    """Bytes (B, S) to logits (B, S, 256)."""

    def __init__(self, c: Config):
        super().__init__()
        self.bytes = nn.Embedding(VOCABULARY, c.d_model)
        self.places = nn.Embedding(c.context, c.d_model)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, VOCABULARY, bias=False)

    def forward(self, text: Tensor, replay: Optional[Sequence[Tensor]] = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits, each block's expert ids (B*S, K), and the balance loss.

        With `replay`, ids of an earlier call, experts are not chosen again: two
        ways to compute one model then never differ by a near tie.
        """
        x = self.bytes(text) + self.places.weight[: text.shape[1]]
        chosen, balance = [], x.new_zeros(())
        for number, block in enumerate(self.blocks):
            x, ids, term = block(x, replay[number] if replay else None)
            chosen.append(ids)
            balance = balance + term
        return self.head(self.norm(x)), chosen, balance


def with_compiled_experts(model: LanguageModel, compiled: moe_mlir.torch.Operator) -> LanguageModel:
    """The model again, its parameters shared, its experts computed by `compiled`."""
    shared = {id(p): p for p in model.parameters()}
    swapped = copy.deepcopy(model, shared)
    for block in swapped.blocks:
        block.experts = CompiledExperts(block.experts, compiled)
    return swapped


# ---- training and comparing --------------------------------------------------


def losses(model: LanguageModel, batch: Tensor, replay: Optional[Sequence[Tensor]] = None
           ) -> tuple[Tensor, list[Tensor], Tensor]:
    """Each byte's loss in nats (B, S), the expert ids, the balance loss."""
    logits, ids, balance = model(batch[:, :-1], replay)
    each = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
    return each.view(len(batch), -1), ids, balance


@dataclasses.dataclass
class Training:
    """What one training gave."""

    losses: list[float]
    """Of each step's batch, nats a byte."""
    held_out: list[tuple[int, float]]
    """Steps and the loss on held-out text there."""
    seconds: float
    """Of the steps alone."""
    peak: int
    """Bytes that one more step needs at most, for activations, gradients and workspace."""
    parameters: dict[str, np.ndarray]


def train(model: LanguageModel, text: Text, c: Config, report: Callable[[int, float], None]) -> Training:
    """Trains in place, for c.steps steps or c.seconds seconds."""
    generator = torch.Generator().manual_seed(c.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.learning_rate, betas=(0.9, 0.95))
    held_out, unigram = windows(text.held_out, 16, c.context, None), unigram_loss(text)

    def step(batch: Tensor) -> float:
        each, _, balance = losses(model, batch)
        optimizer.zero_grad()
        (each.mean() + c.balance * balance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return each.mean().item()

    step(held_out)  # compiles; no update
    run = Training([], [], 0.0, 0, {})
    for number in range(c.steps):
        if number % c.evaluate_every == 0:
            run.held_out.append((number, evaluate(model, held_out)))
        start = time.perf_counter()
        run.losses.append(step(windows(text.train, c.batch, c.context, generator)))
        optimizer.step()
        run.seconds += time.perf_counter() - start
        report(number + 1, run.losses[-1])
        if run.seconds > c.seconds and (run.seconds > 3 * c.seconds or evaluate(model, held_out) < unigram):
            break
    run.held_out.append((len(run.losses), evaluate(model, held_out)))
    optimizer.zero_grad()
    run.peak = peak_memory(lambda: step(held_out), c.place)
    run.parameters = {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}
    return run


@torch.no_grad()
def evaluate(model: LanguageModel, batch: Tensor) -> float:
    return losses(model, batch)[0].mean().item()


def peak_memory(function: Callable[[], object], place: torch.device) -> int:
    """The most bytes that this process holds during a call, above what it held before.

    On the CPU every larger tensor is mapped alone meanwhile, so that freed memory
    is given back and does not hide what the next tensors need."""
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
        start = torch.cuda.memory_allocated(place)
        function()
        return torch.cuda.max_memory_allocated(place) - start
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD
    libc.malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    function()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s*(\d+) kB", status)[1])


def train_alone(compiled: bool, c: Config, pipe: Connection) -> None:
    """The body of a process: sends (step, loss) after each step, at last the Training."""
    model = new_model(c)
    if compiled:
        model = with_compiled_experts(model, c.compiled())
    pipe.send(train(model, standard_library(c.place), c, lambda step, loss: pipe.send((step, loss))))


def new_model(c: Config) -> LanguageModel:
    """The same parameters each time."""
    torch.manual_seed(c.seed)
    return LanguageModel(c).to(c.place)


def train_both(c: Config, console: Console) -> tuple[Training, Training]:
    """In plain PyTorch, then as many steps with compiled experts."""
    runs: list[Training] = []
    with Progress(TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                  TextColumn("loss {task.fields[loss]:.3f}"), console=console) as progress:
        for compiled, name in ((False, "training in PyTorch"), (True, "training compiled")):
            if compiled:
                c = dataclasses.replace(c, steps=len(runs[0].losses), seconds=float("inf"))
            task = progress.add_task(name, total=c.steps, loss=float("nan"))
            here, there = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(target=train_alone, args=(compiled, c, there))
            process.start()
            there.close()
            try:
                while not isinstance(message := here.recv(), Training):
                    progress.update(task, completed=message[0], loss=message[1])
                runs.append(message)
            except EOFError:
                process.join()
                raise SystemExit(f"{name} ended with exit code {process.exitcode}") from None
            process.join()
            progress.update(task, total=len(message.losses))
    return runs[0], runs[1]


def load(model: LanguageModel, run: Training) -> None:
    """Gives a model the parameters of a training."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(run.parameters[name]))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Held-out losses of two ways to compute one model, and their errors.

    Errors are root mean squares over all bytes, against the model in float64.
    The bound is the project's rule for every kernel: not above 1.1 times the
    error of plain PyTorch, plus one rounding.
    """

    torch_loss: float
    compiled_loss: float
    torch_error: float
    compiled_error: float
    bound: float

    @property
    def same(self) -> bool:
        """Whether the losses are the same to rounding. NaN is not."""
        return self.compiled_error <= self.bound


class Check:
    """Held-out windows (N, context + 1) with their losses in float32 and float64."""

    @torch.no_grad()
    def __init__(self, model: LanguageModel, held_out: Tensor):
        exact_model = copy.deepcopy(model).double()
        self.batches, self.ids = held_out.split(16), []
        by_torch, exact = [], []
        for batch in self.batches:
            each, ids, _ = losses(model, batch)
            by_torch.append(each)
            self.ids.append(ids)
            exact.append(losses(exact_model, batch, ids)[0])
        self.torch, self.exact = torch.cat(by_torch), torch.cat(exact)

    def error(self, values: Tensor) -> float:
        return (values.double() - self.exact).square().mean().sqrt().item()

    @torch.no_grad()
    def compare(self, swapped: LanguageModel) -> Comparison:
        """Evaluates another way to compute the model, with the same experts chosen."""
        values = torch.cat([losses(swapped, batch, ids)[0] for batch, ids in zip(self.batches, self.ids)])
        rounding = torch.finfo(torch.float32).eps * self.exact.square().mean().sqrt().item()
        return Comparison(self.torch.mean().item(), values.mean().item(), self.error(self.torch),
                          self.error(values), 1.1 * self.error(self.torch) + rounding)


def gradients(model: LanguageModel, batch: Tensor, ids: Sequence[Tensor]) -> Tensor:
    """The gradient of the loss by all parameters, in one row, float64."""
    found = torch.autograd.grad(losses(model, batch, ids)[0].mean(), list(model.parameters()))
    return torch.cat([g.double().flatten() for g in found])


def compare_gradients(model: LanguageModel, swapped: LanguageModel, batch: Tensor) -> tuple[float, float, float]:
    """Relative errors of the gradient, in PyTorch and compiled, and the bound of the latter."""
    with torch.no_grad():
        ids = losses(model, batch)[1]
    exact = gradients(copy.deepcopy(model).double(), batch, ids)
    errors = [((gradients(m, batch, ids) - exact).norm() / exact.norm()).item() for m in (model, swapped)]
    return errors[0], errors[1], 1.1 * errors[0] + torch.finfo(torch.float32).eps


def kept_for_backward(model: LanguageModel, c: Config) -> int:
    """Bytes that one block's experts keep between forward and backward, beside arguments."""
    arguments = expert_arguments(c, c.batch * c.context)
    experts = model.blocks[0].experts
    known = {t.untyped_storage().data_ptr() for t in (*arguments, *experts.parameters())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = experts(*arguments)
    del out
    return sum(kept.values())


def broken(experts: CompiledExperts, expert: int) -> CompiledExperts:
    """The same layer, but the output of one expert is zero."""
    wrong = copy.copy(experts)
    wrong._parameters = dict(experts._parameters)
    w2 = experts.w2.detach().clone()
    w2[expert] = 0
    wrong.w2 = nn.Parameter(w2)
    return wrong


def zero_each_expert(check: Check, swapped: LanguageModel) -> dict[tuple[int, int], Comparison]:
    """What the check finds when one expert of one block is zeroed: (block, expert)."""
    found = {}
    for number, block in enumerate(swapped.blocks):
        right = block.experts
        for expert in range(right.w1.shape[0]):
            block.experts = broken(right, expert)
            found[number, expert] = check.compare(swapped)
        block.experts = right
    return found


# ---- showing -----------------------------------------------------------------


def interleaved(functions: dict[str, Callable[[], object]], rounds: int = 11) -> dict[str, float]:
    """Median milliseconds of each, measured in turn; fewer rounds where they take long."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for name, function in list(functions.items()) * 2:
        function()
    end = time.perf_counter() + 5
    for number in range(rounds):
        if number > 2 and time.perf_counter() > end:
            break
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def expert_arguments(c: Config, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random rows that require grad, ids, gates that require grad."""
    generator = torch.Generator().manual_seed(c.seed)
    x = torch.randn(tokens, c.d_model, generator=generator).to(c.place)
    gates, ids = torch.randn(tokens, c.experts, generator=generator).to(c.place).softmax(1).topk(c.top_k)
    return x.requires_grad_(), ids, gates.requires_grad_()


def experts_times(models: dict[str, LanguageModel], c: Config, tokens: int, backward: bool) -> dict[str, float]:
    """Milliseconds of one block's experts on so many rows: forward, or with backward."""
    arguments = expert_arguments(c, tokens)
    cotangent = torch.randn(tokens, c.d_model, device=c.place)

    def call(experts: nn.Module) -> None:
        with torch.set_grad_enabled(backward):
            out = experts(*arguments)
        if backward:
            torch.autograd.grad(out, [arguments[0], arguments[2], *experts.parameters()], cotangent)
        if c.place.type == "cuda":
            torch.cuda.synchronize(c.place)

    return interleaved({name: functools.partial(call, m.blocks[0].experts) for name, m in models.items()})


def plot(path: pathlib.Path, runs: dict[str, Training], unigram: float) -> None:
    """Both loss curves, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for (name, run), style, colour in zip(runs.items(), ("-", "--"), ("tab:blue", "tab:orange")):
        axes.plot(range(1, len(run.losses) + 1), run.losses, style, color=colour, linewidth=1, label=f"{name}, training")
        axes.plot(*zip(*run.held_out), "o" if style == "-" else "x", color=colour, label=f"{name}, held out")
    axes.axhline(unigram, color="gray", linewidth=1, label="unigram model, held out")
    axes.set(xlabel="step", ylabel="loss, nats a byte", title="A small MoE language model, trained twice from one seed")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


STAGES = {
    "input": ("what the layer means", {r"moe\.(?!yield|dims|name)": 9}),
    "differentiated": ("forward and backward, nothing kept but H", {r"moe\.(?!yield|dims|name|store)": 16}),
    "fused": ("one op a kernel that will run", {r"moe\.(?!yield|dims|name|store)": 12}),
    "bufferized": ("every temporary is a view of one workspace", {r"memref\.view": 2, r"^ *moe\.(?!yield)": 9}),
    "loops": ("tasks for threads, tiles, vectors", {r"scf\.parallel": 2, r"memref\.alloca": 1, r"vector\.load": 1,
                                                    r"vector\.fma": 2}),
    "llvm": ("what LLVM makes machine code of", {r"llvm\.func internal": 1, r"intr\.fma": 2,
                                                 r"call @moe_rt_parallel_for": 1}),
}
"""Stages that are shown: what is to be seen there, and how many lines of which kinds."""


def show_stages(console: Console, layer: moe_mlir.layers.Layer) -> None:
    """A few lines of the layer's IR at each stage, from the gradients of floats on."""
    grad = [a.name for a in layer.inputs() if a.dtype.startswith(("f", "bf"))]
    for stage, (what, wanted) in STAGES.items():
        lines = [line.strip() for line in layer.ir(stage, grad=grad).splitlines()]
        console.print(f"[bold]{stage}[/]: {what} [dim]({len(lines)} lines)[/]", highlight=False)
        for pattern, count in wanted.items():
            for line in [x for x in lines if re.search(pattern, x) and "func.func" not in x][:count]:
                console.print(f"    {line}", style="cyan", markup=False, highlight=False, no_wrap=True,
                              overflow="ellipsis")


def device_name(place: torch.device) -> str:
    if place.type == "cuda":
        return torch.cuda.get_device_name(place)
    return f"the CPU, {torch.get_num_threads()} threads"


def parse(arguments: Optional[Sequence[str]]) -> tuple[Config, pathlib.Path]:
    """The configuration, and where the plot goes."""
    build = pathlib.Path(__file__).resolve().parents[1] / "build"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=pathlib.Path, help="default: build/ of the checkout, else the current folder",
                        default=(build if build.is_dir() else pathlib.Path()) / "language_model.png")
    for field in dataclasses.fields(Config):
        kind = {"int": int, "float": float, "str": str}[field.type]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default,
                            help=f"default: {field.default}")
    given = vars(parser.parse_args(arguments))
    return Config(**{k: v for k, v in given.items() if k != "plot"}), given["plot"]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    c, picture = parse(arguments)
    console = Console()
    text = standard_library(c.place)
    unigram = unigram_loss(text)
    held_out = windows(text.held_out, c.held_out_windows, c.context, None)
    model = new_model(c)
    size = sum(p.numel() for p in model.parameters())
    console.print(f"{text.files} files of Python's standard library: {len(text.train) / 1e6:.1f} MB to train on, "
                  f"{len(text.held_out) / 1e6:.1f} MB held out")
    console.print(f"{size / 1e6:.1f} M parameters: {c.layers} blocks, d = {c.d_model}, {c.experts} experts of "
                  f"n = {c.d_expert}, {c.top_k} a token; on {device_name(c.place)}")
    runs = train_both(c, console)
    plot(picture, dict(zip(("PyTorch loop", "compiled"), runs)), unigram)

    load(model, runs[0])
    swapped = with_compiled_experts(model, c.compiled())
    with console.status("evaluating held-out text"):
        result = Check(model, held_out).compare(swapped)
        zeroed = zero_each_expert(Check(model, held_out[:16]), swapped)
        missed = [where for where, found in zeroed.items() if found.same]
        smallest = min(found.compiled_error / found.bound for found in zeroed.values())
        gradient = compare_gradients(model, swapped, held_out[:16])
    both, tokens = {"loop": model, "compiled": swapped}, c.batch * c.context
    with console.status("timing"):
        times = {f"experts, {tokens} tokens": experts_times(both, c, tokens, backward=False),
                 "experts, 16 tokens": experts_times(both, c, 16, backward=False),
                 f"  and backward, {tokens}": experts_times(both, c, tokens, backward=True)}
    times["model, a step"] = {name: 1e3 * run.seconds / max(len(run.losses), 1) for name, run in zip(both, runs)}
    kept = [kept_for_backward(m, c) for m in both.values()]

    console.print("\nThe stages of the experts on the way to the CPU; layer.ir(stage, grad=...) gives them:")
    show_stages(console, c.layer)
    table = Table(title="\nMoE language model", title_justify="left")
    for column, justify in (("", "left"), ("PyTorch loop", "right"), ("compiled", "right"), ("", "left")):
        table.add_column(column, justify=justify)
    table.add_row("[bold]trained from one seed")
    for first, second in list(zip(runs[0].held_out[:-1], runs[1].held_out))[::4]:
        table.add_row(f"held-out loss, step {first[0]}", f"{first[1]:.4f}", f"{second[1]:.4f}")
    ends = [run.held_out[-1][1] for run in runs]
    table.add_row("held-out loss, the end", f"{ends[0]:.4f}", f"{ends[1]:.4f}", f"unigram {unigram:.3f}")
    table.add_row("time", *(f"{run.seconds:.1f} s" for run in runs), f"{len(runs[0].losses)} steps")
    table.add_row("peak memory of a step", *(f"{run.peak / 1e6:.0f} MB" for run in runs), "beside the model")
    table.add_row("kept for backward", *(f"{k / 1e6:.1f} MB" for k in kept), "a block's experts", end_section=True)
    table.add_row("[bold]experts swapped")
    table.add_row("held-out loss", f"{result.torch_loss:.6f}", f"{result.compiled_loss:.6f}", "nats a byte")
    table.add_row("  error against float64", f"{result.torch_error:.2e}", f"{result.compiled_error:.2e}",
                  f"allowed {result.bound:.2e}")
    table.add_row("  one expert zeroed", "", f"{smallest:.0f} x allowed",
                  f"noticed {len(zeroed) - len(missed)} of {len(zeroed)}")
    table.add_row("gradient, error", f"{gradient[0]:.2e}", f"{gradient[1]:.2e}",
                  f"allowed {gradient[2]:.2e}", end_section=True)
    for name, pair in times.items():
        table.add_row(name, f"{pair['loop']:.2f} ms", f"{pair['compiled']:.2f} ms",
                      f"{pair['loop'] / pair['compiled']:.2f} x as fast")
    console.print(table)
    console.print(f"Both loss curves are in {picture}", soft_wrap=True)

    failures = []
    for name, end in zip(("PyTorch", "compiled"), ends):
        if not end < unigram:
            failures.append(f"the {name} model's held-out loss {end:.3f} is not below the unigram model's "
                            f"{unigram:.3f}; train it for longer, with --steps and --seconds")
    if not abs(ends[0] - ends[1]) < CURVES:
        failures.append(f"the two trainings end {abs(ends[0] - ends[1]):.3f} apart, more than {CURVES}")
    if not result.same:
        failures.append(f"the losses differ: the compiled experts' error {result.compiled_error:.3e} is above "
                        f"{result.bound:.3e}")
    if not gradient[1] <= gradient[2]:
        failures.append(f"the gradients differ: the compiled one's error {gradient[1]:.3e} is above {gradient[2]:.3e}")
    if missed:
        failures.append(f"zeroing an expert went unnoticed: {missed} as (block, expert)")
    for failure in failures:
        console.print(f"[bold red]failed:[/] {failure}", soft_wrap=True)
    if not failures:
        console.print("[bold green]The compiled experts train alike, and give the same losses and gradients, to rounding.[/]")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
