"""One side of benchmarks/peer.py, in a process of its own: fits a method, scores the test images, says what it cost.

    python benchmarks/peer_side.py JOB.json

`theirs` runs in anomalib's environment and never imports andon. Each of its functions builds one of the peer's torch
models and says how its Lightning module trains it: loss, optimiser, rate, order of updates (anomalib 2.7.0).

Letters: B images, C channels of a layer, H and W the image, h and w a layer's grid.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIBRE = 1024  # positions of each layer that our CFlow takes in a step
PDN_NAMES = {"conv1": "0", "conv2": "3", "conv3": "6", "conv4": "8"}  # theirs, and in published weights
MEAN, STD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]

MISSING = torch.library.Library("torchvision", "FRAGMENT")

Answer = tuple[float, Any]  # image score; map (H, W), or None


class Side(NamedTuple):
    fit: Callable[[], object]
    score: Callable[[Tensor], Any]  # (1, 3, H, W) in [0, 1] -> what `answers` reads
    answers: Callable[[list[Any]], list[Answer]]


def work(job: SimpleNamespace) -> int:
    """Fit, then score every test image by itself."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    side = theirs(job) if job.side == "theirs" else ours(job)
    costs, start = {"start_mb": memory("VmRSS")}, time.perf_counter()
    side.fit()
    costs |= {"fit_seconds": time.perf_counter() - start, "peak_mb": memory("VmHWM")}
    times, found = [], []
    with torch.no_grad():
        side.score(load(job.test[:1]))
        for path in job.test:
            images, start = load([path]), time.perf_counter()
            found.append(side.score(images))
            times.append(1000 * (time.perf_counter() - start))
        scores, maps = zip(*side.answers(found), strict=True)
    there = {"maps": np.stack(maps)} if maps[0] is not None else {}
    np.savez(job.answers, scores=np.array(scores), **there)
    Path(job.costs).write_text(json.dumps(costs | {"ms": statistics.median(times)}))
    return 0


def load(paths: Iterable[str]) -> Tensor:
    """Images (B, 3, H, W)."""
    return torch.from_numpy(np.stack([np.load(path) for path in paths]))


def memory(line: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(text for text in status if text.startswith(line)).split()[1]) / 1000


def plain(found: list[Any]) -> list[Answer]:
    """Image scores (1,) and maps (1, 1, H, W) or (1, H, W), or None, as one number and (H, W)."""
    return [(float(score), None if grid is None else grid.numpy().squeeze()) for score, grid in found]


def ours(job: SimpleNamespace) -> Side:
    from andon.engine import Reader, fit
    from andon.models import build
    from andon.training import Plan

    detector = build(job.method, **job.settings)
    paths, reader = [Path(path) for path in job.train], Reader(np.load, job.batch_size)

    def score(images: Tensor) -> tuple[Tensor, Tensor]:
        found = detector(images)
        return found.image_score, found.anomaly_map

    return Side(lambda: fit(detector, paths, reader, plan=Plan(device="cpu")), score, plain)


# --- theirs: each function gives the model and what fits it --------------------------------------------------------

Fitted = tuple[Any, Callable[[], None]]


def theirs(job: SimpleNamespace) -> Side:
    stand_ins(job)
    model, fit = THEIRS[job.method](job)
    shown = partial(normalised, job)

    def score(images: Tensor) -> tuple[Tensor, Tensor | None]:
        found = model.eval()(shown(images))
        return found.pred_score, found.anomaly_map

    if job.method == "supersimplenet":
        return Side(fit, lambda images: before_sigmoid(model.eval(), shown(images)), plain)
    if job.method == "cflow":
        densities = Densities(model.anomaly_map_generator)
        model.anomaly_map_generator = densities
        return Side(fit, score, lambda found: densities.answers()[-len(found) :])
    return Side(fit, score, plain)


def stand_ins(job: SimpleNamespace) -> None:
    """Our weights in place of downloads, and what torchvision's CPU build lacks."""
    for name in ("nms", "qnms"):
        MISSING.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm
    import torchvision
    from PIL import Image

    make = timm.create_model

    def make_with_weights(name: str, pretrained: bool = False, **keywords: Any) -> nn.Module:
        net: nn.Module = make(name, pretrained=False, **keywords)
        return load_folded(net, job.weights) if pretrained else net

    def read_image(path: str, mode: Any = None) -> Tensor:
        return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)

    timm.create_model, torchvision.io.read_image = make_with_weights, read_image


def load_folded(net: nn.Module, weights: str) -> nn.Module:
    """A ResNet18 that computes what the folded ``weights`` do; its norms stay, with the biases."""
    own = net.state_dict()
    for key, value in torch.load(weights, map_location="cpu", weights_only=True).items():
        prefix, _, leaf = key.rpartition(".")
        if leaf == "weight":
            own[key] = value
            continue
        norm = prefix.replace("conv", "bn") if "conv" in prefix else prefix[:-1] + "1"  # downsample.0, .1
        ones = torch.ones_like(value)
        parts = {"weight": ones, "bias": value, "running_mean": 0 * ones, "running_var": ones - 1e-5}
        own |= {f"{norm}.{part}": filled for part, filled in parts.items()}
    net.load_state_dict(own)
    return net


def peer(module: str) -> Any:
    return importlib.import_module(f"anomalib.models.image.{module}")


def normalised(job: SimpleNamespace, images: Tensor) -> Tensor:
    return images if job.method in ("draem", "efficientad") else (images - MEAN) / STD


def batches(job: SimpleNamespace) -> Iterator[Tensor]:
    """The images of each training step."""
    for numbers in job.order:
        yield normalised(job, load(job.train[number] for number in numbers))


def gathered(job: SimpleNamespace, model: nn.Module, close: Callable[[], object]) -> Fitted:
    """A model that keeps what it saw of every training image, then closes."""

    def fit() -> None:
        model.train()
        for start in range(0, len(job.train), job.batch_size):
            model(normalised(job, load(job.train[start : start + job.batch_size])))
        close()

    return model, fit


def trained(job: SimpleNamespace, model: nn.Module, loss: Callable[[Tensor], Tensor],
            optimiser: torch.optim.Optimizer, falls: Iterable[float] = (), factor: float = 1.0) -> Fitted:  # fmt: skip
    """One optimiser, its rate multiplied by ``factor`` after each share of the steps in ``falls``."""
    milestones = [max(1, int(share * len(job.order))) for share in falls]

    def fit() -> None:
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, factor)
        model.train()
        for images in batches(job):
            optimiser.zero_grad()
            loss(images).backward()
            optimiser.step()
            schedule.step()

    return model, fit


def their_patchcore(job: SimpleNamespace) -> Fitted:
    model = peer("patchcore.torch_model").PatchcoreModel(job.layers, "resnet18", num_neighbors=9)
    return gathered(job, model, lambda: model.subsample_embedding(job.coreset_fraction))


def their_padim(job: SimpleNamespace) -> Fitted:
    model = peer("padim.torch_model").PadimModel("resnet18", job.layers, n_features=job.dimensions)
    drawn = np.random.default_rng(job.seed).permutation(model.n_features_original)[: job.dimensions]
    model.idx = torch.from_numpy(np.sort(drawn))  # as ours
    return gathered(job, model, model.fit)


def their_stfpm(job: SimpleNamespace) -> Fitted:
    model, loss = peer("stfpm.torch_model").STFPMModel(job.layers, "resnet18"), peer("stfpm.loss").STFPMLoss()
    learned = model.student_model.parameters()
    optimiser = torch.optim.SGD(learned, 0.4, momentum=0.9, weight_decay=0.001)
    return trained(job, model, lambda images: loss(*model(images)), optimiser)


def their_reverse_distillation(job: SimpleNamespace) -> Fitted:
    mode = peer("reverse_distillation.anomaly_map").AnomalyMapGenerationMode.ADD
    make = peer("reverse_distillation.torch_model").ReverseDistillationModel
    model, loss = make("resnet18", (job.size, job.size), job.layers, mode), peer("reverse_distillation.loss")
    learned = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimiser = torch.optim.Adam(learned, 0.005, (0.5, 0.99))
    return trained(job, model, lambda images: loss.ReverseDistillationLoss()(*model(images)), optimiser)


def their_fastflow(job: SimpleNamespace) -> Fitted:
    model = peer("fastflow.torch_model").FastflowModel((job.size, job.size), "resnet18")
    loss = peer("fastflow.loss").FastflowLoss()
    optimiser = torch.optim.Adam(model.parameters(), 0.001, weight_decay=1e-5)
    return trained(job, model, lambda images: loss(*model(images)), optimiser)


def their_cflow(job: SimpleNamespace) -> Fitted:
    module, utils = peer("cflow.torch_model"), peer("cflow.utils")
    model = module.CflowModel("resnet18", job.layers)
    optimiser = torch.optim.Adam(model.decoders.parameters(), 1e-4)
    width, fibre = model.condition_vector, model.fiber_batch_size

    def update(decoder: Any, rows: Tensor, code: Tensor) -> None:
        optimiser.zero_grad()
        channels = rows.shape[1]
        density = utils.get_logp(channels, *decoder(rows, [code])) / channels
        (-F.logsigmoid(density)).mean().backward()
        optimiser.step()

    def learn(images: Tensor) -> tuple[int, int]:
        """The positions taken, and how many ours would take."""
        sizes = []
        for x, decoder in zip(model.encoder(images).values(), model.decoders, strict=True):
            rows = x.permute(0, 2, 3, 1).flatten(0, 2)
            code = utils.positional_encoding_2d(width, *x.shape[2:]).flatten(1).T.repeat(len(x), 1)
            whole = fibre * (len(rows) // fibre)  # the last fibre takes the rest, too
            for picks in torch.randperm(len(rows)).tensor_split(range(fibre, whole, fibre)):
                update(decoder, rows[picks], code[picks])
            sizes.append(len(rows))
        return sum(sizes), sum(min(size, FIBRE) for size in sizes)

    def fit() -> None:
        model.train()
        taken = 0
        for images in batches(job):
            now, wanted = learn(images)
            taken += now
            if taken >= wanted * len(job.order):
                break

    return model, fit


class Densities(nn.Module):
    """In place of CFlow's map generator: keeps log p(x) / C by layer, of each image."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator, self.kept = generator, []

    def forward(self, *, distribution: Any, height: Any, width: Any, image_size: Any) -> Tensor:
        shapes = zip(distribution, height, width, strict=True)
        self.kept.append([rows.reshape(1, 1, h, w) for rows, h, w in shapes])
        self.size = tuple(image_size)
        return self.generator(distribution=distribution, height=height, width=width, image_size=image_size)

    def answers(self) -> list[Answer]:
        """Minus the sum over layers of p(x)^(1/C), divided by its largest value over all images."""
        best = [torch.cat(layer).max() for layer in zip(*self.kept, strict=True)]
        found = []
        for layers in self.kept:
            raised = [F.interpolate((grid - top).exp(), self.size, mode="bilinear", align_corners=True)
                      for grid, top in zip(layers, best, strict=True)]  # fmt: skip
            found.append(-torch.stack(raised).sum(0))
        return plain([(grid.max(), grid) for grid in found])


def their_efficientad(job: SimpleNamespace) -> Fitted:
    model = peer("efficient_ad.torch_model").EfficientAdModel()
    published = torch.load(job.pdn, weights_only=True)
    model.teacher.load_state_dict(
        {f"{own}.{part}": published[f"{name}.{part}"] for own, name in PDN_NAMES.items() for part in ("weight", "bias")}
    )  # fmt: skip
    learned = [*model.student.parameters(), *model.ae.parameters()]
    optimiser = torch.optim.Adam(learned, 1e-4, weight_decay=1e-5)
    others = penalty_pictures(job)
    _, train = trained(
        job, model, lambda images: sum(model(images, next(others))), optimiser, falls=(0.95,), factor=0.1
    )

    def fit() -> None:
        model.eval()
        with torch.no_grad():
            model.mean_std.update(channel_moments(model.teacher, job))
        train()
        model.eval()
        with torch.no_grad():
            model.quantiles.update(map_quantiles(model, job))

    return model, fit


def penalty_pictures(job: SimpleNamespace) -> Iterator[Tensor]:
    """The drawn pictures (1, 3, H, W), one at a time, shuffled, as the peer prepares those of ImageNet."""
    from PIL import Image
    from torchvision.transforms.v2 import CenterCrop, Compose, RandomGrayscale, Resize

    changed = Compose([Resize((2 * job.size, 2 * job.size)), RandomGrayscale(0.3), CenterCrop(job.size)])
    paths = sorted(Path(job.pictures).iterdir())
    while True:
        for number in torch.randperm(len(paths)).tolist():
            pixels = np.array(Image.open(paths[number]), np.float32) / 255
            yield changed(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def channel_moments(teacher: nn.Module, job: SimpleNamespace) -> dict[str, Tensor]:
    """The teacher's mean and standard deviation by channel, (1, C, 1, 1)."""
    found = [teacher(load([path])) for path in job.train]
    count = sum(x[:, 0].numel() for x in found)
    mean = torch.stack([x.sum((0, 2, 3)) for x in found]).sum(0) / count
    squares = torch.stack([x.square().sum((0, 2, 3)) for x in found]).sum(0) / count
    std = (squares - mean.square()).sqrt()
    return {"mean": mean[None, :, None, None], "std": std[None, :, None, None]}


def map_quantiles(model: Any, job: SimpleNamespace) -> dict[str, Tensor]:
    """q_a and q_b of both maps. The peer takes validation images; ours takes the training images by default."""
    maps = zip(*(model.get_maps(load([path])) for path in job.train), strict=True)
    reduced = [peer("efficient_ad.torch_model").reduce_tensor_elems(torch.cat(found)) for found in maps]
    return {f"{end}_{name}": values.quantile(q) for name, values in zip(("st", "ae"), reduced, strict=True)
            for end, q in (("qa", 0.9), ("qb", 0.995))}  # fmt: skip


def their_draem(job: SimpleNamespace) -> Fitted:
    """Its rate falls after 400 epochs, which no run here reaches."""
    generators = importlib.import_module("anomalib.data.utils.generators.perlin")
    plant = generators.PerlinAnomalyGenerator(Path(job.pictures), blend_factor=(0.1, 1.0))
    model, criterion = peer("draem.torch_model").DraemModel(), peer("draem.loss").DraemLoss()

    def loss(images: Tensor) -> Tensor:
        spoiled, masks = plant(images)
        repainted, found = model(spoiled)
        return criterion(images, repainted, masks, found)

    return trained(job, model, loss, torch.optim.Adam(model.parameters(), 1e-4))


def their_ganomaly(job: SimpleNamespace) -> Fitted:
    module, losses = peer("ganomaly.torch_model"), peer("ganomaly.loss")
    model = module.GanomalyModel((job.size, job.size), 3, n_features=64, latent_vec_size=100)
    makers_loss, judges_loss = losses.GeneratorLoss(1, 50, 1), losses.DiscriminatorLoss()
    judge = model.discriminator
    judges, makers = (
        torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (judge, model.generator)
    )

    def update(images: Tensor) -> None:
        padded, made, code, code_again = model(images)
        real = judge(padded)[0]
        loss = makers_loss(code, code_again, padded, made, real, judge(made)[0])
        makers.zero_grad()
        loss.backward(retain_graph=True)
        makers.step()
        judges.zero_grad()
        judges_loss(real, judge(made.detach())[0]).backward()
        judges.step()

    def fit() -> None:
        model.train()
        for images in batches(job):
            update(images)

    return model, fit


def their_supersimplenet(job: SimpleNamespace) -> Fitted:
    model = peer("supersimplenet.torch_model").SupersimplenetModel(0.2, "resnet18", job.layers)
    criterion = peer("supersimplenet.loss").SSNLoss()
    optimiser = torch.optim.AdamW([
        {"params": model.adaptor.parameters(), "lr": 1e-4},
        {"params": model.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
    ])  # fmt: skip
    return trained(job, model, lambda images: criterion(*model(images, None, torch.zeros(len(images)))),
                   optimiser, falls=(0.8, 0.9), factor=0.4)  # fmt: skip


def before_sigmoid(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """SuperSimpleNet's image score (1,) and map (1, 1, H, W) as log-odds."""
    features = model.feature_extractor(images)
    grid, score = model.segdec(seg_features=model.adaptor(features), cls_features=features)
    return score, model.anomaly_map_generator(grid, final_size=images.shape[-2:])


THEIRS: dict[str, Callable[[SimpleNamespace], Fitted]] = {
    build.__name__.removeprefix("their_"): build
    for build in (their_patchcore, their_padim, their_stfpm, their_reverse_distillation, their_fastflow, their_cflow,
                  their_efficientad, their_draem, their_ganomaly, their_supersimplenet)
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(work(SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text()))))
