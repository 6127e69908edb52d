"""Backbones: the contract, the files they are read from, and what is said when they cannot be."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from andon.errors import DataError, MissingExtraError, SettingsError
from andon.features.backbones import BACKBONES, BackboneInfo, cache_folder, from_state, load_backbone
from andon.features.resnet import ResNet, ResNetV2
from andon.features.student import LAYERS, AndonS, shipped_weights
from andon.features.trunk import IMAGENET_MEAN, IMAGENET_STD, Backbone, LayerInfo

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "weights"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def andon_s() -> Backbone:
    return load_backbone("andon-s")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


# --- weights with norms, as torchvision names them, and what they compute, written a second time ---


def conv_norm(conv: str, norm: str, o: int, i: int, k: int, rng: torch.Generator) -> State:
    """A convolution and its norm with random statistics."""
    return {
        f"{conv}.weight": torch.randn(o, i, k, k, generator=rng) / (i * k * k) ** 0.5,
        f"{norm}.weight": torch.rand(o, generator=rng) + 0.5,
        f"{norm}.bias": torch.randn(o, generator=rng) * 0.1,
        f"{norm}.running_mean": torch.randn(o, generator=rng) * 0.1,
        f"{norm}.running_var": torch.rand(o, generator=rng) + 0.5,
        f"{norm}.num_batches_tracked": torch.tensor(3),
    }


def resnet_state(counts: Sequence[int], bottleneck: bool, width: int = 64) -> State:
    """Random weights of a ResNet down to `len(counts)` layers, with a classifier as published files have."""
    rng = torch.Generator().manual_seed(1)
    state = conv_norm("conv1", "bn1", 64, 3, 7, rng)
    i = 64
    for k, count in enumerate(counts):
        o, mid = (256 if bottleneck else 64) * 2**k, width * 2**k
        for n in range(count):
            p = f"layer{k + 1}.{n}"
            shapes = [(mid, i, 1), (mid, mid, 3), (o, mid, 1)] if bottleneck else [(o, i, 3), (o, o, 3)]
            for c, (co, ci, size) in enumerate(shapes, 1):
                state |= conv_norm(f"{p}.conv{c}", f"{p}.bn{c}", co, ci, size, rng)
            if n == 0 and (i != o or k):
                state |= conv_norm(f"{p}.downsample.0", f"{p}.downsample.1", o, i, 1, rng)
            i = o
    return state | {"fc.weight": torch.zeros(10, i), "fc.bias": torch.zeros(10)}


def apply(state: State, conv: str, norm: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution, then norm in evaluation mode."""
    weight = state[f"{conv}.weight"]
    x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
    parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parts)


def resnet_reference(state: State, images: Tensor, layers: int, bottleneck: bool) -> dict[str, Tensor]:
    """The same network, with its norms, straight from the weights."""
    x = (images - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    x = F.max_pool2d(F.relu(apply(state, "conv1", "bn1", x, 2)), 3, 2, 1)
    out = {}
    for k in range(layers):
        n = 0
        while f"layer{k + 1}.{n}.conv1.weight" in state:
            p, s = f"layer{k + 1}.{n}", 2 if n == 0 and k else 1
            strides = (1, s, 1) if bottleneck else (s, 1)
            y = x
            for c, stride in enumerate(strides, 1):
                y = apply(state, f"{p}.conv{c}", f"{p}.bn{c}", y if c == 1 else F.relu(y), stride)
            if f"{p}.downsample.0.weight" in state:
                x = apply(state, f"{p}.downsample.0", f"{p}.downsample.1", x, s)
            x = F.relu(x + y)
            n += 1
        out[f"layer{k + 1}"] = x
    return out


class InvertedResidualWithNorms(nn.Module):
    """A block of MobileNetV2 with the module names of published weights."""

    def __init__(self, i: int, o: int, stride: int, t: int) -> None:
        super().__init__()
        h = i * t
        parts: list[nn.Module] = [unit(i, h, 1)] if t > 1 else []
        parts += [unit(h, h, 3, stride, h), nn.Conv2d(h, o, 1, bias=False), nn.BatchNorm2d(o)]
        self.conv, self.residual = nn.Sequential(*parts), stride == 1 and i == o

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def unit(i: int, o: int, k: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU6())


class MobileNetWithNorms(nn.Module):
    """MobileNetV2's `features`, norms kept."""

    def __init__(self) -> None:
        super().__init__()
        i, parts = 32, [unit(3, 32, 3, 2)]
        table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
        for t, c, n, s in [*table, (6, 320, 1, 1)]:
            for k in range(n):
                parts.append(InvertedResidualWithNorms(i, c, s if k == 0 else 1, t))
                i = c
        self.features = nn.Sequential(*parts, unit(320, 1280, 1))


def test_andon_s_gives_its_layers_raw_float32_on_images_that_are_not_square(
    andon_s: Backbone, images: Tensor
) -> None:
    features = andon_s(images)
    assert andon_s.name == "andon-s"
    assert andon_s.default_layers == ("stride8", "stride16") == tuple(andon_s.layers)
    for layer, info in andon_s.layers.items():
        assert features[layer].shape == (2, info.channels, 64 // info.stride, 96 // info.stride)
        assert features[layer].dtype == torch.float32
        assert features[layer].isfinite().all()
    assert min(f.min() for f in features.values()) < -0.1  # raw, not rectified


def test_andon_s_is_small() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    assert shipped_weights().stat().st_size < 12e6
    with FlopCounterMode(display=False) as counter:
        load_backbone("andon-s")(torch.zeros(1, 3, 256, 256))
    gmac = counter.get_total_flops() / 2e9
    assert gmac == pytest.approx(0.260, abs=0.001)  # the figure in student.py and the model card
    assert abs(shipped_weights().stat().st_size / 1e6 - BACKBONES["andon-s"].megabytes) < 0.1


def test_model_card_has_the_hash_of_the_shipped_file() -> None:
    card = (ROOT / "docs" / "model-cards" / "andon-s.md").read_text(encoding="utf-8")
    assert hashlib.sha256(shipped_weights().read_bytes()).hexdigest() in card


def test_andon_s_features_differ_between_places_and_images(andon_s: Backbone, images: Tensor) -> None:
    for f in andon_s(images).values():
        assert f.std((2, 3)).mean() > 0.05
        assert (f[0] - f[1]).abs().mean() > 0.05


def test_backbone_is_frozen_whatever_mode_is_asked_for(andon_s: Backbone, images: Tensor) -> None:
    before = andon_s(images)
    assert andon_s.train() is andon_s
    assert not any(module.training for module in andon_s.modules())
    assert not any(parameter.requires_grad for parameter in andon_s.parameters())
    after = andon_s(images)
    assert all(torch.equal(before[layer], after[layer]) for layer in before)
    nn.Sequential(andon_s).train()
    assert not any(module.training for module in andon_s.modules())


def test_norms_of_a_backbone_never_switch(images: Tensor) -> None:
    net = ResNetV2(("layer1",))
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    state = {key: value.clone() for key, value in net.state_dict().items()}
    net.train()(images)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_alone_is_as_in_a_batch(andon_s: Backbone, images: Tensor) -> None:
    together = andon_s(images)
    for layer, alone in andon_s(images[1:]).items():
        torch.testing.assert_close(alone, together[layer][1:], atol=1e-5, rtol=1e-5)


def test_only_what_the_layers_need_is_built(images: Tensor) -> None:
    whole, shallow = AndonS(), load_backbone("andon-s", ["stride8"])
    assert list(shallow.layers) == ["stride8"] == list(shallow(images))
    assert sum(p.numel() for p in shallow.parameters()) < sum(p.numel() for p in whole.parameters()) / 3
    assert torch.equal(shallow(images)["stride8"], load_backbone("andon-s")(images)["stride8"])


def test_layers_come_in_order_of_depth_once() -> None:
    assert list(load_backbone("andon-s", ["stride16", "stride8", "stride16"]).layers) == [
        "stride8",
        "stride16",
    ]


def test_unknown_layer_names_those_there_are() -> None:
    with pytest.raises(
        SettingsError, match=r"'andon-s' has the layers \['stride8', 'stride16'\], got \['layer2'\]"
    ):
        load_backbone("andon-s", ["layer2"])


def test_unknown_name_gives_the_closest_and_the_list() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown backbone 'resnet81'\. Did you mean 'resnet18'"
    ) as raised:
        load_backbone("resnet81")
    assert all(name in str(raised.value) for name in BACKBONES)


@pytest.mark.parametrize("info", BACKBONES.values(), ids=BACKBONES)
def test_table_is_complete(info: BackboneInfo) -> None:
    assert info.licence
    assert info.paper
    assert info.default_layers
    assert info.licence in info.describe()
    if info.url is not None:
        assert info.sha256 is not None
        assert info.url.startswith("https://")
        assert re.fullmatch(rf".*-{info.sha256}\.pth", info.url)  # the publisher's digest, in the file's name


@pytest.mark.parametrize(
    ("counts", "bottleneck", "width", "name"),
    [((2, 2), False, 64, "resnet18"), ((3, 1), True, 64, "resnet"), ((3, 1), True, 128, "wide_resnet_2")],
)
def test_resnet_folds_its_norms_exactly(
    counts: Sequence[int], bottleneck: bool, width: int, name: str, images: Tensor
) -> None:
    state = resnet_state(counts, bottleneck, width)
    net = from_state(state, ["layer1", "layer2"])
    assert net.name == name
    wanted = resnet_reference(state, images, 2, bottleneck)
    for layer, f in net(images).items():
        torch.testing.assert_close(f, wanted[layer], atol=2e-5, rtol=1e-4)
        assert f.shape[1] == net.layers[layer].channels


@pytest.mark.parametrize(
    ("counts", "bottleneck", "width", "name"),
    [
        ((2, 2, 2), False, 64, "resnet18"),
        ((3, 4, 6), True, 64, "resnet50"),
        ((3, 4, 6), True, 128, "wide_resnet50_2"),
    ],
)
def test_resnet_is_recognised_by_its_shapes(
    counts: Sequence[int], bottleneck: bool, width: int, name: str
) -> None:
    state = {
        key: value.expand(1) if value.ndim == 0 else value
        for key, value in resnet_state(counts, bottleneck, width).items()
    }
    net = from_state(state)
    assert isinstance(net, ResNet)
    assert (net.name, list(net.layers)) == (name, ["layer2", "layer3"])
    assert [info.stride for info in net.layers.values()] == [8, 16]


def test_mobilenet_folds_its_norms_exactly(images: Tensor) -> None:
    torch.manual_seed(2)
    reference = MobileNetWithNorms().train()
    reference.features(torch.randn(4, 3, 64, 64))  # norms with statistics of their own
    reference.eval()
    net = from_state(reference.state_dict(), ["block1", "block5", "block12"])
    x = (images - net.mean) / net.std
    for k, stage in enumerate(reference.features[:14]):
        x = stage(x)
        layer = f"block{k - 1}"
        if layer in net.layers:
            torch.testing.assert_close(net(images)[layer], x, atol=2e-5, rtol=1e-4)
            assert x.shape[1:] == (
                net.layers[layer].channels,
                *(s // net.layers[layer].stride for s in (64, 96)),
            )


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_file_of_weights(tmp_path: Path, images: Tensor, wrap: Callable[[State], State]) -> None:
    state = resnet_state((2,), False)
    torch.save(wrap(state), tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    wanted = resnet_reference(state, images, 1, False)["layer1"]
    for path in (tmp_path / "net.pth", str(tmp_path / "net.safetensors")):
        torch.testing.assert_close(
            load_backbone(path, ["layer1"])(images)["layer1"], wanted, atol=1e-5, rtol=1e-4
        )


def test_file_that_is_too_shallow_or_incomplete_says_so(tmp_path: Path) -> None:
    state = resnet_state((2, 2), False)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(SettingsError, match=r"has the layers \['layer1', 'layer2'\], got \['layer3'\]"):
        load_backbone(tmp_path / "net.pt", ["layer3"])
    del state["layer2.1.conv2.weight"]
    with pytest.raises(
        SettingsError, match=r"need 'layer2\.1\.conv2\.weight' and 1 others that the file lacks"
    ):
        from_state(state, ["layer2"])
    state["layer2.1.conv2.weight"] = torch.zeros(128, 64, 3, 3)
    with pytest.raises(
        SettingsError, match=r"expected 'layer2\.1\.conv2\.weight' of shape \(128, 128, 3, 3\), got"
    ):
        from_state(state, ["layer2"])


def test_file_that_is_absent_damaged_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"net\.pth does not exist; check the path"):
        load_backbone(tmp_path / "net.pth")
    for name in ("noise.pth", "noise.safetensors"):
        (tmp_path / name).write_bytes(b"not a file of weights")
        with pytest.raises(DataError, match="cannot be read as a file of weights; get it again"):
            load_backbone(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="holds a list that is not a state dict"):
        load_backbone(tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(
        SettingsError, match=r"expected the weights of one of: andon-s, ResNet .*got 1 entries"
    ):
        load_backbone(tmp_path / "a.pth")


def test_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"a": SimpleNamespace()}, tmp_path / "code.pth")
    with pytest.raises(DataError, match="cannot be read as a file of weights"):
        load_backbone(tmp_path / "code.pth")


class Plain(nn.Module):
    """A backbone that keeps the contract without being derived from ours."""

    name = "plain"
    default_layers = ("a",)

    def __init__(self) -> None:
        super().__init__()
        self.layers = {"a": LayerInfo(3, 1)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"a": images}


def test_module_that_keeps_the_contract_is_returned_as_it_is() -> None:
    module = Plain()
    assert load_backbone(module) is module
    assert load_backbone(module, ["a"]) is module
    with pytest.raises(SettingsError, match=r"'plain' gives \['a'\], got \['b'\]; choose among these"):
        load_backbone(module, ["b"])
    with pytest.raises(
        SettingsError, match="Linear is not a backbone: it lacks name, layers, default_layers"
    ):
        load_backbone(nn.Linear(2, 2))


# --- downloads: how `download` fares on bad lines is tested with it; here, what is asked of it ---


def fake_download(monkeypatch: pytest.MonkeyPatch, download: Callable[..., Path]) -> None:
    monkeypatch.setitem(sys.modules, "andon.data.fetch", SimpleNamespace(download=download))


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine for `tmp_path/published`, and the paths asked of it."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "published"))

        def log_request(self, *_: object) -> None:
            asked.append(self.path)

    (tmp_path / "published").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_published_weights_are_fetched_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Tensor, publisher: tuple[str, list[str]]
) -> None:
    address, asked = publisher
    torch.save(resnet_state((2, 2, 2), False), tmp_path / "net.pth")
    body = (tmp_path / "net.pth").read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:8]
    (tmp_path / "published" / f"r-{digest}.pth").write_bytes(body)
    info = replace(BACKBONES["resnet18"], url=f"{address}/r-{digest}.pth", sha256=digest)
    monkeypatch.setitem(BACKBONES, "resnet18", info)
    cache = tmp_path / "cache"
    first = load_backbone("resnet18", cache=cache, progress=False)
    again = load_backbone("resnet18", cache=cache, progress=False)
    assert first.name == "resnet18"
    assert asked == [f"/r-{digest}.pth"]
    assert torch.equal(first(images)["layer3"], again(images)["layer3"])
    (cache / f"r-{digest}.pth").write_bytes(b"damaged")
    with pytest.raises(DataError, match="'resnet18' needs its published weights"):
        load_backbone("resnet18", cache=cache, progress=False)


def test_without_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, dest: Path, **_: object) -> Path:
        raise DataError(f"cannot download {url}: no network. Put it at {dest}.")

    fake_download(monkeypatch, download)
    with pytest.raises(DataError) as raised:
        load_backbone("wide_resnet50_2", cache=tmp_path)
    file = "wide_resnet50_2-95faca4d.pth"
    assert str(raised.value) == (
        "backbone 'wide_resnet50_2' needs its published weights (138 MB): cannot download "
        f"https://download.pytorch.org/models/{file}: no network. Put it at {tmp_path / file}. Or pass the file "
        f'itself, backbone="path/to/{file}", or use "andon-s", which needs no download.'
    )


def test_andon_s_never_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "andon.data.fetch", None)  # importing it is an error from here on
    assert load_backbone("andon-s").name == "andon-s"


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "andon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "andon"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "andon"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_folder() == tmp_path / "andon"


# --- timm, which is not installed where the tests run: a module of its shape stands in ---


class FakeTimmNet(nn.Module):
    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__()
        rows = [("stem", 4, 2), ("s1", 6, 4), ("s2", 8, 8), ("s3", 10, 16), ("s4", 12, 32)]
        self.rows = [rows[n] for n in indices]
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        columns = [[row[c] for row in self.rows] for c in range(3)]
        self.feature_info = SimpleNamespace(
            module_name=lambda: columns[0], channels=lambda: columns[1], reduction=lambda: columns[2]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(x[:, :1], s).expand(-1, c, -1, -1) for _, c, s in self.rows]


def test_timm_backbone_is_cut_at_its_deepest_layer(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    made = []

    def create_model(
        name: str, pretrained: bool, features_only: bool, out_indices: Sequence[int] = range(5)
    ) -> nn.Module:
        assert pretrained
        assert features_only
        made.append((name, len(out_indices)))
        return FakeTimmNet(out_indices)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    net = load_backbone("timm:some_net")
    assert made == [("some_net", 5), ("some_net", 4)]
    assert (net.name, net.layers) == ("timm:some_net", {"s2": LayerInfo(8, 8), "s3": LayerInfo(10, 16)})
    features = net(images)
    assert list(features) == ["s2", "s3"]
    torch.testing.assert_close(features["s2"][:, :1], F.avg_pool2d(images[:, :1] * 2 - 1, 8))


def test_timm_absent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"the backbone 'timm:convnext' needs the package 'timm'"):
        load_backbone("timm:convnext")


# --- ONNX ---


@pytest.mark.parametrize("kind", ["andon-s", "resnet18"])
def test_onnx_answers_as_torch_does_at_any_batch(kind: str, tmp_path: Path) -> None:
    import onnxruntime

    net = (
        load_backbone("andon-s") if kind == "andon-s" else from_state(resnet_state((2, 2), False), ["layer2"])
    )
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        net,
        (torch.rand(2, 3, 64, 96),),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=["images"],
        output_names=list(net.layers),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.rand(batch, 3, 64, 96)
        found = session.run(list(net.layers), {"images": images.numpy()})
        for layer, f in zip(net.layers, found, strict=True):
            np.testing.assert_allclose(f, net(images)[layer].numpy(), atol=1e-4)


# --- the converted development weights, where they are ---


@pytest.mark.parametrize(
    ("file", "name", "layers", "theirs"),
    [
        ("resnet18_l3", "resnet18", {"layer2": LayerInfo(128, 8, True), "layer3": LayerInfo(256, 16, True)}, ("layer2", "layer3")),
        ("mobilenet_v2", "mobilenet_v2", {"block5": LayerInfo(32, 8), "block12": LayerInfo(96, 16)}, ("block5", "block12")),
        ("resnet50v2_s3", "resnet50v2", {"layer2": LayerInfo(512, 8), "layer3": LayerInfo(1024, 16)}, ("stage2", "stage3")),
    ],
)  # fmt: skip
def test_development_weights(
    file: str, name: str, layers: dict[str, LayerInfo], theirs: Sequence[str], images: Tensor
) -> None:
    if not SHARED.is_dir():
        pytest.skip("the development weights (../shared/weights) are not here")
    net = load_backbone(SHARED / f"{file}.pt")
    assert (net.name, net.layers) == (name, layers)
    spec = importlib.util.spec_from_file_location("described", SHARED / "backbones.py")
    assert spec is not None
    assert spec.loader is not None
    described = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(described)
    with torch.no_grad():
        wanted = described.build(file)((images - net.mean) / net.std)
    for layer, other in zip(layers, theirs, strict=True):
        torch.testing.assert_close(net(images)[layer], wanted[other], atol=1e-5, rtol=1e-5)


def test_weights_of_an_unknown_architecture_are_refused() -> None:
    if not SHARED.is_dir():
        pytest.skip("the development weights (../shared/weights) are not here")
    with pytest.raises(SettingsError, match="expected the weights of one of"):
        load_backbone(SHARED / "squeezenet1_1.pt")


def test_layers_of_the_table_are_those_of_the_network() -> None:
    assert BACKBONES["andon-s"].default_layers == tuple(LAYERS)
