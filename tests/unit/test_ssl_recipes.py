"""Every recipe parses, builds, and has the views that its method wants; those for CIFAR-10 make a step."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch

import torchvision_reference  # noqa: F401  # makes torchvision, which timm needs too, importable beside any torch
from ffcv.ssl import backbones, config, methods, optim

RECIPES = config.recipes()


def parse(recipe: str) -> config.Config:
    return config.parse(["--recipe", recipe, "--data.train", "X.beton"])


def test_every_method_has_its_recipes() -> None:
    """For CIFAR-10 and for ImageNet, named METHOD_DATA, and METHOD_DATA_ENCODER where the data have several."""
    assert {f"{name}_cifar10" for name in methods.names()} <= set(RECIPES)
    for encoder, backbone in (("rn50", "resnet50"), ("vits", "vit_small_patch16_224")):
        named = {f"{name}_imagenet_{encoder}" for name in methods.names()}
        assert named <= set(RECIPES)
        assert {parse(recipe).model.backbone for recipe in named} == {backbone}
    assert [r for r in RECIPES if not re.fullmatch(r"[a-z0-9]+_(cifar10|digits|imagenet)(_rn18|_rn50|_vits)?", r)] == []
    assert [r for r in RECIPES if not r.startswith(f"{parse(r).method}_")] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_builds(recipe: str) -> None:
    """Without memory: on torch's meta device, where tensors have shapes only."""
    settings = parse(recipe)
    if settings.model.backbone.startswith("vit") and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed, and only it knows this encoder")
    with torch.device("meta"):
        method = methods.load(settings.method)(backbones.build(settings.model), settings.options)
        optimizer = optim.build(method, settings.optim)
    assert sum(len(group["params"]) for group in optimizer.param_groups) > 0
    pipelines = method.views(settings.views)
    assert len(pipelines) == (1 if settings.method == "supervised" else 2 + settings.views.num_local)


def test_weights_of_vicregs_terms_are_those_of_the_authors_code() -> None:
    """25 (s + v / 2) + c, with the two views' variance and covariance terms added up."""
    found = parse("vicreg_imagenet_rn50").options
    assert (found.invariance, found.variance, found.covariance) == (25, 12.5, 1)


def test_big_batches_have_statistics_over_all_gpus() -> None:
    """As their authors have them; supervised training, LeJEPA and DINO's ViT, without batch normalisation, do not."""
    without = {f"{method}_imagenet_{encoder}" for method in ("supervised", "lejepa") for encoder in ("rn50", "vits")}
    without |= {"dino_imagenet_vits"}
    big = {r for r in RECIPES if "_imagenet_" in r}
    assert {r for r in big if parse(r).training.sync_batchnorm} == big - without


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.endswith(("_cifar10", "_digits"))])
def test_makes_a_step(recipe: str) -> None:
    settings = parse(recipe)
    torch.manual_seed(0)
    method = methods.load(settings.method)(backbones.build(settings.model), settings.options)
    c = settings.views
    sizes = [c.size] * (1 if settings.method == "supervised" else 2) + [c.local_size] * c.num_local
    method([torch.randn(4, 3, side, side) for side in sizes], torch.arange(4)).terms["loss"].backward()
    used = [p.grad for p in method.parameters() if p.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in used)
