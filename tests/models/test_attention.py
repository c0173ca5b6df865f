"""The scaled models against the textbook form: same weights, same images, same logits and
gradients."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from backbones import BUILDERS, TINY, TINY_SWIN, randomised
from comparison import assert_equal_numbers, gradients
from hypothesis import assume, given
from hypothesis import strategies as st
from timm.models.cait import Cait
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from antioversmooth.models import add_scaling, remove_scaling
from benchmarks.textbook import named, share_random_scales, textbook

METHODS = {
    "attnscale": {"attnscale": True},
    "featscale": {"featscale": True},
    "both": {"attnscale": True, "featscale": True},
}
METHOD = pytest.mark.parametrize("method", METHODS)
KIND = pytest.mark.parametrize("kind", BUILDERS)
FAMILY = pytest.mark.parametrize("kind", ["vit", "cait", "swin"])


def doubled(kind: str) -> bool:
    """Whether the released form counts FeatScale's terms twice."""
    return kind != "cait" and not kind.startswith("swin")


@KIND
@METHOD
def test_scaled_models_equal_the_textbook_form(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
):
    stock = build(kind)
    explicit = textbook(stock, **METHODS[method], doubled=doubled(kind))
    ours = add_scaling(stock, **METHODS[method])
    share_random_scales(ours, explicit)
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-5)
    ours, explicit, images = ours.double(), explicit.double(), images.double()
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-12)


@METHOD
def test_padding_of_maps_that_windows_do_not_divide_is_in_no_mean_over_the_map(method: str):
    """20 x 20 under windows of 8: FeatScale sees the map without what timm pads; AttnScale's
    windows hold it, as A."""
    stock = (
        randomised(SwinTransformer(**{**TINY_SWIN, "img_size": 40, "window_size": 8}))
        .double()
        .eval()
    )
    explicit = textbook(stock, **METHODS[method]).double()
    ours = add_scaling(stock, **METHODS[method])
    share_random_scales(ours, explicit)
    images = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-12)


HALF = {torch.bfloat16: 2e-2, torch.float16: 3e-3}
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, **HALF}


@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    channels=st.sampled_from([2, 8, 16]),
    tokens=st.integers(1, 20),
    spread=st.floats(0, 1.5),
    dtype=st.sampled_from(list(TOLERANCES)),
    method=st.sampled_from(list(METHODS)),
    options=st.fixed_dictionaries(
        {"qkv_bias": st.booleans(), "proj_bias": st.booleans(), "qk_norm": st.booleans()}
    ),
    seed=st.integers(0, 2**16),
)
def test_fused_blocks_equal_the_explicit_form_for_any_shape_type_and_scale(
    batch: int,
    heads: int,
    channels: int,
    tokens: int,
    spread: float,
    dtype: torch.dtype,
    method: str,
    options: dict[str, bool],
    seed: int,
):
    """In half precision against the explicit form of the same numbers in double: both round, one by
    one."""
    # a norm over two numbers amplifies rounding
    assume(not (options["qk_norm"] and channels == 2 and dtype in HALF))
    torch.manual_seed(seed)
    stock = nn.Sequential(Block(heads * channels, heads, **options)).eval()
    explicit, ours = (
        textbook(stock, **METHODS[method], doubled=True),
        add_scaling(stock, **METHODS[method]),
    )
    share_random_scales(ours, explicit, std=spread)
    x = torch.randn(batch, tokens, heads * channels)
    ours, x = ours.to(dtype), x.to(dtype)
    with torch.no_grad():
        for name, parameter in named(explicit).items():
            parameter.copy_(named(ours)[name])
        expected, found = explicit.double()(x.double()), ours(x)
    assert found.dtype == dtype
    size = expected.abs().max().clamp(min=1)
    assert ((found.double() - expected).abs().max() / size).item() <= TOLERANCES[dtype]


@FAMILY
@pytest.mark.parametrize(
    ("method", "attention_dropout"),
    [("attnscale", 0.0), ("featscale", 0.0), ("both", 0.0), ("attnscale", 0.2), ("both", 0.2)],
)
def test_training_with_dropout_and_drop_path_equals_the_textbook_form(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    method: str,
    attention_dropout: float,
):
    """The same random numbers fall on the same entries: before the DC part is taken, and on the
    scaled attention."""
    stock = (
        build(kind, proj_drop_rate=0.2, attn_drop_rate=attention_dropout, drop_path_rate=0.2)
        .double()
        .train()
    )
    explicit = textbook(stock, **METHODS[method], doubled=doubled(kind)).double()
    ours = add_scaling(stock, **METHODS[method])
    share_random_scales(ours, explicit)
    images = images.double()
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-12)
    assert not torch.equal(ours(images), ours(images)), "dropout is off"


@pytest.mark.parametrize("kind", ["vit", "deit_distilled", "vit_registers", "beit", "eva"])
@METHOD
@pytest.mark.parametrize("attention_dropout", [0.0, 0.2])
def test_prefix_tokens_can_stay_out_of_the_mean(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    method: str,
    attention_dropout: float,
):
    stock = build(kind, attn_drop_rate=attention_dropout)
    prefix = stock.num_prefix_tokens
    explicit = textbook(stock, **METHODS[method], doubled=True, excluded=prefix)
    ours = add_scaling(stock, **METHODS[method], class_token_in_mean=False)
    share_random_scales(ours, explicit)
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-5)


def test_paper_variant_counts_the_terms_once(build: Callable[..., nn.Module], images: Tensor):
    stock = build("vit")
    explicit = textbook(stock, featscale=True, doubled=False)
    ours = add_scaling(stock, featscale=True, variant="paper")
    share_random_scales(ours, explicit)
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-5)


@KIND
@METHOD
def test_zero_scales_leave_the_stock_output(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
):
    """Bit by bit, but for CaiT, whose talking heads are summed in another order."""
    stock = build(kind)
    expected = stock(images)
    scaled = add_scaling(copy.deepcopy(stock), **METHODS[method])(images)
    if kind == "cait":
        torch.testing.assert_close(scaled, expected, atol=2e-6, rtol=1e-5)
    else:
        assert torch.equal(scaled, expected)


@FAMILY
@METHOD
def test_every_parameter_gets_a_gradient(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
):
    """Data-parallel training waits for all of them."""
    model = add_scaling(build(kind).train(), **METHODS[method])
    model(images).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@FAMILY
@METHOD
@pytest.mark.parametrize("whole_model", [False, True])
def test_a_model_with_small_scales_runs_in_half_precision(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    method: str,
    whole_model: bool,
    dtype: torch.dtype,
):
    """In its own type, and with every result of that type."""
    model = add_scaling(build(kind), **METHODS[method])

    def run() -> Tensor:
        if whole_model:
            return copy.deepcopy(model).to(dtype)(images.to(dtype))
        with torch.autocast("cpu", dtype=dtype):
            return model(images)

    before = run()
    with torch.no_grad():
        for name, scale in model.named_parameters():
            if "lamb" in name and "lamb1" not in name:
                scale.fill_(0.003)
    after = run()
    assert before.dtype == after.dtype == dtype
    assert not torch.equal(before, after)
    torch.testing.assert_close(before, after, atol=0.2, rtol=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "kind", ["vit", "deit_distilled", "beit", "eva", "cait", "swin", "swin_v2"]
)
@pytest.mark.parametrize(
    ("method", "scale"), [("attnscale", "lamb"), ("featscale", "lamb1"), ("featscale", "lamb2")]
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_small_scales_do_not_round_away(
    build: Callable[..., nn.Module],
    kind: str,
    method: str,
    scale: str,
    dtype: torch.dtype,
    dropout: float,
):
    """Fine-tuning lives around 0.003, where bfloat16 has no number between 1 and 1.0078.

    What a scale of each kind changes behind an attention layer has, under autocast, the size that
    it has in float32, within a factor of two: the rest is the rounding of what it is added to. With
    dropout FeatScale takes another way.
    """
    model: Any = add_scaling(build(kind, proj_drop_rate=dropout).train(), **METHODS[method])
    has_windows = kind.startswith("swin")
    block = model.layers[1].blocks[1] if has_windows else model.blocks[0]
    branch, shape = (block._attn, (16, 8, 8, 16)) if has_windows else (block.attn, (64, 17, 24))
    # sharp attention: the scaled part must exceed the rounding of the sum; lamb1 scales the mean
    tokens = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(2)) + (scale == "lamb1")
    parameter = block.attn.lamb if scale == "lamb" else getattr(block, scale)

    @torch.no_grad()
    def changes(half: bool) -> Tensor:
        outputs = []
        for value in (0.0, -0.0035, -0.003, -0.0025, 0.0025, 0.003, 0.0035):
            parameter.fill_(value)
            torch.manual_seed(7)
            with torch.autocast("cpu", dtype, enabled=half):
                outputs.append(branch(tokens).double().flatten())
        return torch.cat([output - outputs[0] for output in outputs[1:]])

    expected = changes(half=False)
    assert expected.norm() > 0
    size = torch.dot(changes(half=True), expected) / expected.square().sum()
    assert 0.5 < size < 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["vit", "cait", "swin", "swin_v2"])
def test_featscale_acts_however_small_it_is(
    build: Callable[..., nn.Module], kind: str, dtype: torch.dtype
):
    """It is folded into float32 weights: of a product with features that are halves already nothing
    would be left."""
    model: Any = add_scaling(build(kind), featscale=True)
    has_windows = kind.startswith("swin")
    block = model.layers[1].blocks[1] if has_windows else model.blocks[0]
    branch, shape = (block._attn, (16, 8, 8, 16)) if has_windows else (block.attn, (64, 17, 24))
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    # a quarter of the smallest change that rounding lets through
    scale = torch.finfo(dtype).eps / 8

    @torch.no_grad()
    def changes(half: bool) -> Tensor:
        outputs = []
        for value in (0.0, scale, -scale):
            block.lamb2.fill_(value)
            with torch.autocast("cpu", dtype, enabled=half):
                outputs.append(branch(tokens).double().flatten())
        return torch.cat([output - outputs[0] for output in outputs[1:]])

    expected = changes(half=False)
    size = torch.dot(changes(half=True), expected) / expected.square().sum()
    assert 0.3 < size < 3


@pytest.mark.parametrize("method", ["attnscale", "both"])
def test_mask_aware_windows_do_not_leak_across_the_seam(
    build: Callable[..., nn.Module], method: str
):
    """A shifted window holds regions of opposite edges; what happens in one must not reach the
    others."""
    stock = build("swin")
    block = add_scaling(stock, **METHODS[method], mask_aware=True).layers[0].blocks[1]
    leaking = add_scaling(build("swin"), **METHODS[method]).layers[0].blocks[1]
    for b in (block, leaking):
        nn.init.constant_(b.attn.lamb, 0.5)
    mask = block.attn_mask
    windows = torch.randn(len(mask), mask.shape[-1], 8)
    changed = windows.clone()
    # the first token of the last window, which the mask splits into four regions
    changed[-1, 0] += 1.0
    outside = mask[-1, 0] != 0
    assert outside.any()
    for b, leaks in ((block, False), (leaking, True)):
        difference = (
            (b.attn(windows, mask=mask) - b.attn(changed, mask=mask))[-1, outside].abs().max()
        )
        assert (difference > 1e-6) == leaks


def test_mask_aware_equals_plain_where_nothing_is_masked(
    build: Callable[..., nn.Module], images: Tensor
):
    plain, aware = build("swin"), build("swin")
    add_scaling(plain, attnscale=True)
    add_scaling(aware, attnscale=True, mask_aware=True)
    share_random_scales(plain, aware)
    first = (m.layers[0].blocks[0](torch.ones(1, 16, 16, 8).cumsum(1)) for m in (plain, aware))
    torch.testing.assert_close(*first)
    assert not torch.allclose(plain(images), aware(images))


@FAMILY
@METHOD
def test_copies_and_pickles_are_independent_models(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
):
    """A moving average copies the model: its scales must be the copy's own."""
    model = add_scaling(build(kind, attn_drop_rate=0.1), **METHODS[method])
    share_random_scales(model)
    expected = model(images)
    for duplicate in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        assert torch.equal(duplicate(images), expected)
        assert duplicate.no_weight_decay() == model.no_weight_decay()
        model.load_state_dict(duplicate.state_dict())


def resized(model: nn.Module) -> Tensor:
    model.set_input_size((48, 48), **({"window_size": (4, 4)} if hasattr(model, "layers") else {}))
    return model(torch.ones(1, 3, 48, 48).cumsum(-1) / 48)


def checkpointed(model: nn.Module, images: Tensor) -> Tensor:
    model.set_grad_checkpointing(True)
    return gradients(model, images)["logits"]


def reclassified(model: nn.Module, images: Tensor) -> Tensor:
    model.reset_classifier(0)
    return model(images)


# timm warns when it resizes BEiT's tables
@pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")
@KIND
def test_the_rest_of_timm_works_as_before(
    build: Callable[..., nn.Module], images: Tensor, kind: str
):
    """Features, no classifier, recomputed blocks, and another size of images, where N is another
    one too."""
    stock = build(kind)
    explicit = textbook(stock, **METHODS["both"], doubled=doubled(kind))
    ours = add_scaling(stock, **METHODS["both"])
    share_random_scales(ours, explicit)
    ways: dict[str, Callable[[nn.Module], Tensor]] = {
        "features": lambda m: m.forward_intermediates(images, indices=1, intermediates_only=True)[
            0
        ],
        "checkpointing": lambda m: checkpointed(m, images),
        "no classifier": lambda m: reclassified(m, images),
    }
    # timm's CaiT has no set_input_size
    if kind != "cait":
        ways["another size"] = resized
    for name, way in ways.items():
        torch.testing.assert_close(
            way(ours), way(explicit), atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_caits_folded_bias_follows_the_number_of_tokens(build: Callable[..., nn.Module]):
    """- w / N: weights that were trained at one size are right at another, and fold there."""
    small, images = add_scaling(build("cait"), attnscale=True), torch.randn(2, 3, 48, 48)
    share_random_scales(small)
    stock = Cait(**{**TINY, "img_size": 48}, init_values=0.5).eval()
    explicit, large = (
        textbook(stock, attnscale=True),
        add_scaling(copy.deepcopy(stock), attnscale=True),
    )
    large.load_state_dict({**small.state_dict(), "pos_embed": large.pos_embed})
    share_random_scales(large, explicit)
    torch.testing.assert_close(large(images), explicit(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        remove_scaling(large)(images), explicit(images), atol=1e-5, rtol=1e-5
    )


@FAMILY
@METHOD
def test_models_export_whole(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
):
    """One graph without breaks, under the rules of torch.compile and of torch.export."""
    model = add_scaling(build(kind), **METHODS[method])
    share_random_scales(model)
    expected = model(images)
    exported = torch.export.export(model, (images,), strict=True).module()
    torch.testing.assert_close(exported(images), expected, atol=1e-5, rtol=1e-5)
    assert exported.state_dict().keys() >= model.state_dict().keys()


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing compiled before counts against the limit of what one function may be compiled for."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("kind", ["vit", "deit_distilled", "cait", "swin"])
@pytest.mark.parametrize(
    ("method", "attention_dropout"), [("attnscale", 0.0), ("featscale", 0.0), ("both", 0.1)]
)
def test_training_compiles_without_graph_breaks(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    method: str,
    attention_dropout: float,
):
    """With dropout and drop path on, where FeatScale takes another way than in evaluation, and
    AttnScale its explicit one where dropout falls on attention."""
    stock = build(
        kind, proj_drop_rate=0.1, attn_drop_rate=attention_dropout, drop_path_rate=0.1
    ).train()
    model = add_scaling(stock, **METHODS[method])
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    compiled(images).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.usefixtures("fresh_compiler")
@FAMILY
def test_compiled_gradients_are_the_eager_ones(
    build: Callable[..., nn.Module], images: Tensor, kind: str
):
    """Traced ahead of time, forward and backward, and with blocks that are computed again."""
    model = add_scaling(build(kind, drop_path_rate=0.1).train(), **METHODS["both"])
    share_random_scales(model)
    expected = gradients(model, images)
    model.set_grad_checkpointing(True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.manual_seed(7)
    model.zero_grad()
    logits = compiled(images)
    logits.square().sum().backward()
    found = {
        "logits": logits.detach(),
        **{n: p.grad for n, p in model.named_parameters() if p.grad is not None},
    }
    assert_equal_numbers(found, expected, 1e-5)


DROPS = {"proj_drop_rate": 0.2, "drop_path_rate": 0.1}
"""As the deep recipe of DeiT has them."""
FULL_SIZE = {
    "deit_s12": lambda: VisionTransformer(embed_dim=384, num_heads=6, depth=12, **DROPS),
    "cait_s24": lambda: Cait(embed_dim=384, num_heads=8, depth=24, init_values=0.1, **DROPS),
    "swin_s": lambda: SwinTransformer(
        embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), **DROPS
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["attnscale", "featscale"])
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_models_equal_the_textbook_form(name: str, method: str):
    """In evaluation, and in training with dropout and drop path."""
    torch.manual_seed(0)
    stock, images = FULL_SIZE[name](), torch.randn(1, 3, 224, 224)
    explicit = textbook(stock, **METHODS[method], doubled=name.startswith("deit"))
    ours = add_scaling(stock, **METHODS[method])
    share_random_scales(ours, explicit, std=0.1)
    for training in (False, True):
        found = [gradients(model.train(training), images) for model in (ours, explicit)]
        assert_equal_numbers(*found, 1e-5)
