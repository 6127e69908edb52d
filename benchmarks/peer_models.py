"""Anomalib 2.7's torch models as benchmarks/peer_side.py needs them: with given weights, trained in plain loops.

Each `their_` function builds one model and what fits it: the loss, optimiser, rate and order of updates of its Lightning
module. Runs in anomalib's environment, without andon.

Letters: B images, C channels of a layer, H and W the image.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIBRE = 1024  # positions of each layer that our CFlow takes in a step
PDN_NAMES = {"conv1": "0", "conv2": "3", "conv3": "6", "conv4": "8"}  # theirs, and in published weights
MEAN, STD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
MISSING = torch.library.Library("torchvision", "FRAGMENT")

Fitted = tuple[Any, Callable[[], None]]  # the model, and what fits it


def load(paths: Iterable[str]) -> Tensor:
    """Images (B, 3, H, W)."""
    return torch.from_numpy(np.stack([np.load(path) for path in paths]))


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
            for picks in torch.randperm(len(rows)).tensor_split(tuple(range(fibre, whole, fibre))):
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
    count, sums = 0, torch.zeros(2, 1)
    for path in job.train:
        x = teacher(load([path]))
        count += x[:, 0].numel()
        sums = sums + torch.stack([x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
    mean, squares = sums[:, None, :, None, None] / count
    return {"mean": mean, "std": (squares - mean.square()).sqrt()}


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


THEIRS: dict[str, Callable[[SimpleNamespace], Fitted]] = {
    build.__name__.removeprefix("their_"): build
    for build in (their_patchcore, their_padim, their_stfpm, their_reverse_distillation, their_fastflow, their_cflow,
                  their_efficientad, their_draem, their_ganomaly, their_supersimplenet)
}  # fmt: skip
